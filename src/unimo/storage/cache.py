"""The folder of downloads that all commands share, and what identifies a file in it."""

import hashlib
import os
from pathlib import Path


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
