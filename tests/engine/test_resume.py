"""Stopped in any way and started again, a run ends with the same bits: weights, moments and log."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from launched import files, log, state

from unimo.engine import checkpoint

STEPS = 12
OPTIONS = {"engine": {"steps": STEPS, "accumulate": 2, "log_every": 1, "save_every": 4}, "dropout": 0.3}
SLOW = OPTIONS | {"data": {"pause": 0.05}}


def final(run: Path) -> dict[str, bytes]:
    folder = checkpoint.folder_of(run, STEPS)
    assert checkpoint.find_latest(run) == folder
    found = files(folder)
    assert found.keys() == {checkpoint.MODEL, checkpoint.OPTIMIZER}
    return found


def until_step(job, step: int) -> None:
    job.until(lambda: f"step {step}/{STEPS} " in job.log())


def assert_same(run: Path, straight: Path) -> None:
    assert final(run) == final(straight)
    assert log(run) == log(straight)
    assert [record["step"] for record in log(run)] == list(range(1, STEPS + 1))


@pytest.fixture(scope="module")
def straight(start, tmp_path_factory) -> Callable[[int], Path]:
    """straight(ranks): a run of so many processes that nothing stopped."""
    runs: dict[int, Path] = {}

    def run(ranks: int) -> Path:
        if ranks not in runs:
            runs[ranks] = tmp_path_factory.mktemp("straight") / "run"
            assert start(runs[ranks], OPTIONS, ranks).wait() == [0] * ranks
        return runs[ranks]

    return run


def test_sigterm_at_several_steps(start, straight, tmp_path):
    run = tmp_path / "run"
    for step in (2, 5, 8):
        job = start(run, SLOW)
        until_step(job, step)
        for _ in range(3):  # the launcher repeats it too
            job.signal(signal.SIGTERM)
        assert job.wait() == [75]
        assert state(run)["status"] == "preempted"
        assert checkpoint.find_latest(run) == checkpoint.folder_of(run, log(run)[-1]["step"])
    assert start(run, OPTIONS).wait() == [0]
    assert state(run)["status"] == "done"
    assert_same(run, straight(1))
    before = (run / "log.jsonl").read_bytes()
    assert start(run, OPTIONS).wait() == [0], "a run that is done stays as it is"
    assert (run / "log.jsonl").read_bytes() == before


def test_sigkill_between_saves_twice_in_an_epoch(start, straight, tmp_path):
    run = tmp_path / "run"
    for step in (6, 7):  # with a save at 4: the second resume starts where the first did
        job = start(run, SLOW)
        until_step(job, step)
        job.signal(signal.SIGKILL)
        assert job.wait() == [-signal.SIGKILL]
        assert checkpoint.find_latest(run) == checkpoint.folder_of(run, 4)
    assert start(run, OPTIONS).wait() == [0]
    assert_same(run, straight(1))


def test_sigkill_at_every_stage_of_a_save(start, straight, tmp_path):
    """With a save after each step, killed as soon as the next save has come to a stage: file by file, then renamed."""
    run, options = tmp_path / "run", SLOW | {"engine": SLOW["engine"] | {"save_every": 1}}  # slow: to be seen in time
    checkpoints, interrupted = run / "checkpoints", 0
    files = ("", checkpoint.MODEL, checkpoint.OPTIMIZER, checkpoint.TRAINER, checkpoint.MARKER)
    for stage in ["step_*", *(f".step_*.tmp/{name}" for name in files), "step_*"]:
        before = set(checkpoints.glob("step_*")) | set(checkpoints.glob(".step_*.tmp/*"))
        job = start(run, options)
        job.until(lambda: set(checkpoints.glob(stage)) - before)  # noqa: B023 - called within this turn
        job.signal(signal.SIGKILL)
        assert job.wait() == [-signal.SIGKILL]
        interrupted += any(checkpoints.glob(".step_*.tmp"))
        found = checkpoint.find_latest(run)
        assert found is not None and checkpoint.torn(found) is None
    assert interrupted >= 2, "no kill came during a save"
    assert start(run, options).wait() == [0]
    assert_same(run, straight(1))
    assert not list(checkpoints.glob(".*.tmp"))


def test_two_processes_stop_together_and_survive_a_kill(start, straight, tmp_path):
    """SIGTERM to one process only: both finish the same step. Then one is killed: the other ends too."""
    run = tmp_path / "run"
    job = start(run, SLOW, ranks=2)
    until_step(job, 2)
    job.signal(signal.SIGTERM, rank=1)
    assert job.wait() == [75, 75]
    stopped_at = log(run)[-1]["step"]
    assert checkpoint.find_latest(run) == checkpoint.folder_of(run, stopped_at)

    job = start(run, SLOW, ranks=2)
    until_step(job, stopped_at + 2)
    job.signal(signal.SIGKILL, rank=1)
    ended, killed = job.wait()
    assert killed == -signal.SIGKILL
    if ended == -signal.SIGABRT:  # gloo ends the process itself where the connection breaks while nobody waits for it
        assert "gloo::IoException" in job.log()
    else:
        assert ended == 1 and "error: rank 0 of 2 failed at: " in job.log()

    assert start(run, OPTIONS, ranks=2).wait() == [0, 0]
    assert_same(run, straight(2))


def test_a_checkpoint_of_another_run_is_refused_with_all_differences(start, straight):
    run = straight(1)
    other = OPTIONS | {"engine": OPTIONS["engine"] | {"learning_rate": 0.02, "seed": 7, "keep_last": 9}}
    job = start(run, other)
    assert job.wait() == [2]
    assert "belongs to another run" in job.log()
    assert "- seed: 1 in the checkpoint, 7 now" in job.log()
    assert "- learning_rate: 0.01 in the checkpoint, 0.02 now" in job.log()
    assert "keep_last" not in job.log()
    job = start(run, OPTIONS, ranks=2)
    assert job.wait() == [2, 2]
    assert all("- world_size: 1 in the checkpoint, 2 now" in job.log(rank) for rank in (0, 1))
    job = start(run, OPTIONS | {"data": {"fingerprint": "tiny-2"}})
    assert job.wait() == [2]
    assert "- data_fingerprint: 'tiny-1' in the checkpoint, 'tiny-2' now" in job.log()
