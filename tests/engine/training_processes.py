"""Real training processes for the tests, forked from a server that has imported paddle once.

Not in conftest.py: a child finds what it runs by its module's name, and several modules are called conftest.
"""

import importlib
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")


class Job:
    """One process per rank, started with what `paddle.distributed.launch` puts into the environment."""

    def __init__(self, output: Path, ranks: int, options: list[dict[str, Any]]):
        self.logs = [output.with_name(f"{output.name}.{time.monotonic_ns()}.rank{rank}.log") for rank in range(ranks)]
        ports = [_free_port() for _ in range(ranks)]
        context = multiprocessing.get_context("forkserver")
        self.processes = []
        for rank in range(ranks):
            environment = {} if ranks == 1 else _rank_environment(rank, ports)
            self.processes.append(
                context.Process(target=_child, args=(environment, self.logs[rank], output, options[rank]), daemon=True)
            )
        for process in self.processes:
            process.start()

    def log(self, rank: int = 0) -> str:
        """What a process printed."""
        return self.logs[rank].read_text() if self.logs[rank].exists() else ""

    def until(self, condition: Callable[[], object], timeout: float = 60) -> None:
        """Wait for a condition that comes true while the processes run."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end and self.processes[0].is_alive(), self.log()

    def signal(self, number: int, rank: int = 0) -> None:
        os.kill(self.processes[rank].pid, number)

    def wait(self, timeout: float = 60) -> list[int]:
        """Exit codes by rank; a process that a signal killed has minus its number."""
        for process in self.processes:
            process.join(timeout)
        codes = [process.exitcode for process in self.processes]
        assert None not in codes, f"still running after {timeout} s: {self.log()}"
        return codes


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _rank_environment(rank: int, ports: list[int]) -> dict[str, str]:
    return {
        "PADDLE_MASTER": f"127.0.0.1:{ports[0]}",
        "PADDLE_TRAINER_ID": str(rank),
        "PADDLE_TRAINERS_NUM": str(len(ports)),
        "PADDLE_TRAINER_ENDPOINTS": ",".join(f"127.0.0.1:{port}" for port in ports),
        "PADDLE_CURRENT_ENDPOINT": f"127.0.0.1:{ports[rank]}",
        "PADDLE_DISTRI_BACKEND": "gloo",
    }


def _child(environment: dict[str, str], log: Path, output: Path, options: dict[str, Any]) -> None:
    os.environ.update(environment)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(importlib.import_module(options.get("program", "tiny_task")).run(output, options))
