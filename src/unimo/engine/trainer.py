"""One update, one save, one resume: the joint operations of the loop."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor

from unimo.config import find
from unimo.console import say
from unimo.engine import checkpoint
from unimo.engine.distributed import Watchdog, World
from unimo.engine.events import Run
from unimo.engine.interval import Interval, Sums
from unimo.engine.optimizer import Optimizer
from unimo.engine.schedules import learning_rate
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Data, Task, check_parameters
from unimo.errors import CheckpointError, ConfigError, DataError, NonFiniteError, UnimoError
from unimo.hardware import describe, other_bits
from unimo.readers.batching import Batch, pad_share

# Settings that a resumed run may change: no weight depends on them.
FREE = {
    "log_every",
    "save_every",
    "keep_last",
    "eval_every",
    "patience",
    "hang_timeout",
    "reader_threads",
    "read_ahead",
}
_DEFAULTS = EngineConfig(steps=1, learning_rate=1.0).model_dump(mode="json")
SEED_RULE = "paddle.seed(first 4 bytes, little endian, of sha256 of 'seed:step:micro-batch:rank') before each forward"


def micro_seed(seed: int, step: int, micro: int, rank: int) -> int:
    """Seed of one micro-batch's dropout. It depends on no history, so resuming needs no generator state."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{step}:{micro}:{rank}".encode()).digest()[:4], "little")


class Trainer:
    """Task, data and optimiser of a run, and the operations that all its processes do together.

    Args:
        identity: what a checkpoint must share with this run to be resumed.
        write_extras: see `loop.train`.
        stop: whether this process was asked to stop.
        writer: a thread that writes checkpoints, one after the other.

    Attributes:
        stopping: whether any process was, when the last update was settled.
        written: whether the files of the checkpoint in the making were there then, or had failed.
        saved_step: of the newest checkpoint that is whole, 0 without one.
        interval: the updates since the last record of the log.
    """

    def __init__(
        self,
        task: Task,
        data: Data,
        config: EngineConfig,
        world: World,
        watchdog: Watchdog,
        identity: dict[str, Any],
        write_extras: Callable[[Path], None] | None,
        stop: Callable[[], bool],
        writer: Executor,
    ):
        self.task, self.data, self.config, self.world, self.watchdog = task, data, config, world, watchdog
        self.identity, self.write_extras, self.stop, self.writer = identity, write_extras, stop, writer
        self.stopping = self.written = False
        self._names = sorted(task.weights)
        check_parameters(task)
        self.optimizer = Optimizer(task.model, config, world)
        self.scaler = paddle.amp.GradScaler(enable=config.amp == "float16")
        if config.amp == "float16":
            self.scaler = world.distributed_scaler(self.scaler)
        self.saved_step, self.interval = 0, Interval()
        self._snapshot: tuple[int, dict[str, Any] | None, int] = (0, None, 0)  # of which step, best and stale
        self._in_the_making = False  # whether it is; on rank 0, by what
        self._writing: Future[None] | None = None

    def update(self, step: int) -> dict[str, float]:
        """Run the micro-batches of the update with 0-based index `step` and update the weights; its mean losses.

        Raises:
            NonFiniteError: a loss or the gradient norm is inf or nan; no weight was changed.
        """
        started = time.monotonic()
        self._train_mode()
        self.watchdog.at(f"data of step {step + 1}")
        batches = self.data.next()
        if len(batches) != self.config.accumulate:
            raise DataError(f"the data gave {len(batches)} micro-batches, accumulate is {self.config.accumulate}")
        # numbers of the host; a rank that is gone is found here, where it is an error: in a backward pass, gloo aborts
        self.watchdog.at(f"counts of step {step + 1}", joint=True)
        items = [self.task.items(batch) for batch in batches]
        mine = [sum(of.get(name, 0) for of in items) for name in self._names]
        *totals, samples, pads = self.world.sum([*mine, sum(len(b.ids) for b in batches), pad_share(batches)])
        counts = dict(zip(self._names, totals, strict=True))

        self.watchdog.at(f"what comes before step {step + 1}", joint=True)
        paddle.seed(micro_seed(self.config.seed, step, -1, self.world.rank))
        self.task.before_update(batches)
        local = self._accumulate(step, batches, items, counts)
        losses: dict[str, float] = {}
        summed: dict[str, float] = {}

        def settle(square: Tensor) -> float:
            self.watchdog.at(f"losses of step {step + 1}", joint=True)
            sums, total = self._settle(local, square)
            summed.update((name, sums[name]) for name in self._names if counts[name])
            losses.update((name, loss / counts[name]) for name, loss in summed.items())
            if bad := [f"{name} is {loss}" for name, loss in losses.items() if not math.isfinite(loss)]:
                raise NonFiniteError("loss " + ", ".join(bad))
            self.watchdog.at(f"optimiser of step {step + 1}", joint=True)
            return total

        try:
            self.watchdog.at(f"gradients of step {step + 1}", joint=True)
            updated = self.optimizer.step(learning_rate(self.config, step), self.scaler, settle)
            if not updated:  # a loss scaler found an overflow, and asked for no norm
                settle(paddle.zeros([], "float64"))
        except NonFiniteError as error:
            raise self._with_ids(step, batches, error) from None
        self._follow(step + 1, updated)
        total = sum(self.task.weights[name] * loss for name, loss in losses.items())
        seconds, norm, padded = time.monotonic() - started, self.optimizer.clip.norm, pads / self.world.size
        ran = {name: counts[name] for name in summed}
        self.interval.add(batches[0].stream, Sums(1, samples, seconds, total, norm, padded, summed, ran))
        return losses

    def record(self, step: int) -> dict[str, Any]:
        """The log's record of the updates since the last one, of which `step`, counted from 1, is the newest."""
        found = {"step": step, "lr": learning_rate(self.config, step - 1), **self.interval.record}
        if observed := dict(self.task.observed()):
            found["observed"] = observed
        self.interval = Interval()
        return found

    def _settle(self, local: Mapping[str, Tensor], square: Tensor) -> tuple[dict[str, float], float]:
        """Losses, norm and how things stand: all that an update reads of what was computed, at once.

        Args:
            local: sum of each objective over this rank's micro-batches, float64.
            square: sum of the squares of the gradients that this rank holds; without sharding all hold the same.

        Returns:
            Sums of the objectives and of the squares over all ranks.
        """
        if self.world.rank and not self.optimizer.sharded:
            square = paddle.zeros_like(square)
        nothing = paddle.zeros([], "float64")
        measured = [local.get(name, nothing) for name in self._names]
        written = self._writing is not None and self._writing.done()
        host = [paddle.full([], float(fact), "float64") for fact in (self.stop(), written)]
        *sums, total, stopping, landed = self.world.sum(paddle.stack([*measured, square, *host]))
        self.stopping, self.written = stopping > 0, landed > 0
        return dict(zip(self._names, sums, strict=True)), total

    def _with_ids(self, step: int, batches: list[Batch], error: NonFiniteError) -> NonFiniteError:
        """The error with what a person needs to find its cause. Joint: all ranks call it."""
        failure = self._wait()
        everyone = self.world.gather([i for b in batches for i in b.ids])
        ids = "; ".join(f"rank {rank}: {', '.join(ids)}" for rank, ids in enumerate(everyone))
        saved = f"the last checkpoint is of step {self.saved_step}" if self.saved_step else "there is no checkpoint yet"
        found = f"step {step + 1}, stream {batches[0].stream}: {error}; {failure or saved}"
        return NonFiniteError(f"{found}. Batch ids: {ids}")

    def _train_mode(self) -> None:
        """An evaluation may have left the task otherwise. What it keeps stays in the mode that it chose for it."""
        kept = [sub for layer in self.task.kept().values() for sub in layer.sublayers(include_self=True)]
        modes = [sub.training for sub in kept]
        self.task.train()
        for sub, mode in zip(kept, modes):
            sub.training = mode

    def _follow(self, step: int, updated: bool) -> None:
        """Bring what is not trained by gradients in line with the weights of update `step`, counted from 1."""
        self.watchdog.at(f"what follows step {step}", joint=True)
        self.world.join_buffers(self.task.model)
        if updated:
            self.task.after_update(step)
        for layer in self.task.kept().values():
            self.world.join_buffers(layer)

    def _accumulate(
        self, step: int, batches: list[Batch], items: list[Mapping[str, int]], counts: dict[str, float]
    ) -> dict[str, Tensor]:
        """Forward and backward of every micro-batch; gradients are averaged over ranks with the last one.

        Returns:
            Sum of each objective over this rank's micro-batches, float64; nothing waits for the device here.
        """
        amp = self.config.amp
        sums: dict[str, Tensor] = {}
        for micro, (batch, counted) in enumerate(zip(batches, items, strict=True)):
            self.watchdog.at(f"micro-batch {micro} of step {step + 1}", joint=True)
            paddle.seed(micro_seed(self.config.seed, step, micro, self.world.rank))
            last = micro == len(batches) - 1
            with nullcontext() if last else self.world.no_sync(self.model):
                with nullcontext() if amp == "none" else paddle.amp.auto_cast(dtype=amp, level="O1"):
                    losses = self.model(batch)
                unknown = sorted(set(losses) - (self.task.weights.keys() & counted.keys()))
                if unknown:
                    raise ConfigError(f"objectives {unknown} of stream {batch.stream} lack a weight or a count")
                silent = sorted(n for n in self.task.weights if counted.get(n) and n not in losses)
                if silent or not losses:
                    raise ConfigError(f"objectives {silent} of stream {batch.stream} have items but no loss")
                # times world size because the gradients of the ranks are averaged
                parts = [
                    loss * (self.task.weights[name] * self.world.size / max(counts[name], 1.0))
                    for name, loss in losses.items()
                ]
                self.scaler.scale(sum(parts)).backward()
            for name, loss in losses.items():
                value = loss.detach().astype("float64").reshape([])
                sums[name] = sums[name] + value if name in sums else value
        return sums

    def save(self, run: Run) -> None:
        """Begin the checkpoint of `run.step`, once; again only where an evaluation came after it.

        All ranks call it. Rank 0 copies what the checkpoint holds, then a thread writes it while training goes on.
        """
        what = (run.step, run.best, run.stale)
        if what == self._snapshot:
            return
        self.land(run)
        self.watchdog.at(f"copying the checkpoint of step {run.step}")
        state = {
            "step": run.step,
            "data": self.data.state(),
            "scaler": self.scaler.state_dict(),
            "seed_rule": SEED_RULE,
            "best": run.best,
            "stale": run.stale,
            "identity": self.identity,
            "hardware": describe(),
            # empty where a record follows at once: a stop saves before it logs
            "interval": {} if run.step % self.config.log_every == 0 else self.interval.state(),
        }
        moments = zip(self.optimizer.shapes(), self.optimizer.state(), strict=True)
        if self.world.rank == 0:
            snapshot = checkpoint.Snapshot(
                checkpoint.copied(self.task.model.state_dict()),
                checkpoint.copied(checkpoint.joined(self.task.kept())),
                dict(moments),
                json.dumps(state, indent=1),
            )
            folder = checkpoint.folder_of(run.run_dir, run.step)
            self._writing = self.writer.submit(checkpoint.save, folder, snapshot, self.write_extras)
        for _ in moments:  # the other ranks' part in gathering them
            pass
        self._snapshot, self._in_the_making = what, True
        self.world.meet()
        self.watchdog.pause()

    def land(self, run: Run) -> None:
        """Wait until the checkpoint that was begun last is written, and tell the events. All ranks call it.

        Raises:
            UnimoError: it could not be written; on all ranks.
        """
        if not self._in_the_making:
            return
        failure = self._wait()
        self.watchdog.pause()
        if failure is not None:
            raise failure
        run.emit("on_save")

    def _wait(self) -> UnimoError | None:
        """Wait for the checkpoint in the making, if there is one; why it could not be written. All ranks call it."""
        failure: UnimoError | None = None
        if self._in_the_making:
            self.watchdog.at(f"writing the checkpoint of step {self._snapshot[0]}")
            if self._writing is not None:
                try:
                    self._writing.result()
                except UnimoError as error:
                    failure = error
            self.world.meet()  # rank 0 may have written for minutes
            failure = self.world.broadcast(failure)
            self._in_the_making, self._writing = False, None
            if failure is None:
                self.saved_step = self._snapshot[0]
        return failure

    def resume(self, run: Run) -> None:
        """Load the newest whole checkpoint, if any, then send weights to all ranks. Rank 0 alone reads the files.

        Raises:
            CheckpointError: it was made with other data, another number of processes or other settings; or there are
                checkpoints and none is whole.
            ConfigError: continue_from names a checkpoint of the run's last step or a later one.
        """
        found = None
        if self.world.rank == 0:
            folder = checkpoint.find_latest(run.run_dir)
            checkpoint.refuse_all_torn(run.run_dir, folder)
            found = folder and (folder, checkpoint.read_trainer_state(folder))
        found = self.world.broadcast(found)
        if found:
            folder, state = found
            self._check_identity(folder, state)
            if self.world.rank == 0:
                if warning := other_bits(state.get("hardware", {})):
                    say(warning)
                checkpoint.load_model(folder, self.task.model)
                checkpoint.load_kept(folder, self.task.kept())
            shapes = self.optimizer.shapes()
            self.optimizer.restore(checkpoint.read_tensors(folder / checkpoint.OPTIMIZER, shapes))
            if state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
            self.data.restore(state["data"])
            self.interval = Interval(state.get("interval", {}))  # earlier versions kept none
            run.step = self.saved_step = state["step"]
            run.best, run.stale = state["best"], state.get("stale", 0)
            if run.best and "stale" not in state:  # written when recalls, then the only metrics, were fractions of 1
                run.best["metrics"] = {name: 100 * value for name, value in run.best["metrics"].items()}
            self._snapshot = (run.step, run.best, run.stale)
        elif self.config.continue_from:
            folder = find(self.config.continue_from)
            moments = folder / checkpoint.OPTIMIZER
            self.optimizer.restore(checkpoint.read_tensors(moments, self.optimizer.shapes()))
            state = checkpoint.read_trainer_state(folder) if self.world.rank == 0 else None
            run.step = self.world.broadcast(state)["step"]
            if run.step >= self.config.updates:
                raise ConfigError(
                    f"continue_from: {folder} is of step {run.step}, which leaves none of the engine.steps "
                    f"{self.config.updates} to do; steps count those done before"
                )
        for layer in (self.task.model, *self.task.kept().values()):
            self.world.share(layer)
        self.model = self.world.distributed_model(self.task)

    def _check_identity(self, folder: Path, state: dict[str, Any]) -> None:
        theirs = _DEFAULTS | state["identity"]  # settings that are younger than the checkpoint had their defaults
        problems = [
            f"{key}: {theirs.get(key)!r} in the checkpoint, {value!r} now"
            for key, value in self.identity.items()
            if key not in FREE and theirs.get(key) != value
        ]
        if problems:
            raise CheckpointError(
                f"{folder} belongs to another run; restore what differs, or start in a new output folder\n  - "
                + "\n  - ".join(problems)
            )
