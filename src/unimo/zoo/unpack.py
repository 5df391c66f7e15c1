"""Unpack a tar archive of somebody else: plain files and folders only, inside one folder, within limits."""

import gzip
import io
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from unimo.errors import DataError
from unimo.storage.atomic import sync_folder, temporary_folder

MAX_MEMBERS = 10_000  # UNIMO-2 large has 1,178 variables, and four more files for each with the state of its optimiser
_MAX_DEPTH = 8
_BLOCK = 1 << 20  # bytes read at once
_HEADERS = 1 << 16  # bytes between the contents of two members, or behind the last
_PLAIN_NAME = re.compile(r"[\w@+=,.~ -]{1,255}", re.ASCII)


def is_unsafe(path: str) -> bool:
    """Whether a member's path could lead out of the folder that it is unpacked into."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts


def unpack(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack a .tar.gz or .tar into `folder`, which appears when all of it is there; an earlier one is replaced.

    Nothing of a refused archive stays. Memory does not grow with the archive.

    Args:
        max_bytes: of all files together, counted while they are unpacked, so that a bomb stops there.

    Raises:
        DataError: the archive is damaged or cut short, has too many or too large members, or any that is not a plain
            file or folder with a plain path; or the disk is full.
    """
    try:
        size = archive.stat().st_size
        bar = tqdm(total=size, unit="B", unit_scale=True, desc="unpacking", delay=2)
        with temporary_folder(folder) as temporary, open(archive, "rb") as file, bar:
            stream = _Bounded(archive, file)
            for _ in _unpack(archive, stream, temporary, max_bytes):
                bar.update(file.tell() - bar.n)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
            sync_folder(folder.parent)
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {folder}: {error.strerror or error}") from error


class _Bounded(io.RawIOBase):
    """The archive unzipped and read forwards, at most `allowance` bytes further: tarfile takes headers of any size."""

    def __init__(self, archive: Path, file: io.BufferedReader):
        start = file.peek(262)
        if start[:2] != b"\x1f\x8b" and start[257:262] != b"ustar":
            raise DataError(f"{archive} is not a .tar.gz or .tar: it begins {bytes(start[:32])!r}")
        self._source = gzip.GzipFile(fileobj=file) if start[:2] == b"\x1f\x8b" else file
        self._at, self.allowance = 0, _HEADERS

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.allowance:
            raise tarfile.ReadError("headers or padding of an absurd size")
        data = self._source.read(size)
        self._at += len(data)
        self.allowance -= len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._at:
            raise tarfile.ReadError("a header points back")
        self.read(offset - self._at)
        return self._at


def _unpack(archive: Path, stream: _Bounded, folder: Path, max_bytes: int) -> Iterator[None]:
    """Write the members into `folder`, one a step."""
    left = max_bytes
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for count, member in enumerate(tar):
                path = PurePosixPath(member.name)
                problem = _problem(member, path, left)
                if count >= MAX_MEMBERS:
                    problem = f"more than {MAX_MEMBERS:,} members"
                if problem:
                    raise DataError(f"{archive} holds {problem}; nothing was unpacked")
                if member.isdir():
                    (folder / path).mkdir(parents=True, exist_ok=True)
                else:
                    stream.allowance = member.size
                    content = tar.extractfile(member)
                    assert content is not None  # of a plain file
                    _write(content, folder / path, member.size)
                    left -= member.size
                stream.allowance = _HEADERS
                yield
        while block := stream.read(min(stream.allowance, tarfile.RECORDSIZE) or 1):  # to where gzip checks its sum
            if block.strip(b"\0"):
                raise tarfile.ReadError("there is something behind its end")
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{archive} holds {member.name[:200]!r} twice; nothing was unpacked") from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DataError(f"{archive} is damaged or cut short: {error}") from error


def _problem(member: tarfile.TarInfo, path: PurePosixPath, left: int) -> str | None:
    """What forbids to unpack a member, if anything, where `left` bytes may still come."""
    name = repr(member.name[:200])
    if not (member.isdir() or member.isreg()) or member.issparse():
        kinds = {tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link", tarfile.FIFOTYPE: "fifo"}
        kinds |= {tarfile.CHRTYPE: "device", tarfile.BLKTYPE: "device"}
        kind = "sparse file" if member.issparse() else kinds.get(member.type, "member of another kind")
        return f"the {kind} {name}, where only plain files and folders are allowed"
    if is_unsafe(member.name):
        return f"the path {name}, which leads out of the folder"
    plain = all(_PLAIN_NAME.fullmatch(part) for part in path.parts) and (path.parts or member.isdir())
    if len(path.parts) > _MAX_DEPTH or not plain:
        return f"the path {name}, which is too deep, empty or has odd characters"
    if member.size < 0 or member.size > left:
        return f"{name} of {member.size:,} bytes, where {left:,} are left of what was expected"
    return None


def _write(source: IO[bytes], path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        while size:
            block = source.read(min(size, _BLOCK))
            if not block:
                raise EOFError(f"{path.name} lacks {size:,} bytes")
            file.write(block)
            size -= len(block)
