"""Our reader of LMDB files against the library that writes them, and on files that lie."""

import random
import struct
from pathlib import Path

import lmdb
import pytest

from data_prep.regions.importers.lmdb_file import LmdbFile
from unimo.errors import DataError


def write(folder: Path, count: int) -> Path:
    """A database with keys put and taken out in several transactions, and values from nothing to several pages."""
    rng = random.Random(count)
    with lmdb.open(str(folder), map_size=1 << 26) as database:
        for _ in range(3):
            with database.begin(write=True) as transaction:
                for _ in range(count):
                    size = rng.choice((0, 1, 40, 900, 2030, 5000, 20_000))
                    transaction.put(f"{rng.randrange(2 * count):07}.npz".encode(), rng.randbytes(size))
                for _ in range(count // 4):
                    transaction.delete(f"{rng.randrange(2 * count):07}.npz".encode())
    return folder / "data.mdb"


def read(file: Path) -> list[tuple[bytes, bytes]]:
    with LmdbFile(file) as database:
        return [(key, database.value(place)) for key, place in database.items()]


@pytest.mark.parametrize("count", [0, 1, 30, 1500])
def test_it_reads_what_the_library_reads(count, tmp_path):
    file = write(tmp_path / "db", count)
    with lmdb.open(str(tmp_path / "db"), readonly=True) as database, database.begin() as transaction:
        expected = list(transaction.cursor())
    assert read(file) == expected and bool(expected) == bool(count)


def test_a_page_that_says_what_cannot_be_is_one_clear_error(tmp_path):
    """Each number of each page's head and of its first nodes in turn; the library ends the process on some of them."""
    file = write(tmp_path / "db", 8)
    content, refused = file.read_bytes(), 0
    with LmdbFile(file) as database:
        page = database._page
    for start in range(2 * page, len(content), page):
        for place in (*range(start + 8, start + 24, 2), *range(start + page - 64, start + page, 8)):
            for number in (0, 1, 0x7FFF, 0xFFFF):
                struct.pack_into("<H", damaged := bytearray(content), place, number)
                file.write_bytes(damaged)
                try:
                    read(file)
                except DataError as error:
                    refused += "is damaged: its page" in str(error)
    assert refused > 20


def test_duplicates_and_named_databases_are_refused(tmp_path):
    with lmdb.open(str(tmp_path / "db"), max_dbs=2) as database:
        inner = database.open_db(b"inner", dupsort=True)
        with database.begin(write=True) as transaction:
            transaction.put(b"key", b"value", db=inner)
    with pytest.raises(DataError, match="has duplicates or a database in it, which is not read"):
        read(tmp_path / "db" / "data.mdb")
