"""Python environments of other libraries, so that one can be run beside ours without touching ours.

Each is a virtual environment of its own, made when it is first asked for and kept under `$UNIMO_CACHE/environments`
(by default ~/.cache/unimo), in a folder named after the hash of its requirements.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from unimo.storage.atomic import atomic_write

TRANSFORMERS = ("torch==2.13.0", "transformers==5.23.0", "numpy==2.2.6")
TIMM = (  # torchvision's wheel asks for a torch with CUDA that a ViT does not need
    (
        "torch==2.13.0",
        "numpy==2.2.6",
        "pillow==12.0.0",
        "pyyaml==6.0.3",
        "safetensors==0.8.0",
        "huggingface-hub==2.4.0",
    ),
    ("torchvision==0.28.0", "timm==1.0.31"),
)
FRCNN = (  # torchvision's suppression and pooling need the torch that they were built for; 5.5 GB with CUDA
    "torch==2.14.1",
    "torchvision==0.29.1",
    "transformers==5.23.0",
    "numpy==2.4.6",
    "opencv-python-headless==5.0.0.93",
    "pyyaml==6.0.4",
    "pillow==13.0.0",
    "requests==2.34.2",
    "wget==3.2",
)


def folder_of(requirements: Sequence[str], bare: Sequence[str] = ()) -> Path:
    """Where the environment of these requirements and of this Python lies, made or not."""
    text = "\n".join([sys.version, *requirements, "without dependencies:", *bare])
    root = Path(os.environ.get("UNIMO_CACHE", Path.home() / ".cache" / "unimo")).absolute()
    return root / "environments" / hashlib.sha256(text.encode()).hexdigest()[:16]


def environment(requirements: Sequence[str], bare: Sequence[str] = ()) -> Path:
    """Python of a cached environment that holds these pinned requirements, and `bare` ones without what they need.

    Of processes that ask at the same time, one makes it and the others wait. A making that was interrupted starts anew.
    """
    folder = folder_of(requirements, bare)
    python, made = folder / "bin" / "python", folder / "requirements.txt"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            print(f"making {folder} with {', '.join([*requirements, *bare])}", file=sys.stderr, flush=True)
            venv.create(folder, clear=True, with_pip=True)
            install = [python, "-m", "pip", "install", "--quiet"]
            subprocess.run([*install, *requirements], check=True)
            if bare:
                subprocess.run([*install, "--no-deps", *bare], check=True)
            with atomic_write(made) as file:  # last: without it, the folder is not taken for a whole environment
                file.write("\n".join([*requirements, *bare]).encode())
    return python


def run_program(python: Path, program: str | Path, *arguments: str | Path, threads: int = 2) -> None:
    """Run a program in an environment; our own packages are not visible to it, and it asks no model hub for anything.

    Raises:
        CalledProcessError: it ended with an error, which it has printed.
    """
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    env |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    subprocess.run([str(python), str(program), *map(str, arguments)], env=env, check=True)
