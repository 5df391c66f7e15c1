"""One process at a time in a folder or at a file, by locks of the operating system: a crash or a kill releases them,
and a copy of a folder is not locked. Where a file system knows no locks, nothing is held and nothing is refused."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from unimo.errors import ConfigError, DataError

_UNKNOWN = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of file systems without locks


def lock(descriptor: int, wait: bool = False) -> bool:
    """Lock an open file or folder until it is closed; False where another process has it and `wait` is not set."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    return True


def still(path: Path, descriptor: int) -> bool:
    """Whether what is open has this name: who had it before may have moved or removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder by the file .lock in it, which says who does and goes with the end; a missing folder is made.

    Raises:
        ConfigError: another process holds it, or the operating system refused.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            file = open(path, "a+")
            if not lock(file.fileno()):
                file.seek(0)
                who = file.read().strip() or "unknown"
                raise ConfigError(f"another process ({who}) works in {folder}; wait for its end or name another folder")
            if still(path, file.fileno()):
                break
            file.close()  # who had it before has removed it meanwhile
    except OSError as error:
        raise ConfigError(f"cannot make or write to the folder {folder}: {error.strerror}") from error
    with file:
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {gethostname()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def check_free(folder: Path) -> None:
    """Before long work: raise the ConfigError that `alone` would raise after it. Nothing is made."""
    check_writable(folder)
    if held(folder):
        raise ConfigError(f"another process works in {folder}; wait for its end or name another folder")


def check_writable(folder: Path) -> None:
    """Before long work: raise a ConfigError if a folder cannot be made or written to. Nothing is made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        reason = "may not be written to" if there.is_dir() else "is no folder"
        raise ConfigError(f"cannot make or write to the folder {folder}: {there} {reason}; name another folder")


def held(folder: Path) -> bool:
    """Whether a process holds a folder by `alone`."""
    try:
        with open(folder / ".lock") as file:
            return not lock(file.fileno())
    except OSError:
        return False


@contextmanager
def locked(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file `path` of a cache; waits, with a word, while another process has it.

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
        if not lock(file.fileno()):
            log(f"another process holds {path}; waiting for it")
            lock(file.fileno(), wait=True)
        yield
