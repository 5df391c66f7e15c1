"""Files and folders that are either the old version or the whole new one, whatever happens while they are written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from unimo.errors import CheckpointError, DataError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file in the folder of `path` for writing bytes; on success it is synced and takes the name.

    After an error, or a kill, `path` is untouched. A temporary file that a kill left is overwritten by the next try.

    Raises:
        DataError: the operating system refused (disk full, read-only, missing folder).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:  # an interruption too: nothing may be left behind, and it goes on to the caller
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; nothing was changed") from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Hand out a temporary folder of files that, filled without an error, is synced and takes the name.

    Raises:
        CheckpointError: `folder` exists and is not empty, or the operating system refused.
    """
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(f"{folder} exists already; name a new folder")
        shutil.rmtree(temporary, ignore_errors=True)  # a kill left it
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut: a rename is an entry of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
