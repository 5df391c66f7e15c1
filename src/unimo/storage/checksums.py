"""Whether a file still holds what was written: checksums at the speed of memory, remembered for as long as it stays."""

import mmap
from functools import lru_cache
from pathlib import Path

import xxhash


def checksum(path: Path) -> str:
    """The XXH3 checksum of a file, 128 bits in hex. It finds damage, not malice: whoever wants to can forge it."""
    stat = path.stat()
    return _checksum(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=4096)
def _checksum(path: Path, size: int, *_: int) -> str:
    """Of a file that is read once by this process as long as its size, time and place on the disk stay the same."""
    digest = xxhash.xxh3_128()
    if size:  # an empty file cannot be mapped
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            digest.update(mapped)
    return digest.hexdigest()
