"""What the benchmark programs share: two workers in alternating processes, the machine's facts, the verdict.

A worker is a command that prints one JSON object as its last line: name -> number. It may belong to another Python
environment, so that a peer is measured with its own packages. Import from a program in this folder.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from unimo.config import ROOT
from unimo.hardware import cpu_name, describe, has_avx512

ROUNDS = 5
Command = Sequence[str | Path]
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Target:
    """A claim that the program checks: `value` must be at least (or at most) `bound`."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'ok    ' if self.met else 'MISSED'}  {self.what}: {self.value:.3g} (target {sign} {self.bound:g})"


def alternate(workers: dict[str, Command], threads: int = 1, rounds: int = ROUNDS) -> dict[str, Figures]:
    """Run the workers in turn, each in a fresh process, `rounds` times; worker -> name -> one number a round.

    Alternating makes a slow minute of the machine fall on all workers alike.
    """
    env = os.environ | {k: str(threads) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    env["PYTHONWARNINGS"] = "ignore"  # Paddle warns at import that it found no ccache
    figures: dict[str, Figures] = {name: {} for name in workers}
    for number in range(1, rounds + 1):
        for name, command in workers.items():
            done = subprocess.run([str(c) for c in command], env=env, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"worker {name!r} ended with code {done.returncode}: {' '.join(map(str, command))}")
            result = json.loads(done.stdout.splitlines()[-1])
            for key, value in result.items():
                figures[name].setdefault(key, []).append(value)
            print(f"round {number}/{rounds}  {name:12s} " + "  ".join(f"{k} {v:.4g}" for k, v in result.items()))
            sys.stdout.flush()
    return figures


def earlier_tree(commit: str, folder: Path) -> Path:
    """What the repository held at a commit, written into a folder, from which a worker may run it."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def ratio(figures: dict[str, Figures], key: str, ours: str, peer: str) -> float:
    """Median of ours over median of the peer's."""
    return median(figures[ours][key]) / median(figures[peer][key])


def wide_amd() -> bool:
    """Whether this is an AMD processor with AVX-512, where MKL takes its kernels on demand only: targets are higher."""
    return "AMD" in cpu_name() and has_avx512()


def print_machine(threads: int, versions: dict[str, str]) -> None:
    """The header under which figures can be compared: processor, threads, MKL switch, package versions."""
    facts = describe() | {"threads": threads} | versions
    print("  ".join(f"{k} {v}" for k, v in facts.items()), flush=True)


def verdict(targets: Sequence[Target]) -> int:
    """Print each target and what the program took; the exit code is 0 when all are met, else 1."""
    for target in targets:
        print(target)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"CPU minutes of all of this: {sum(u.ru_utime + u.ru_stime for u in used) / 60:.1f}")
    return 0 if all(t.met for t in targets) else 1
