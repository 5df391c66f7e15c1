"""Archives of somebody else: good ones unpack, hostile and damaged ones leave nothing anywhere."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unimo.errors import DataError
from unimo.zoo.unpack import MAX_MEMBERS, unpack

LIMIT = 1 << 20


def member(name: str, content: bytes = b"abc", **attributes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tar_bytes(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


FOLDER = member("model", b"", type=tarfile.DIRTYPE)
GOOD = tar_bytes(FOLDER, member("model/image_emb.w_0", b"x" * 5000), member("model/@LR_DECAY_COUNTER@", b""))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "model.tar.gz"


def refused(archive: Path, packed: bytes, match: str) -> None:
    """`packed` is refused, and neither it nor the attempt leaves a file anywhere; an earlier folder stays."""
    archive.write_bytes(packed)
    folder = archive.parent / "out"
    folder.mkdir(exist_ok=True)
    (folder / "kept").write_text("earlier")
    before = sorted(archive.parents[1].rglob("*"))
    with pytest.raises(DataError, match=match):
        unpack(archive, folder, LIMIT)
    assert sorted(archive.parents[1].rglob("*")) == before and (folder / "kept").read_text() == "earlier"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gz", "tar"])
def test_good_archives_unpack(archive, form, pack):
    long = "model/" + "a" * 90 + "_moment1_0"
    packed = tar_bytes(member("./model/word_embedding", b"w" * 70_000), member(long, b"m" * 513), FOLDER, form=form)
    archive.write_bytes(pack(packed))
    unpack(archive, archive.parent / "out", LIMIT)
    files = {str(p.relative_to(archive.parent / "out")): p.read_bytes() for p in archive.parent.rglob("out/model/*")}
    assert files == {"model/word_embedding": b"w" * 70_000, long: b"m" * 513}
    assert sorted(p.name for p in archive.parent.iterdir()) == ["model.tar.gz", "out"]


def test_an_earlier_folder_is_replaced(archive):
    archive.write_bytes(gzip.compress(GOOD))
    (archive.parent / "out").mkdir()
    (archive.parent / "out" / "stale").touch()
    unpack(archive, archive.parent / "out", LIMIT)
    assert [p.name for p in (archive.parent / "out").iterdir()] == ["model"]


HOSTILE = {
    "absolute": ([member("/tmp/unimo_was_here")], "leads out"),
    "parent": ([member("model/../../unimo_was_here")], "leads out"),
    "symlink": (
        [member("out", b"", type=tarfile.SYMTYPE, linkname="/tmp"), member("out/x")],
        "the symbolic link 'out'",
    ),
    "inner symlink": ([member("a", b"", type=tarfile.SYMTYPE, linkname="b")], "the symbolic link"),
    "hard link": ([member("a", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")], "the hard link 'a'"),
    "device": ([member("a", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5)], "the device 'a'"),
    "block device": ([member("a", b"", type=tarfile.BLKTYPE)], "the device 'a'"),
    "fifo": ([member("a", b"", type=tarfile.FIFOTYPE)], "the fifo 'a'"),
    "unknown kind": ([member("a", b"", type=b"Z")], "another kind"),
    "line feed": ([member("a\nb")], "odd characters"),
    "escape": ([member("a\x1b[2Jb")], "odd characters"),
    "backslash": ([member("..\\a")], "odd characters"),
    "too deep": ([member("a/" * 9 + "b")], "too deep"),
    "no name": ([member(".")], "the path '.', which is .* empty"),
    "too long": ([member("a" * 300)], "odd characters"),
    "twice": ([member("a"), member("./a")], "'./a' twice"),
    "file as folder": ([member("a"), member("a/b")], "'a/b' twice"),
    "folder as file": ([member("a/b"), member("a")], "'a' twice"),
    "folder over file": ([member("a"), member("a", b"", type=tarfile.DIRTYPE)], "'a' twice"),
    "too large": ([member("a", b"x" * (LIMIT - 3)), member("b", b"x")], "'b' of 1 bytes, where 0 are left"),
    "too many": ([FOLDER] * MAX_MEMBERS, "more than 10,000 members"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members_are_refused(archive, case):
    members, match = HOSTILE[case]
    refused(archive, gzip.compress(tar_bytes(member("first"), *members)), match)


def test_sparse_files_are_refused(archive):
    hole = archive.parent / "hole"
    with open(hole, "wb") as file:
        file.truncate(1 << 19)
    for form in (["--format=gnu"], ["--format=pax", "--sparse-version=1.0"], ["--format=pax", "--sparse-version=0.0"]):
        subprocess.run(["tar", "-czSf", archive, *form, "-C", archive.parent, "hole"], check=True)
        refused(archive, archive.read_bytes(), "the sparse file 'hole'")


def test_a_member_whose_name_is_a_bomb_is_refused(archive):
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        refused(archive, gzip.compress(tar_bytes(member("a" * 300_000), form=form)), "absurd size")
    attributes = member("a", pax_headers={f"k{i}": "v" * 1000 for i in range(100)})
    refused(archive, gzip.compress(tar_bytes(attributes, form=tarfile.PAX_FORMAT)), "absurd size")


@pytest.mark.parametrize("shown", [b"<!DOCTYPE html><html>", b"", b"PK\3\4", b"\x1f\x8b", b"\x1f\x8b\x08\0garbage"])
def test_what_is_no_archive_is_refused(archive, shown):
    refused(archive, shown, "is not a .tar.gz|damaged or cut short")


@pytest.mark.parametrize("cut", [1, 9, 100, 200])
def test_a_truncated_archive_is_refused(archive, cut):
    noise = member("noise", os.urandom(4000))
    refused(archive, gzip.compress(tar_bytes(noise))[:-cut], "damaged or cut short")


def test_every_flipped_byte_is_noticed_or_without_effect(archive):
    packed, out = gzip.compress(GOOD), archive.parent / "out"
    silent = 0
    for at in range(len(packed)):
        archive.write_bytes(packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :])
        try:
            unpack(archive, out, LIMIT)
        except DataError:
            continue
        silent += 1
        assert (out / "model" / "image_emb.w_0").read_bytes() == b"x" * 5000
    assert silent < 10  # gzip's time stamp and file system, bits behind the end of the compressed stream


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6))
def test_damaged_headers_unpack_or_give_an_error_of_ours(archive, changes):
    packed = bytearray(GOOD)
    for at, value in changes:
        packed[at : at + len(value)] = value
    archive.write_bytes(gzip.compress(bytes(packed), 1))
    try:
        unpack(archive, archive.parent / "out", LIMIT)
    except DataError:
        pass
    assert {p.name for p in archive.parent.iterdir()} <= {"model.tar.gz", "out"}


def test_a_size_below_zero_is_refused(archive):
    packed = bytearray(tar_bytes(member("a"), member("b")))
    packed[124:136] = b"\xff" * 11 + b"\x00"  # base 256: -256
    packed[148:156] = b"%06o\0 " % (sum(packed[:148]) + 8 * 32 + sum(packed[156:512]))
    refused(archive, gzip.compress(bytes(packed)), "bytes, where|points back|damaged")


MEASURED = """
import resource, sys, time, pathlib
from unimo.zoo.unpack import unpack
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
archive = pathlib.Path(sys.argv[1])
try:
    unpack(archive, archive.with_name("out"), int(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - started)
"""


@pytest.mark.parametrize(("size", "limit"), [(1 << 30, 1 << 29), (0, 1 << 29), (1 << 26, 1 << 29)])
def test_bombs_stop_early_and_memory_is_bounded(archive, size, limit):
    """1 GiB of zeros in 1 MB: as a member larger than expected, behind the end, and 64 MiB of it as expected."""
    zeros = gzip.compress(b"\0" * (1 << 24), 9)
    info = tarfile.TarInfo("word_embedding")
    info.size = size
    archive.write_bytes(gzip.compress(info.tobuf()) + zeros * (4 if size == 1 << 26 else 64))
    done = subprocess.run([sys.executable, "-c", MEASURED, archive, str(limit)], capture_output=True, text=True)
    *said, measured = done.stdout.splitlines()
    kib, seconds = map(float, measured.split())
    assert kib < 30_000 and seconds < 10, done
    if size == 1 << 26:
        assert not said and (archive.parent / "out" / "word_embedding").stat().st_size == size
    else:
        assert said[0].startswith("DataError") and [p.name for p in archive.parent.iterdir()] == [archive.name]


def test_a_disk_that_takes_no_more_is_an_error_of_ours_and_leaves_nothing(archive):
    archive.write_bytes(gzip.compress(tar_bytes(member("small"), member("large", b"x" * 50_000))))
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    done = subprocess.run([sys.executable, "-c", limited + MEASURED, archive, "99999"], capture_output=True, text=True)
    assert done.stdout.startswith("DataError cannot unpack") and "File too large" in done.stdout, done
    assert [p.name for p in archive.parent.iterdir()] == [archive.name]
