"""The folder of downloads that all commands share, what identifies a file in it, and one process at a time."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unimo.errors import DataError


def cache_folder(cache: Path | None = None) -> Path:
    """Where downloads are kept: `cache`, else the environment's UNIMO_CACHE, else ~/.cache/unimo."""
    return (cache or Path(os.environ.get("UNIMO_CACHE") or Path.home() / ".cache" / "unimo")).resolve()


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


@contextmanager
def locked(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path`; waits, with a word, while another process has it. A kill releases it.

    Raises:
        DataError: the folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")
    except OSError as error:
        raise DataError(
            f"cannot keep downloads in {path.parent}: {error.strerror}; set UNIMO_CACHE to another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process holds {path}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
