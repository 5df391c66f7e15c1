"""What goes into and comes out of the loop: events, the log, and one clear error for everything unusable."""

import contextlib
import fcntl
import json
import os
import pty
import struct
import termios
from pathlib import Path

import paddle
import pytest
from tiny_task import TinyData, TinyTask

from unimo.config import validate
from unimo.engine import checkpoint
from unimo.engine.events import Evaluation, VisualDL
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
    assert set(record) == {
        "step", "stream", "losses", "total", "lr", "grad_norm", "items_per_s", "pad_share", "seconds"
    }  # fmt: skip
    assert record["stream"] == "pair" and set(record["losses"]) == {"words", "regions"}
    assert record["total"] == pytest.approx(record["losses"]["words"] + 0.5 * record["losses"]["regions"])
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


def test_evaluation_is_logged_and_the_best_checkpoint_kept(tmp_path):
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.5, 0.4])
    evaluation = Evaluation(lambda: {"recall": next(scores)}, metric="recall")
    run(tmp_path, [evaluation], eval_every=1, keep_last=1, log_every=6)
    assert [r["metrics"]["recall"] for r in log(tmp_path) if "metrics" in r] == [0.1, 0.9, 0.3, 0.2, 0.5, 0.4]
    folders = sorted(folder.name for folder in (tmp_path / "checkpoints").glob("step_*"))
    assert folders == ["step_00000002", "step_00000006"]
    assert (tmp_path / "checkpoints" / "best").read_text() == "step_00000002\n"
    best = checkpoint.read_trainer_state(tmp_path / "checkpoints" / "step_00000006")["best"]
    assert best == {"step": 2, "metrics": {"recall": 0.9}}


def test_evaluating_changes_no_weight(tmp_path):
    """Not even if it leaves the task in evaluation mode and draws random numbers."""
    paddle.seed(0)
    task = TinyTask(dropout=0.3)

    def evaluate() -> dict[str, float]:
        task.eval()
        return {"recall": paddle.rand([1]).item()}

    run(tmp_path / "with", [Evaluation(evaluate, "recall")], task=task, eval_every=2)
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
    with pytest.raises(ConfigError, match="cannot make the run folder .*Not a directory"):
        run(tmp_path / "file" / "run")


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, save_every=3, steps=6)
    task = TinyTask()
    task.model.words = paddle.nn.Linear(16, 7)
    with pytest.raises(CheckpointError, match=r"shape of words.weight: \[16, 5\], the model has \[16, 7\]"):
        run(tmp_path, task=task)
