"""What machine this is, and the switches of the process that make Paddle's CPU wheel fast, or the same everywhere."""

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def cpu_name() -> str:
    """The processor's name as Linux gives it, or the architecture where there is no /proc/cpuinfo."""
    return _cpuinfo("model name") or platform.machine()


def has_avx512() -> bool:
    """Whether Linux lists AVX-512 among the processor's instructions."""
    return "avx512f" in _cpuinfo("flags").split()


def has_bfloat16() -> bool:
    """Whether Linux lists products of bfloat16 among the processor's instructions."""
    return "avx512_bf16" in _cpuinfo("flags").split()


def _cpuinfo(key: str) -> str:
    """A value of the first processor in /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def use_fast_gemm() -> None:
    """Make the MKL inside Paddle's CPU wheel take its AVX-512 or AVX2 path on AMD processors: types 7 and 5.

    Works only before the first matrix product of the process, so every entry point calls it first. A value that the
    user has set is left alone; run_scripts/env.sh sets the same.
    """
    if "AMD" in cpu_name():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "7" if has_avx512() else "5")


def load_paddle() -> None:
    """Import Paddle without collecting garbage on the way, and keep what it made out of all later collections.

    Its modules live to the end, and walking through their objects, again and again and at the exit, took a quarter of
    the processor time of a short command. Does nothing where Paddle is loaded already.
    """
    if "paddle" in sys.modules:
        return
    gc.disable()
    try:
        import paddle  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def other_bits(then: Mapping[str, Any]) -> str | None:
    """What to say where sums round otherwise than on a machine that `describe` described; None where they do not."""
    now = describe()
    differing = [key for key in ("cpu", "threads", "MKL_DEBUG_CPU_TYPE") if key in then and then[key] != now[key]]
    shown = ", ".join(f"{key} {then[key]} then, {now[key]} now" for key in differing)
    return f"warning: the last bits will differ from those of a run without a stop: {shown}" if differing else None


def compute_in_one_thread() -> int:
    """Make Paddle compute in one thread from here on, whatever OMP_NUM_THREADS says, and return that number.

    Sums are cut among threads, so that their number decides the last digits; for what must be the same on every
    machine. It holds for the calling thread, until an inference engine of Paddle sets its own number.
    """
    import paddle  # takes seconds

    paddle.base.core.set_num_threads(1)
    return 1


def keep_freed_memory() -> None:
    """Let glibc reuse the memory of freed tensors instead of returning it to the kernel, page by page, and back.

    A training step frees and takes hundreds of tensors of some MiB. Other C libraries are left as they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # glibc's malloc.h
        libc.mallopt(mmap_max, 0)  # no mapping of its own for a large tensor
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 * 2**20)


def share_freed_memory() -> None:
    """Let threads take what other threads freed: glibc gives each its own pool, which costs a page fault a page when
    one thread makes large arrays and another drops them. Call it before threads start."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        arena_max = -8  # glibc's malloc.h
        libc.mallopt(arena_max, 1)


def describe() -> dict[str, str | int | None]:
    """Facts about the machine that belong beside every measured number."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),  # Paddle itself sets 1 when unset
        "MKL_DEBUG_CPU_TYPE": os.environ.get("MKL_DEBUG_CPU_TYPE"),
        "python": platform.python_version(),
    }
