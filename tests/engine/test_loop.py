"""What goes into and comes out of the loop: events, the log, and one clear error for everything unusable."""

import contextlib
import fcntl
import json
import os
import pty
import shutil
import struct
import termios
from pathlib import Path

import paddle
import pytest
from tiny_task import TinyData, TinyTask

from unimo.config import validate
from unimo.engine import checkpoint
from unimo.engine.events import PeriodicEvaluation, VisualDL
from unimo.engine.loop import train
from unimo.engine.settings import EngineConfig
from unimo.errors import CheckpointError, ConfigError, DataError, MissingDependencyError, NonFiniteError


def run(folder: Path, events=(), task=None, data=None, write_extras=None, **engine) -> dict:
    config = validate(EngineConfig, {"steps": 6, "learning_rate": 0.01, "log_every": 2, **engine}, "test")
    paddle.seed(0)
    return train(task or TinyTask(), data or TinyData(config.accumulate), config, folder, events, write_extras)


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_log_has_the_promised_fields(tmp_path, capsys):
    record = run(tmp_path)
    assert [r["step"] for r in log(tmp_path)] == [2, 4, 6]
    assert log(tmp_path)[-1] == record
    means = {"updates", "losses", "total", "grad_norm", "items_per_s", "pad_share", "seconds"}
    assert set(record) == means | {"step", "lr", "streams"} and record["updates"] == 2
    assert set(record["streams"]) == {"image", "pair"} and set(record["losses"]) == {"words", "regions"}
    pair = record["streams"]["pair"]
    assert set(pair) == means and pair["updates"] == 1
    assert pair["total"] == pytest.approx(pair["losses"]["words"] + 0.5 * pair["losses"]["regions"])
    assert record["pad_share"] == pytest.approx(0.25)
    assert capsys.readouterr().err.count("steps/s, ") == 3


def test_resuming_drops_what_will_be_logged_again(tmp_path):
    run(tmp_path, save_every=2)
    whole = [record["step"] for record in log(tmp_path)]
    checkpoint.point(tmp_path / "checkpoints", checkpoint.LATEST, "step_00000004")
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 7, "cut sho')  # as a kill leaves it
    run(tmp_path, save_every=2)
    assert [record["step"] for record in log(tmp_path)] == whole == [2, 4, 6]


def test_resuming_with_other_products_says_that_bits_will_differ(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "5")
    run(tmp_path, save_every=3)
    shutil.rmtree(checkpoint.folder_of(tmp_path, 6))
    capsys.readouterr()
    run(tmp_path, save_every=3)
    assert "bits" not in capsys.readouterr().err
    shutil.rmtree(checkpoint.folder_of(tmp_path, 6))
    monkeypatch.setenv("MKL_DEBUG_CPU_TYPE", "7")
    run(tmp_path, save_every=3)
    assert "bits will differ from those of a run without a stop: MKL_DEBUG_CPU_TYPE 5 then, 7 now" in (
        capsys.readouterr().err
    )


def test_resuming_keeps_what_is_whole_in_a_damaged_log(tmp_path, capsys):
    run(tmp_path, save_every=2)
    path = tmp_path / "log.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "123", "{}", '{"step": "2"}', "[" * 9000, lines[1]]) + "\n")
    checkpoint.point(tmp_path / "checkpoints", checkpoint.LATEST, "step_00000004")
    capsys.readouterr()
    run(tmp_path, save_every=2)
    assert [record["step"] for record in log(tmp_path)] == [2, 4, 6]
    said = capsys.readouterr().err
    assert [n for n in range(1, 8) if f"line {n} is no record of a step" in said] == [2, 3, 4, 5]
    assert f"resuming from step 4 ({tmp_path})" in said
    run(tmp_path, save_every=2)
    assert "already finished at step 6" in capsys.readouterr().err


def test_evaluation_is_logged_and_the_best_checkpoint_kept(tmp_path):
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.5, 0.4])
    evaluation = PeriodicEvaluation(lambda: {"recall": next(scores)}, metric="recall")
    run(tmp_path, [evaluation], eval_every=1, keep_last=1, log_every=6)
    evaluations = [r for r in log(tmp_path) if "metrics" in r]
    assert [r["metrics"]["recall"] for r in evaluations] == [0.1, 0.9, 0.3, 0.2, 0.5, 0.4]
    assert [r["step"] for r in evaluations if r["best"]] == [1, 2] and {r["metric"] for r in evaluations} == {"recall"}
    folders = sorted(folder.name for folder in (tmp_path / "checkpoints").glob("step_*"))
    assert folders == ["step_00000002", "step_00000006"]
    assert (tmp_path / "checkpoints" / "best").read_text() == "step_00000002\n"
    best = checkpoint.read_trainer_state(tmp_path / "checkpoints" / "step_00000006")["best"]
    assert best == {"step": 2, "metrics": {"recall": 0.9}}


def test_the_last_update_is_evaluated_whatever_its_number_is(tmp_path):
    """The release evaluates at its interval and at the end; the end may be the best."""
    run(tmp_path, [scored(1, 2)], eval_every=4, steps=6, best_metric="loss", save_every=50)
    assert (tmp_path / "checkpoints" / "best").read_text().strip() == "step_00000006"
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "metrics" in r] == [4, 6]


def scored(*values: float, name: str = "loss") -> PeriodicEvaluation:
    """An evaluation that measures these values, one after the other."""
    left = iter(values)
    return PeriodicEvaluation(lambda: {name: next(left), "other": 0.0}, metric="other")


def test_the_best_is_by_the_metric_and_direction_that_the_recipe_names(tmp_path):
    run(tmp_path, [scored(3, 1, 2, 1, 5, 6)], eval_every=1, best_metric="loss", best="lowest")
    assert (tmp_path / "checkpoints" / "best").read_text() == "step_00000002\n"
    assert checkpoint.find_best(tmp_path) == checkpoint.folder_of(tmp_path, 2)
    with pytest.raises(ConfigError, match="engine.best_metric is f1; the evaluation measures loss, other"):
        run(tmp_path / "wrong", [scored(1)], eval_every=1, best_metric="f1")


def test_a_run_ends_after_evaluations_without_gain_and_stays_ended(tmp_path, capsys):
    settings = {"eval_every": 1, "best_metric": "loss", "best": "lowest", "patience": 2, "steps": 20, "save_every": 50}
    run(tmp_path, [scored(3, 1, 2, 1, 0)], **settings)
    assert [r["step"] for r in log(tmp_path) if "metrics" in r] == [1, 2, 3, 4]
    assert "ending at step 4: no evaluation was better than that of step 2" in capsys.readouterr().err
    assert json.loads((tmp_path / "state.json").read_text())["status"] == "done"
    assert checkpoint.find_latest(tmp_path) == checkpoint.folder_of(tmp_path, 4)
    run(tmp_path, [scored()], **settings)
    assert checkpoint.find_latest(tmp_path) == checkpoint.folder_of(tmp_path, 4), "it is done"
    run(tmp_path, [scored(0.5, 0.4, *[1] * 9)], **settings | {"patience": 3})
    steps = [r["step"] for r in log(tmp_path) if "metrics" in r]
    assert steps == list(range(1, 10)), "with more patience it goes on where it was"


def test_a_value_that_is_no_number_is_never_the_best(tmp_path):
    settings = {"eval_every": 1, "best_metric": "loss", "best": "lowest", "patience": 3}
    run(tmp_path, [scored(float("nan"), 2, float("nan"), 1, 3, 4)], **settings)
    assert (tmp_path / "checkpoints" / "best").read_text() == "step_00000004\n"


def test_patience_survives_a_resume(tmp_path):
    settings = {"eval_every": 1, "patience": 3, "steps": 8, "save_every": 1, "best_metric": "loss"}

    class Killed(Exception):
        pass

    def evaluate() -> dict[str, float]:
        value = next(values)
        if value is None:
            raise Killed
        return {"loss": value}

    values = iter([5.0, 4.0, 3.0, None])
    with pytest.raises(Killed):
        run(tmp_path, [PeriodicEvaluation(evaluate, "loss")], **settings)
    values = iter([2.0, 9.0])
    run(tmp_path, [PeriodicEvaluation(evaluate, "loss")], **settings)
    assert [r["step"] for r in log(tmp_path) if "metrics" in r] == [1, 2, 3, 4]


def test_epochs_must_be_turned_into_updates_first(tmp_path):
    with pytest.raises(ConfigError, match="engine.epochs=2 must be turned into updates"):
        run(tmp_path, steps=None, epochs=2)


def test_a_short_run_says_what_it_means_for_the_rate(tmp_path, capsys):
    run(tmp_path, warmup=0.06)
    assert "warning: warmup 0.06 of 6 updates is less than one" in capsys.readouterr().err


def test_batches_made_ahead_change_nothing(tmp_path):
    for threads in (0, 1, 3):
        run(tmp_path / str(threads), reader_threads=threads, save_every=3)
    files = [checkpoint.folder_of(tmp_path / str(n), 6) / checkpoint.MODEL for n in (0, 1, 3)]
    assert len({file.read_bytes() for file in files}) == 1
    states = [checkpoint.read_trainer_state(checkpoint.folder_of(tmp_path / str(n), 3))["data"] for n in (0, 1, 3)]
    assert states == [{"step": 3}] * 3


def test_a_checkpoint_of_an_earlier_version_is_resumed(tmp_path):
    """Its identity lacks the keys of settings that had their defaults then, and its recalls are fractions of 1."""
    run(tmp_path, save_every=3)
    shutil.rmtree(checkpoint.folder_of(tmp_path, 6))
    folder = checkpoint.folder_of(tmp_path, 3)
    state = json.loads((folder / checkpoint.TRAINER).read_text())
    for key in ("groups", "epochs", "best", "patience", "reader_threads"):
        del state["identity"][key]
    del state["stale"]
    state["best"] = {"step": 3, "metrics": {"recall": 0.25}}
    (folder / checkpoint.TRAINER).write_text(json.dumps(state))
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != checkpoint.MARKER}
    (folder / checkpoint.MARKER).write_text(json.dumps(sizes))  # as it was before checksums
    run(tmp_path, [PeriodicEvaluation(lambda: {"recall": 24.0}, "recall")], save_every=3, eval_every=6)
    found = checkpoint.read_trainer_state(checkpoint.folder_of(tmp_path, 6))
    assert found["best"] == {"step": 3, "metrics": {"recall": 25.0}} and found["stale"] == 1
    with pytest.raises(CheckpointError, match="groups: "):
        run(tmp_path, groups=[{"match": ""}])


def test_evaluating_changes_no_weight(tmp_path):
    """Not even if it leaves the task in evaluation mode and draws random numbers."""
    paddle.seed(0)
    task = TinyTask(dropout=0.3)

    def evaluate() -> dict[str, float]:
        task.eval()
        return {"recall": paddle.rand([1]).item()}

    run(tmp_path / "with", [PeriodicEvaluation(evaluate, "recall")], task=task, eval_every=2)
    paddle.seed(0)
    run(tmp_path / "without", task=TinyTask(dropout=0.3))
    ours, theirs = (checkpoint.folder_of(tmp_path / name, 6) / checkpoint.MODEL for name in ("with", "without"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_visualdl_gets_every_number(tmp_path):
    pytest.importorskip("visualdl", reason="pip install -e .[report]")
    from visualdl import LogReader

    run(tmp_path, [VisualDL()])
    (file,) = (tmp_path / "visualdl").iterdir()
    reader = LogReader(file_path=str(file))
    assert {"total", "lr", "losses/words", "losses/regions"} <= set(reader.get_tags()["scalar"])
    assert [(r.id, r.value) for r in reader.get_data("scalar", "lr")] == [
        (r["step"], pytest.approx(r["lr"])) for r in log(tmp_path)
    ]


def test_without_visualdl_the_message_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "visualdl", None)  # an import of it now fails
    with pytest.raises(MissingDependencyError, match=r"pip install -e .\[report\]"):
        run(tmp_path, [VisualDL()])


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # rows and columns; new ones have none
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        run(tmp_path)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side is closed and all is read
        while chunk := os.read(master, 4096):
            shown += chunk
    os.close(master)
    assert b"6/6" in shown and b"step/s" in shown


def test_extra_files_are_part_of_the_checkpoint(tmp_path):
    run(tmp_path, write_extras=lambda folder: (folder / "config.json").write_text("{}"))
    folder = checkpoint.find_latest(tmp_path)
    assert (folder / "config.json").read_text() == "{}"
    (folder / "config.json").unlink()
    assert checkpoint.torn(folder).startswith("config.json is missing")


def test_the_rate_of_an_update_is_the_schedules(tmp_path):
    run(tmp_path, log_every=1, warmup=2)
    assert [r["lr"] for r in log(tmp_path)] == pytest.approx([0, 0.005, *(0.01 * (1 - t / 6) for t in (2, 3, 4, 5))])


class Outside(TinyTask):
    def __init__(self):
        super().__init__()
        self.temperature = self.create_parameter([1])


class Unweighted(TinyTask):
    def __init__(self):
        super().__init__()
        self.weights = {"regions": 1.0}


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (ConfigError, "amp is bfloat16 but this process computes on cpu", {"amp": "bfloat16"}),
        (ConfigError, "parameters outside of task.model .*temperature", {"task": Outside}),
        (ConfigError, r"objectives \['words'\] of stream text lack a weight or a count", {"task": Unweighted}),
        (DataError, "the data gave 1 micro-batches, accumulate is 2", {"accumulate": 2, "data": TinyData}),
        (NonFiniteError, "step 1, stream text: loss words is nan; there is no", {"data": lambda: TinyData(poison=0)}),
    ],
)
def test_one_clear_error(tmp_path, error, words, arguments):
    made = {name: value() if callable(value) else value for name, value in arguments.items()}
    with pytest.raises(error, match=words):
        run(tmp_path / "run", **made)
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["exit_code"] == error.exit_code and state["status"] in ("failed", "non_finite")
    assert checkpoint.find_latest(tmp_path / "run") is None


def test_a_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make or write to the folder .*Not a directory"):
        run(tmp_path / "file" / "run")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, save_every=3, steps=6)
    task = TinyTask()
    task.model.words = paddle.nn.Linear(16, 7)
    with pytest.raises(CheckpointError, match=r"shape of words.weight: \[16, 5\], the model has \[16, 7\]"):
        run(tmp_path, task=task)


class Gone:
    """A terminal or a pipe whose reader has ended."""

    def __init__(self, terminal: bool):
        self.isatty = lambda: terminal

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        self.write("")


@pytest.mark.parametrize("terminal", [False, True])
def test_printing_never_stops_training(tmp_path, monkeypatch, terminal):
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", Gone(terminal))
        run(tmp_path / "gone", log_every=1)
    run(tmp_path / "whole", log_every=1)
    gone, whole = (checkpoint.find_latest(tmp_path / name) for name in ("gone", "whole"))
    assert (gone / checkpoint.MODEL).read_bytes() == (whole / checkpoint.MODEL).read_bytes()
    assert json.loads((tmp_path / "gone" / "state.json").read_text())["status"] == "done"


def test_whatever_ends_a_run_its_folder_does_not_say_that_it_goes_on(tmp_path):
    class Dies:
        def on_step(self, run) -> None:
            raise MemoryError("no room")

    with pytest.raises(MemoryError):
        run(tmp_path, [Dies()])
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["status"], state["exit_code"], state["pid"]) == ("failed", None, os.getpid())


def test_two_runs_do_not_share_a_folder(tmp_path):
    class Second:
        def on_step(self, first) -> None:
            if first.step == 2:
                with pytest.raises(ConfigError, match=f"another process \\(pid {os.getpid()} on .*\\) works in"):
                    run(tmp_path)

    run(tmp_path, [Second()])
    run(tmp_path)  # whose lock a run that ended has left


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    class Explodes:
        def on_step(self, run) -> None:
            if run.step == 4:
                task.model.embed.weight.set_value(task.model.embed.weight * float("inf"))

    task = TinyTask()
    with pytest.raises(NonFiniteError, match=r"embed.weight is not finite \([\d,]+ of 128 values"):
        run(tmp_path, [Explodes()], task=task, save_every=2)
    assert checkpoint.find_latest(tmp_path) == checkpoint.folder_of(tmp_path, 2)
    assert json.loads((tmp_path / "state.json").read_text())["status"] == "non_finite"


def test_a_run_whose_checkpoints_are_all_torn_does_not_start_over(tmp_path):
    run(tmp_path, save_every=3)
    for folder in (tmp_path / "checkpoints").glob("step_*"):
        os.truncate(folder / checkpoint.MODEL, 100)
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="no checkpoint of .* is whole .*step_00000006: model.safetensors is 100"):
        run(tmp_path, save_every=3)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    shutil.rmtree(tmp_path / "checkpoints")
    run(tmp_path, save_every=3)
