"""Foreign files as memory maps: bytes are looked at where they lie, and every length is checked against the file."""

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from unimo.errors import CheckpointError

MAX_RANK = 32
Order = Literal["C", "F"]  # of an array's values: rows first, or columns
_DAMAGE = (ValueError, RuntimeError, OSError, EOFError, struct.error, zipfile.BadZipFile, zlib.error, RecursionError)
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip entry: signature, what is known already, sizes of name and extra
_MOST_UNPACKED = 16  # times the size of a zip file and 1 MiB more: weights shrink to no less than half by packing


@contextmanager
def damage(path: Path, expected: str) -> Iterator[None]:
    """Turn what readers raise for a damaged file into a CheckpointError that says what the file should have been."""
    try:
        yield
    except _DAMAGE as error:
        raise CheckpointError(f"{path}: expected {expected}, got: {error}") from error


def map_file(path: Path) -> memoryview:
    """The bytes of a file, read-only, read from disk only where they are looked at.

    Raises:
        CheckpointError: no such file, not a regular file, empty, or not readable.
    """
    try:
        if not path.is_file():
            found = "is not a regular file" if path.exists() else "does not exist"
            raise CheckpointError(f"{path} {found}; expected a file of weights")
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise CheckpointError(f"{path} is empty; copy or download it again")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def checked_sizes(sizes: object) -> tuple[int, ...]:
    """A shape, offset or stride list that a file states, once it is a short sequence of whole numbers >= 0.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(sizes, Sequence) or len(sizes) > MAX_RANK:
        raise ValueError(f"a shape that is no sequence of at most {MAX_RANK} sizes")
    if any(type(size) is not int or not 0 <= size < 2**63 for size in sizes):
        raise ValueError("a shape with other sizes than whole numbers >= 0")
    return tuple(sizes)


def array_in(data: memoryview, dtype: np.dtype, shape: tuple[int, ...], order: Order = "C") -> np.ndarray:
    """`data` as an array, without a copy.

    Raises:
        ValueError: it has not exactly the size of such an array.
    """
    expected = math.prod(shape) * dtype.itemsize  # Python integers: no overflow
    if len(data) != expected:
        raise ValueError(f"{len(data)} bytes, but {dtype.name} {list(shape)} takes {expected}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def zip_entries(path: Path, data: memoryview) -> dict[str, zipfile.ZipInfo]:
    """Entries of the zip file `data` by name; inside `damage`.

    Raises:
        ValueError, zipfile.BadZipFile: damaged, encrypted, a name twice, or a bomb.
    """
    with zipfile.ZipFile(path) as file:
        infos = file.infolist()
    entries = {info.filename: info for info in infos}
    if len(entries) < len(infos):
        raise ValueError("a zip file that holds two entries of the same name")
    if any(info.flag_bits & 1 for info in infos):
        raise ValueError("an encrypted zip file")
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in infos):
        raise ValueError("a zip file packed in another way than deflate; others unpack without a bound on memory")
    total, most = sum(info.file_size for info in infos), _MOST_UNPACKED * len(data) + 2**20
    if total > most:
        raise ValueError(f"a zip file of {len(data)} bytes that unpacks to {total}, more than the {most} allowed")
    return entries


def stored_entry(data: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """The bytes of an entry of the zip file `data` that is not compressed, where they lie; inside `damage`.

    Raises:
        ValueError, struct.error: it is compressed or damaged.
    """
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise ValueError(f"a compressed entry {info.filename!r}, where weights are stored as they are")
    signature, name, extra = _LOCAL_HEADER.unpack_from(data, max(info.header_offset, 0))
    start = info.header_offset + _LOCAL_HEADER.size + name + extra
    if signature != b"PK\3\4" or info.header_offset < 0 or start + info.file_size > len(data):
        raise ValueError(f"an entry {info.filename!r} that does not lie inside the file")
    return data[start : start + info.file_size]
