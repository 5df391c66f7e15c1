"""Where a number comes from: command, code version, packages, machine. Written into every metrics.json."""

import importlib.metadata
import shlex
import subprocess
import sys
import time
from typing import Any

from unimo.config import ROOT
from unimo.hardware import describe

PACKAGES = ("unimo-paddle", "paddlepaddle", "paddlepaddle-gpu", "numpy", "safetensors", "tokenizers")


def provenance() -> dict[str, Any]:
    """Facts of this process. Outside a git checkout `commit` and `dirty` (uncommitted changes) are None."""
    import paddle

    changes = _git("status", "--porcelain", "--untracked-files=no")
    device = paddle.device.get_device()
    return {
        "command": shlex.join(["unimo", *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "versions": versions(),
        "hardware": {**describe(), "device": device if device == "cpu" else paddle.device.cuda.get_device_name()},
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, of those that are installed."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
