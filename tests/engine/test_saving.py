"""Checkpoints are written while training goes on: what is in them, and what becomes of one that is in the making."""

import json
import signal
import time
from pathlib import Path
from threading import Event

import numpy as np
import paddle
import pytest
from launched import files, log, state
from test_loop import run
from test_resume import STEPS, assert_same, until_step
from tiny_task import TinyData, TinyTask

from unimo.engine import checkpoint
from unimo.engine.distributed import GIVES_UP
from unimo.engine.events import PeriodicEvaluation
from unimo.errors import CheckpointError, NonFiniteError

OPTIONS = {"engine": {"steps": STEPS, "log_every": 1, "save_every": 4}, "dropout": 0.3, "data": {"pause": 0.05}}
SLOW = OPTIONS | {"save_seconds": 0.3}  # about five updates


class Held:
    """Keeps the files of every checkpoint back until the update of `until`; notes the weights of each update, and after
    which the events were told of a save."""

    def __init__(self, task: TinyTask, until: int):
        self.task, self.until, self.release = task, until, Event()
        self.weights: dict[int, dict[str, np.ndarray]] = {}
        self.told: list[int] = []

    def write_extras(self, folder: Path) -> None:
        assert self.release.wait(60)

    def on_step(self, run) -> None:
        self.weights[run.step] = checkpoint.copied(self.task.model.state_dict())
        if run.step == self.until:
            self.release.set()

    def on_save(self, run) -> None:
        self.told.append(run.step)


def test_updates_go_on_and_do_not_reach_the_checkpoint_in_the_making(tmp_path):
    settings = {"steps": 8, "save_every": 4, "keep_last": 9}
    run(tmp_path / "straight", **settings)
    paddle.seed(0)
    task = TinyTask()
    held = Held(task, until=6)
    run(tmp_path / "held", [held], task=task, write_extras=held.write_extras, **settings)
    assert held.told[0] > 6 and held.told[1:] == [8]
    for step in (4, 8):
        folder = checkpoint.folder_of(tmp_path / "held", step)
        assert files(folder) == files(checkpoint.folder_of(tmp_path / "straight", step))
        model = TinyTask().model
        checkpoint.load_model(folder, model)
        for name, tensor in model.state_dict().items():
            np.testing.assert_array_equal(tensor.numpy(), held.weights[step][name], err_msg=f"{step} {name}")


def test_the_next_checkpoint_waits_for_the_one_in_the_making(tmp_path):
    order = []

    def write_extras(folder: Path) -> None:
        order.append(f"begin {folder.name[-8:-4]}")
        time.sleep(0.2)
        order.append(f"end {folder.name[-8:-4]}")

    run(tmp_path, write_extras=write_extras, steps=4, save_every=1)
    assert order == [f"{word} {step:04d}" for step in range(1, 5) for word in ("begin", "end")]


def test_the_best_is_named_when_it_is_there(tmp_path):
    task = TinyTask()
    held = Held(task, until=4)
    evaluation = PeriodicEvaluation(lambda: {"recall": 1.0}, metric="recall")
    named = []

    class Look:
        def on_step(self, run) -> None:
            named.append((tmp_path / "checkpoints" / "best").exists())

    settings = {"eval_every": 2, "save_every": 99, "steps": 8}
    run(tmp_path, [held, evaluation, Look()], task, TinyData(pause=0.05), held.write_extras, **settings)
    assert named[:4] == [False] * 4 and named[7]
    assert checkpoint.find_best(tmp_path) == checkpoint.folder_of(tmp_path, 2)


def test_a_failed_write_ends_the_run_with_its_error(tmp_path):
    def no_space(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="cannot save .*step_00000002: No space left on device"):
        run(tmp_path, data=TinyData(pause=0.05), write_extras=no_space, save_every=2, steps=40)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) < 10, "it is found soon, not with the next save"
    assert json.loads((tmp_path / "state.json").read_text())["status"] == "failed"
    assert not list((tmp_path / "checkpoints").iterdir())


def test_an_error_of_training_waits_for_the_checkpoint_in_the_making(tmp_path):
    with pytest.raises(NonFiniteError, match="step 4.*the last checkpoint is of step 3"):
        run(tmp_path, data=TinyData(poison=3), write_extras=lambda folder: time.sleep(0.5), save_every=3)
    assert checkpoint.find_latest(tmp_path) == checkpoint.folder_of(tmp_path, 3)

    class Fails:
        def on_step(self, run) -> None:
            if run.step == 5:
                raise RuntimeError("an event of somebody's")

    with pytest.raises(RuntimeError, match="somebody"):
        run(tmp_path, [Fails()], write_extras=lambda folder: time.sleep(0.5), save_every=4)
    assert checkpoint.find_latest(tmp_path) == checkpoint.folder_of(tmp_path, 4)


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_while_a_checkpoint_is_written_and_updates_go_on(start, tmp_path, ranks):
    """The checkpoint is lost, the one before is taken, and the run ends with the bits of one that nothing killed."""
    assert start(tmp_path / "straight", OPTIONS, ranks).wait() == [0] * ranks
    run_dir = tmp_path / "run"
    for step, found in ((6, None), (10, 4)):
        job = start(run_dir, SLOW, ranks)
        until_step(job, step)
        assert list((run_dir / "checkpoints").glob(".step_*.tmp/*.safetensors")), "no checkpoint is in the making"
        job.signal(signal.SIGKILL)
        job.wait()
        assert checkpoint.find_latest(run_dir) == (found and checkpoint.folder_of(run_dir, found))
    assert start(run_dir, OPTIONS, ranks).wait() == [0] * ranks
    assert_same(run_dir, tmp_path / "straight")


def test_stopped_while_a_checkpoint_is_written(start, tmp_path):
    job = start(tmp_path / "run", SLOW, ranks=2)
    until_step(job, 5)
    job.signal(signal.SIGTERM, rank=1)
    assert job.wait() == [75, 75]
    stopped = log(tmp_path / "run")[-1]["step"]
    for step in {4, stopped}:
        assert checkpoint.torn(checkpoint.folder_of(tmp_path / "run", step)) is None
    assert state(tmp_path / "run")["status"] == "preempted"


def test_a_slow_write_is_waited_for_before_an_error_of_training(start, tmp_path):
    """Longer than a process may wait for the others in a step."""
    options = OPTIONS | {"save_seconds": GIVES_UP + 3, "data": {"poison": 4}}
    job = start(tmp_path / "run", options, ranks=2)
    assert job.wait() == [76, 76], job.log()
    assert all("step 5, " in job.log(rank) and "the last checkpoint is of step 4" in job.log(rank) for rank in (0, 1))


def test_a_failure_is_raised_on_every_rank(start, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("a file where a folder should be")
    job = start(tmp_path / "run", OPTIONS, ranks=2)
    assert job.wait() == [2, 2]
    assert all("error: cannot save " in job.log(rank) for rank in (0, 1))
