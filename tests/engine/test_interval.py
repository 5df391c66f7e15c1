"""A record of the log: means over the updates since the last one, whatever the processes, stops and `log_every`."""

import json
import os
import signal
from pathlib import Path

import paddle
import pytest
from launched import log
from tiny_task import NO_LABEL, OBJECTIVES, TinyData, TinyTask

from unimo.config import validate
from unimo.engine import checkpoint
from unimo.engine.interval import Interval, Sums
from unimo.engine.loop import train
from unimo.engine.settings import EngineConfig
from unimo.errors import Preempted

STEPS = 12
OPTIONS = {"engine": {"steps": STEPS, "log_every": 5, "save_every": 100, "warmup": 2}, "dropout": 0.3}


def logged(engine: dict) -> dict:
    return OPTIONS | {"engine": OPTIONS["engine"] | engine}


def update(loss: float, items: int, name: str = "mlm") -> Sums:
    return Sums(1, samples=8, seconds=0.5, total=loss / items, losses={name: loss}, items={name: items})


def test_each_objective_is_a_mean_over_the_items_of_the_updates_in_which_it_ran():
    interval = Interval()
    for stream, found in (("pair", update(6, 2)), ("text", update(10, 10)), ("pair", update(3, 1, "cmcl"))):
        interval.add(stream, found)
    record = interval.record
    assert record["losses"] == {"mlm": 16 / 12, "cmcl": 3} and record["updates"] == 3
    assert record["total"] == pytest.approx((3 + 1 + 3) / 3) and record["items_per_s"] == 24 / 1.5
    assert record["streams"]["text"]["losses"] == {"mlm": 1} and record["streams"]["text"]["updates"] == 1
    assert record["streams"]["pair"]["losses"] == {"mlm": 3, "cmcl": 3}
    assert Interval(interval.state()).record == record


@pytest.fixture(scope="module")
def runs(start, tmp_path_factory) -> dict[str, Path]:
    """The same training, logged after every update and by intervals of five."""
    folder = tmp_path_factory.mktemp("runs")
    for name, engine in (("each", {"log_every": 1}), ("five", {})):
        assert start(folder / name, logged(engine)).wait() == [0]
    return {name: folder / name for name in ("each", "five")}


def counts() -> list[dict[str, int]]:
    """Items of each update."""
    data = TinyData()
    batches = [data.next()[0] for _ in range(STEPS)]
    found = [{"words": len(b.ids), "regions": int((b.inputs["region"] != NO_LABEL).sum())} for b in batches]
    return [{name: of[name] for name in OBJECTIVES[b.stream]} for of, b in zip(found, batches)]


def test_a_record_holds_what_every_update_gave(runs):
    each, five, items = log(runs["each"]), log(runs["five"]), counts()
    assert [r["step"] for r in five] == [5, 10, 12] and [r["updates"] for r in five] == [5, 5, 2]
    for record, first, last in zip(five, (0, 5, 10), (5, 10, 12)):
        updates = list(zip(each[first:last], items[first:last]))
        for name, mean in record["losses"].items():
            ran = [(r["losses"][name], of[name]) for r, of in updates if name in of]
            assert mean == pytest.approx(sum(loss * n for loss, n in ran) / sum(n for _, n in ran))
        for key in ("total", "grad_norm", "pad_share"):
            assert record[key] == pytest.approx(sum(r[key] for r, _ in updates) / len(updates))
        assert record["lr"] == updates[-1][0]["lr"]
        assert sum(part["updates"] for part in record["streams"].values()) == record["updates"]
    assert list(five[0]["streams"]) == ["text", "pair", "image"], "each stream has its point in every interval"


def test_two_processes_log_what_one_does(runs, start, tmp_path):
    options = logged({"accumulate": 2}) | {"dropout": 0}
    assert start(tmp_path / "one", options).wait() == [0]
    assert start(tmp_path / "two", options, ranks=2).wait() == [0, 0]
    for ours, theirs in zip(log(tmp_path / "two"), log(tmp_path / "one"), strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-6)
        assert ours["streams"].keys() == theirs["streams"].keys()


class StopAfter:
    """An event that asks the run to stop, as a scheduler does; the next update ends first."""

    def __init__(self, step: int):
        self.step = step

    def on_step(self, run) -> None:
        if run.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def trained(run: Path, *events, **engine) -> Path:
    config = validate(EngineConfig, {"learning_rate": 0.01, **OPTIONS["engine"], **engine}, "test")
    paddle.seed(0)
    train(TinyTask(), TinyData(), config, run, events)
    return run


def test_a_run_stopped_after_any_update_has_the_log_of_one_that_was_not(tmp_path):
    whole = log(trained(tmp_path / "whole"))
    for step in range(2, STEPS):
        with pytest.raises(Preempted, match=f"stopped after step {step};"):
            trained(tmp_path / str(step), StopAfter(step - 1))
        assert log(trained(tmp_path / str(step))) == whole, f"stopped after {step}"


def test_a_run_killed_after_a_save_has_the_log_of_one_that_was_not(tmp_path):
    run = trained(tmp_path, save_every=1, keep_last=STEPS)
    whole = log(run)
    for step in range(1, STEPS):
        checkpoint.point(run / "checkpoints", checkpoint.LATEST, checkpoint.folder_of(run, step).name)
        assert log(trained(run, save_every=1, keep_last=STEPS)) == whole, f"killed after {step}"


def test_a_checkpoint_of_an_earlier_version_begins_an_interval(tmp_path):
    run = trained(tmp_path, save_every=3)
    folder = checkpoint.folder_of(run, 9)
    state = json.loads((folder / checkpoint.TRAINER).read_text())
    assert state.pop("interval").keys() == {"text", "pair", "image"}, "of the updates 6 to 9"
    (folder / checkpoint.TRAINER).write_text(json.dumps(state))
    (folder / checkpoint.MARKER).write_text(
        json.dumps({checkpoint.TRAINER: (folder / checkpoint.TRAINER).stat().st_size})
    )
    checkpoint.point(run / "checkpoints", checkpoint.LATEST, folder.name)
    assert [(r["step"], r["updates"]) for r in log(trained(run, save_every=3))] == [(5, 5), (10, 1), (12, 2)]


def test_other_intervals_after_a_stop_begin_at_the_last_record(tmp_path):
    with pytest.raises(Preempted):
        trained(tmp_path, StopAfter(5))
    trained(tmp_path, log_every=4)
    assert [(r["step"], r["updates"]) for r in log(tmp_path)] == [(5, 5), (8, 3), (12, 4)]


def test_two_processes_stopped_within_an_interval(start, tmp_path):
    straight, run = tmp_path / "straight", tmp_path / "run"
    assert start(straight, OPTIONS, ranks=2).wait() == [0, 0]
    job = start(run, OPTIONS | {"data": {"pause": 0.1}}, ranks=2)
    job.until(lambda: log(run))
    job.signal(signal.SIGTERM, rank=1)
    assert job.wait() == [75, 75]
    assert start(run, OPTIONS, ranks=2).wait() == [0, 0]
    assert log(run) == log(straight)
