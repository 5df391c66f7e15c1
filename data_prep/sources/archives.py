"""Members of .deb, .rcc and .whl archives, read as streams: nothing is unpacked to disk, so no path can escape."""

import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from unimo.errors import DataError
from unimo.zoo.unpack import is_unsafe

MAX_MEMBER = 128 << 20  # bytes of one member, ours: the largest that the stages read is 70 MB


def deb_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """(path without leading ./, content) of the wanted regular files of a Debian package, in archive order.

    Raises:
        DataError: dpkg-deb is missing, the archive is damaged, or a wanted member is oversized or has an unsafe path.
    """
    try:
        unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise DataError(f"reading {archive} needs dpkg-deb, which is not on this machine") from None
    assert unpack.stdout is not None  # a pipe, as asked
    with unpack:  # a reader that stops early closes the pipe, which ends dpkg-deb
        try:
            with tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
                for member in tar:
                    path = member.name.removeprefix("./")
                    if member.isreg() and wanted(path):
                        _check(archive, path, member.size)
                        content = tar.extractfile(member)
                        assert content is not None  # of a plain file
                        yield path, content.read()
            while unpack.stdout.read(1 << 20):  # padding after the end of the tar stream
                pass
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"{archive} is damaged ({error}); delete it and run again") from error
    if unpack.returncode:
        raise DataError(f"{archive} is damaged (dpkg-deb: exit status {unpack.returncode}); delete it and run again")


def wheel_member(archive: Path, path: str) -> bytes:
    """Content of one file of a wheel. Raises DataError where it is missing, damaged or oversized."""
    for _, content in wheel_members(archive, path.__eq__):
        return content
    raise DataError(f"{archive} has no member {path}: this version is laid out differently")


def wheel_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the wanted files of a wheel, in archive order.

    Raises:
        DataError: the archive is damaged, or a wanted member is oversized or has an unsafe path.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if not info.is_dir() and wanted(info.filename):
                    _check(archive, info.filename, info.file_size)
                    yield info.filename, wheel.read(info)
    except (zipfile.BadZipFile, OSError, zlib.error) as error:
        raise DataError(f"{archive} is damaged ({error}); delete it and run again") from error


def _check(archive: Path, path: str, size: int) -> None:
    if is_unsafe(path):
        raise DataError(f"{archive} holds a file with the unsafe path {path!r}; nothing was read from it")
    if size > MAX_MEMBER:
        raise DataError(f"{archive}: member {path} claims {size:,} bytes, more than {MAX_MEMBER:,}; not read")


_DIRECTORY, _ZLIB, _ZSTD = 2, 1, 4  # flags of a tree entry; Qt's qresource.cpp


def rcc_members(blob: bytes, name: str) -> dict[str, bytes]:
    """Path -> content of a Qt binary resource file; layout as in Qt's qresource.cpp, big-endian throughout.

    Raises:
        DataError: not such a file, cut short, or compressed with zstd.
    """
    if blob[:4] != b"qres":
        raise DataError(f"{name} is not a Qt resource file: it starts with {blob[:4]!r}, expected b'qres'")
    try:
        version, tree, data, names = struct.unpack_from(">4I", blob, 4)
        members: dict[str, bytes] = {}
        _walk(blob, (tree, 14 if version < 2 else 22, data, names), 0, PurePosixPath(), members)
    except (struct.error, zlib.error, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{name} is damaged: {error}") from error
    return members


def _walk(blob: bytes, layout: tuple[int, int, int, int], index: int, parent: PurePosixPath, out: dict) -> None:
    """Add the entry `index` of the tree, or all that is below it, to `out`. Entry 0 is the nameless root."""
    tree, entry_size, data, names = layout
    entry = tree + index * entry_size
    name_offset, flags = struct.unpack_from(">IH", blob, entry)
    path = parent
    if index:
        (length,) = struct.unpack_from(">H", blob, names + name_offset)
        start = names + name_offset + 6  # length (2 bytes) and hash (4) come first, then UTF-16
        path = parent / blob[start : start + 2 * length].decode("utf-16-be")
    if flags & _DIRECTORY:
        count, first = struct.unpack_from(">II", blob, entry + 6)
        if first <= index:
            raise ValueError(f"directory {path} points back to entry {first}")
        for child in range(first, first + count):
            _walk(blob, layout, child, path, out)
        return
    if flags & _ZSTD:
        raise ValueError(f"{path} is compressed with zstd")
    (offset,) = struct.unpack_from(">I", blob, entry + 10)  # after country and language
    (size,) = struct.unpack_from(">I", blob, data + offset)
    content = blob[data + offset + 4 : data + offset + 4 + size]
    if flags & _ZLIB:  # four bytes of the unpacked size, then the stream
        content = zlib.decompressobj().decompress(content[4:], MAX_MEMBER)
    out[str(path)] = content
