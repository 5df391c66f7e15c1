"""Files and folders that are either the old version or the whole new one, whatever happens while they are written.

What is unfinished lies beside its place as .NAME.tmp, locked by who writes it, so that two that write one name do not
mix; what a kill left is not locked, and the next try takes it over.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from unimo.errors import CheckpointError, DataError
from unimo.storage.locks import lock, still


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file in the folder of `path` for writing bytes; on success it is synced and takes the name.

    After an error, or a kill, `path` is untouched. Of several that write it at once, the last to end has it. Where
    `path` is a link, what it points to is written.

    Raises:
        DataError: the operating system refused (disk full, read-only, missing folder).
    """
    path = Path(os.path.realpath(path))
    try:
        with _temporary_file(path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        sync_folder(path.parent)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error


@contextmanager
def _temporary_file(path: Path) -> Iterator[BinaryIO]:
    """An empty locked file: .NAME.tmp, or where another process writes that, one of a name of its own. What still has
    its name at the end is removed."""
    for name in (f".{path.name}.tmp", f".{path.name}.{secrets.token_hex(4)}.tmp"):
        temporary = path.with_name(name)
        with open(temporary, "r+b", opener=lambda name, flags: os.open(name, flags | os.O_CREAT, 0o666)) as file:
            if not (lock(file.fileno()) and still(temporary, file.fileno())):
                continue
            file.truncate(0)
            try:
                yield file
            finally:
                if still(temporary, file.fileno()):
                    temporary.unlink()
            return


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Hand out an empty locked folder beside `folder`; what still has its name at the end is removed.

    Raises:
        OSError: the operating system refused, or another process writes `folder`.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        if not (lock(descriptor) and still(temporary, descriptor)):
            raise BlockingIOError("another process is writing it; wait for its end or name another folder")
        for left in temporary.iterdir():  # by a kill
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        try:
            yield temporary
        finally:
            if still(temporary, descriptor):
                shutil.rmtree(temporary, ignore_errors=True)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Hand out a temporary folder of files that, filled without an error, is synced and takes the name.

    Raises:
        CheckpointError: `folder` exists and is not empty, or the operating system refused.
    """
    folder = folder.resolve()
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(f"{folder} exists already; name a new folder")
        with temporary_folder(folder) as temporary:
            yield temporary
            for path in temporary.iterdir():
                sync(path)
            os.replace(temporary, folder)
            sync_folder(folder.parent)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Make the content of a file survive a power cut."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut: a rename is an entry of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
