"""The contract of a task: a teacher, a contrast over ranks, buffers, inner gradients, objectives of its own."""

import random
import re
import signal
from pathlib import Path

import numpy as np
import paddle
import pytest
from launched import log
from safetensors.numpy import load_file
from teacher_task import EvenData, TeacherTask

from unimo.config import validate
from unimo.engine import checkpoint
from unimo.engine.distributed import World
from unimo.engine.loop import train
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import CheckpointError, ConfigError

FILES = (checkpoint.MODEL, checkpoint.KEPT, checkpoint.OPTIMIZER)
KILLS = 20


def options(steps: int = 6, task: dict | None = None, pause: float = 0.0, **engine) -> dict:
    engine = {"steps": steps, "log_every": 1, "warmup": 2} | engine
    return {"program": "teacher_task", "engine": engine, "task": task or {}, "data": {"pause": pause}}


def reached(run: Path) -> int:
    """The step of the last record."""
    records = log(run)
    return records[-1]["step"] if records else 0


def config(**engine) -> EngineConfig:
    return validate(EngineConfig, {"steps": 3, "learning_rate": 0.01, **engine}, "test")


@pytest.fixture(scope="module")
def one_process(start, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("one") / "run"
    assert start(run, options(accumulate=2, task={"batch_norm": False})).wait() == [0]
    return run


@pytest.mark.parametrize("sharding", [0, 1])
def test_two_processes_equal_one_in_value_and_gradient(start, one_process, tmp_path, sharding):
    """The contrast sees all rows of both, under accumulation, and so do the inner gradient and `before_update`."""
    two = options(accumulate=2, task={"batch_norm": False}, sharding=sharding)
    assert start(tmp_path / "run", two, ranks=2).wait() == [0, 0]
    for ours, theirs in zip(log(tmp_path / "run"), log(one_process), strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-6)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-6)
    for file in FILES:
        ours, theirs = (load_file(checkpoint.folder_of(r, 6) / file) for r in (tmp_path / "run", one_process))
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"seen", "teacher.seen"}:  # that counts the rows of one rank
            assert abs(ours[name] - theirs[name]).max() < 1e-6, name


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_twenty_times_it_ends_with_the_same_bits(start, tmp_path, ranks):
    """At random steps, saves included: weights, moments, teacher, batch-norm statistics, counters, log."""
    steps, rng = 60, random.Random(ranks)
    made = {"accumulate": 2, "save_every": 2, "task": {"dropout": 0.3}}
    assert start(tmp_path / "straight", options(steps, **made), ranks).wait() == [0] * ranks
    run, slow = tmp_path / "run", options(steps, pause=0.01, **made)
    for number in range(KILLS):
        wanted = min(reached(run) + rng.randint(1, 4), steps - KILLS + number)
        job = start(run, slow, ranks)
        job.until(lambda: f"step {wanted}/{steps} " in job.log())  # noqa: B023 - called within this turn
        for rank in rng.sample(range(ranks), ranks):  # one first; the launcher ends the others
            job.signal(signal.SIGKILL, rank)
        assert job.wait() == [-signal.SIGKILL] * ranks
    assert start(run, options(steps, **made), ranks).wait() == [0] * ranks
    folders = [checkpoint.folder_of(r, steps) for r in (run, tmp_path / "straight")]
    for file in FILES:
        assert folders[0].joinpath(file).read_bytes() == folders[1].joinpath(file).read_bytes(), file
    assert log(run) == log(tmp_path / "straight")
    model, kept = (load_file(folders[0] / file) for file in (checkpoint.MODEL, checkpoint.KEPT))
    assert {name.removeprefix("teacher.") for name in kept} == model.keys() and "statistics._mean" in model
    moved = [name for name in model if not np.array_equal(model[name], kept[f"teacher.{name}"])]
    assert "embed.weight" in moved and "statistics._mean" in moved


def test_buffers_become_equal_over_ranks(start, tmp_path):
    """Statistics are averaged; a counter, which has no mean, is rank 0's; what training leaves is the same on both."""
    job = start(tmp_path / "joined", options() | {"join": True}, ranks=2)
    assert job.wait() == [0, 0]
    for rank in (0, 1):
        assert "mean 0.5 counter 7 rows 0 lowest -3.4028234663852886e+38" in job.log(rank)
    job = start(tmp_path / "trained", options(), ranks=2)
    assert job.wait() == [0, 0]
    digests = [re.findall("buffers [0-9a-f]+", job.log(rank)) for rank in (0, 1)]
    assert len(digests[0]) == 1 and digests[0] == digests[1]


def test_the_teacher_stays_out_of_the_model_folder(tmp_path):
    task = TeacherTask()
    train(task, EvenData(), config(), tmp_path)
    folder = checkpoint.find_latest(tmp_path)
    assert set(load_file(folder / checkpoint.MODEL)) == set(task.model.state_dict())
    assert set(load_file(folder / checkpoint.KEPT)) == {f"teacher.{name}" for name in task.teacher.state_dict()}


class Counting(TeacherTask):
    """A buffer of the task itself, which belongs to neither model nor teacher."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre_of_all", paddle.zeros([4]))


class Halved(TeacherTask):
    def __init__(self):
        super().__init__()
        self.teacher.register_buffer("queue", paddle.zeros([4], dtype="bfloat16"))


class Omitting(TeacherTask):
    def forward(self, batch):
        return {"contrast": super().forward(batch)["contrast"]}


class Plain(TeacherTask):
    """The same with nothing kept: its teacher is the student."""

    def __init__(self):
        super().__init__()
        self.teacher = self.model

    def kept(self):
        return {}

    def after_update(self, step: int) -> None:
        pass


def test_a_checkpoint_of_a_task_that_keeps_something_else_is_refused(tmp_path):
    train(TeacherTask(), EvenData(), config(), tmp_path / "kept")
    with pytest.raises(CheckpointError, match="holds task.safetensors, but this task keeps nothing besides its model"):
        train(Plain(), EvenData(), config(steps=3), tmp_path / "kept")
    train(Plain(), EvenData(), config(), tmp_path / "plain")
    with pytest.raises(CheckpointError, match="task.safetensors"):
        train(TeacherTask(), EvenData(), config(), tmp_path / "plain")


class Learning(TeacherTask):
    def __init__(self):
        super().__init__()
        self.teacher.project.weight.stop_gradient = False


class Shared(Plain):
    def kept(self):
        return {"teacher": self.model}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Learning, r"kept parameters take no gradient; set stop_gradient of \['teacher.project.weight'\]"),
        (Shared, r"parameters of task.model are kept besides, .*teacher.embed.weight"),
        (Counting, r"outside of task.model would be neither trained nor saved: \['centre_of_all'\]"),
        (Halved, r"of another type: \['teacher.queue \(paddle.bfloat16\)'\]"),
        (Omitting, r"objectives \['centred'\] of stream rows have items but no loss"),
    ],
)
def test_a_task_that_would_lose_something_is_refused(tmp_path, task, words):
    with pytest.raises(ConfigError, match=words):
        train(task(), EvenData(), config(), tmp_path)


def test_after_update_counts_updates_and_sees_their_weights(tmp_path):
    seen = []

    class Watching(TeacherTask):
        def after_update(self, step: int) -> None:
            super().after_update(step)
            seen.append((step, self.model.embed.weight.numpy().copy()))

    task = Watching()
    train(task, EvenData(), config(warmup=0), tmp_path)
    assert [step for step, _ in seen] == [1, 2, 3]
    assert not np.array_equal(seen[0][1], seen[1][1])
    assert np.array_equal(seen[-1][1], task.model.embed.weight.numpy())


def test_a_kept_layer_stays_in_the_mode_that_the_task_chose(tmp_path):
    seen = []

    class Quiet(TeacherTask):
        def __init__(self):
            super().__init__()
            self.teacher.eval()

        def after_update(self, step: int) -> None:
            seen.append((self.model.training, self.teacher.training, self.teacher.statistics.training))

    task = Quiet()
    train(task, EvenData(), config(), tmp_path)
    assert seen == [(True, False, False)] * 3


def test_alone_all_rows_are_the_rows_themselves():
    x = paddle.ones([2, 3])
    assert World().all_rows(x) is x and Task().world.size == 1


def test_uneven_rows_are_an_error_on_every_rank(start, tmp_path):
    job = start(tmp_path / "run", [options(2), options(2) | {"data": {"drop": 1}}], ranks=2)
    assert job.wait() == [2, 2]
    for rank in (0, 1):
        assert "all_rows needs as many rows on each rank, got [4, 3]" in job.log(rank)
