"""The fixture that starts training processes."""

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from training_processes import Job


@pytest.fixture(scope="session")
def start() -> Iterator[Callable[..., Job]]:
    """start(output, options, ranks=1): a tiny training run; options may be one dict, or one a rank."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["paddle", "unimo.engine.loop", "tiny_task"])
    jobs = []

    def start_job(output: Path, options: dict[str, Any] | list[dict[str, Any]], ranks: int = 1) -> Job:
        jobs.append(Job(output, ranks, options if isinstance(options, list) else [options] * ranks))
        return jobs[-1]

    yield start_job
    for process in (process for job in jobs for process in job.processes):
        if process.is_alive():
            process.kill()
