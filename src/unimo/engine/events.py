"""What happens around the loop: small objects with any of the hooks that `Hook` lists, called in their order.

Every rank calls every hook, because saving and evaluating are joint work; what writes to the terminal or the run
folder does so on rank 0 only.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TextIO

from tqdm import tqdm

from unimo.console import say
from unimo.engine import checkpoint
from unimo.engine.distributed import World
from unimo.engine.settings import EngineConfig
from unimo.errors import ConfigError, DataError, MissingDependencyError
from unimo.storage.atomic import atomic_write

# on_step: after every update; on_save: when a checkpoint is written, which may be updates after its own
Hook = Literal["on_start", "on_step", "on_log", "on_save", "on_end"]


@dataclass
class Run:
    """What the events see of the loop."""

    config: EngineConfig
    run_dir: Path
    world: World
    events: list[Any]
    save: Callable[["Run"], None]  # joint: all ranks call it; on_save tells when the checkpoint is there
    step: int = 0  # updates done
    best: dict[str, Any] | None = None  # step and metrics of the best evaluation
    stale: int = 0  # evaluations since the best one
    ended: bool = False  # before the last step, because nothing got better
    record: dict[str, Any] = field(default_factory=dict)  # what on_log is called for

    def emit(self, hook: Hook) -> None:
        """Call the hook of every event that has it."""
        for event in self.events:
            if hasattr(event, hook):
                getattr(event, hook)(self)

    def log(self, record: dict[str, Any]) -> None:
        """Hand a record (of updates, or of an evaluation) to every event that logs."""
        self.record = record
        self.emit("on_log")


class ConfigFile:
    """`config.yaml`, the resolved config; written once the run folder is known to be of this run."""

    def __init__(self, text: str):
        self.text = text

    def on_start(self, run: Run) -> None:
        """Write the file, on rank 0."""
        if run.world.rank == 0:
            with atomic_write(run.run_dir / "config.yaml") as file:
                file.write(self.text.encode())


class LogFile:
    """`log.jsonl`: a record for every `log_every` updates (`Trainer.record`) and for each evaluation. A resumed run
    first drops what it will write again."""

    def on_start(self, run: Run) -> None:
        """Open the file, on rank 0, without the records of updates after the one that the run resumes from."""
        self._file: TextIO | None = None
        if run.world.rank == 0:
            path = run.run_dir / "log.jsonl"
            kept = [record for record in records(path) if record["step"] <= run.step]
            with atomic_write(path) as file:
                file.writelines(f"{json.dumps(record)}\n".encode() for record in kept)
            self._file = open(path, "a", encoding="utf-8")

    def on_log(self, run: Run) -> None:
        """Add the record as a line of JSON. Raises DataError where it cannot be written."""
        if self._file:
            try:
                self._file.write(json.dumps(run.record) + "\n")
                self._file.flush()
            except OSError as error:
                raise DataError(f"cannot write {self._file.name}: {error.strerror}") from error

    def on_end(self, run: Run) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a log. What is none is left out; a line says so, but for the last, which a kill may have cut."""
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record["step"], int):
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            if number < len(lines):
                say(f"warning: {path} line {number} is no record of a step and is left out: {line[:60]!r}")
            continue
        yield record


class Progress:
    """A bar with rate and remaining time on a terminal, else a plain line per logged step."""

    def on_start(self, run: Run) -> None:
        """Start the clock, and on a terminal the bar."""
        self._bar: tqdm | None = None
        self._first, self._started = run.step, time.monotonic()
        if run.world.rank == 0 and sys.stderr.isatty():
            with suppress(OSError):  # a terminal that is gone already
                self._bar = tqdm(total=run.config.updates, initial=run.step, unit="step", dynamic_ncols=True)

    def on_step(self, run: Run) -> None:
        """Move the bar by one update."""
        if self._bar is not None:
            self._on_terminal(self._bar.update)

    def on_log(self, run: Run) -> None:
        """Show losses, or the metrics of an evaluation; without a bar also the updates a second and the time left."""
        if run.world.rank != 0:
            return
        losses = " ".join(f"{k} {v:.4g}" for k, v in run.record.get("losses", run.record.get("metrics", {})).items())
        if self._bar is not None:
            self._on_terminal(partial(self._bar.set_postfix_str, losses))
        else:
            rate = (run.step - self._first) / (time.monotonic() - self._started)
            left = tqdm.format_interval((run.config.updates - run.step) / rate) if rate else "?"
            say(f"step {run.step}/{run.config.updates} {losses}, {rate:.3g} steps/s, {left} left")

    def on_end(self, run: Run) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._on_terminal(self._bar.close)

    def _on_terminal(self, draw: Callable[[], object]) -> None:
        """Draw, and give the bar up where the terminal is gone: training goes on without it."""
        try:
            draw()
        except OSError:
            self._bar = None


class Checkpoints:
    """A checkpoint every `save_every` updates; old ones are removed after each save."""

    def on_step(self, run: Run) -> None:
        """Save where `save_every` divides the number of updates done."""
        if run.step % run.config.save_every == 0:
            run.save(run)

    def on_save(self, run: Run) -> None:
        """Remove checkpoints older than the newest `keep_last`, but for the best, on rank 0."""
        if run.world.rank == 0:
            checkpoint.prune(run.run_dir / "checkpoints", run.config.keep_last)


class PeriodicEvaluation:
    """Calls `evaluate` on every rank every `eval_every` updates, which share the work, and logs rank 0's answer. So it
    does after the last update, as the release does, whatever its number is.

    The checkpoint of the best value of one metric is kept and named in `checkpoints/best`. With `patience` the run ends
    after so many evaluations in a row that were not better.

    Args:
        metric: what to go by where the config names none.
    """

    def __init__(self, evaluate: Callable[[], Mapping[str, float]], metric: str):
        self.evaluate, self.metric = evaluate, metric

    def on_start(self, run: Run) -> None:
        """Point to the best checkpoint of a resumed run again, and end a run whose patience was used up before."""
        if run.best:  # a kill may have come between the checkpoint and the pointer
            self._point(run)
            self._end(run)

    def on_step(self, run: Run) -> None:
        """Evaluate where it is due; save what is better, else count towards `patience`."""
        every, last = run.config.eval_every, run.step == run.config.updates
        if not every or (run.step % every and not last):
            return
        metrics = dict(self.evaluate())
        run.world.meet()
        metrics = run.world.broadcast(metrics)
        name = run.config.best_metric or self.metric
        better = self._better(run, metrics, name)
        run.log({"step": run.step, "metrics": metrics, "metric": name, "best": better})
        if better:
            run.best, run.stale = {"step": run.step, "metrics": metrics}, 0
            run.save(run)
        else:
            run.stale += 1
            self._end(run)

    def on_save(self, run: Run) -> None:
        """Point to the best checkpoint, once it is written."""
        if run.best:
            self._point(run)

    def _better(self, run: Run, metrics: dict[str, float], name: str) -> bool:
        if name not in metrics:
            raise ConfigError(f"engine.best_metric is {name}; the evaluation measures {', '.join(metrics)}")
        if run.best is None or name not in run.best["metrics"]:
            return True
        new, old = metrics[name], run.best["metrics"][name]
        if not (math.isfinite(new) and math.isfinite(old)):
            return math.isfinite(new)
        return new > old if run.config.best == "highest" else new < old

    def _end(self, run: Run) -> None:
        assert run.best is not None  # the first evaluation is the best so far
        run.ended = 0 < run.config.patience <= run.stale
        if run.ended and run.world.rank == 0:
            say(f"ending at step {run.step}: no evaluation was better than that of step {run.best['step']}")

    def _point(self, run: Run) -> None:
        assert run.best is not None
        folder = checkpoint.folder_of(run.run_dir, run.best["step"])
        if run.world.rank == 0 and folder.exists():
            checkpoint.point(folder.parent, checkpoint.BEST, folder.name)


class VisualDL:
    """Every number of the log as a curve for `visualdl --logdir RUN/visualdl`."""

    def on_start(self, run: Run) -> None:
        """Open RUN/visualdl, on rank 0. Raises MissingDependencyError without the package visualdl."""
        self._writer = None
        if run.world.rank != 0:
            return
        try:
            from visualdl import LogWriter
        except ImportError as error:
            raise MissingDependencyError(
                "VisualDL curves need the package visualdl: pip install -e .[report]"
            ) from error
        self._writer = LogWriter(logdir=str(run.run_dir / "visualdl"))

    def on_log(self, run: Run) -> None:
        """Add each number of the record at the update, entries of a dictionary as `losses/mlm`."""
        if self._writer is None:
            return
        for key, value in run.record.items():
            numbers = {f"{key}/{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
            for tag, number in numbers.items():
                if isinstance(number, int | float) and tag != "step":
                    self._writer.add_scalar(tag=tag, value=number, step=run.step)

    def on_end(self, run: Run) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
