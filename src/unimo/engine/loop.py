"""The one training loop: batches of a `Data` through a `Task` (engine/task.py), with events around it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any

import paddle
from paddle import nn

from unimo.console import say
from unimo.engine.distributed import Watchdog, World
from unimo.engine.events import Checkpoints, LogFile, Progress, Run
from unimo.engine.schedules import shortfall
from unimo.engine.settings import EngineConfig
from unimo.engine.stop import StopRequest, stop_at_once
from unimo.engine.task import Data, Task
from unimo.engine.trainer import Trainer
from unimo.errors import ConfigError, DataError, NonFiniteError, Preempted, Stopped, UnimoError
from unimo.provenance import versions
from unimo.readers.read_ahead import Prefetch
from unimo.storage.atomic import atomic_write
from unimo.storage.locks import alone

STATUS: dict[type[BaseException], str] = {Preempted: "preempted", NonFiniteError: "non_finite"}


def train(
    task: Task,
    data: Data,
    config: EngineConfig,
    run_dir: str | Path,
    events: Sequence[Any] = (),
    write_extras: Callable[[Path], None] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train until `config.steps` updates are done, resuming from the newest whole checkpoint of `run_dir`.

    The loss of an update is the sum over objectives of weight * (sum over all items) / (number of items), items of
    all micro-batches and ranks: the same for 1 x 8, 2 x 4 or 4 x 2 of the same samples.

    Args:
        config: with the number of `steps`; epochs are turned into it where the data is known (`EngineConfig.over`).
        events: objects with any of the hooks of `unimo.engine.events`, called between the log and the checkpoint.
        identity: what a resumed run must share besides data, weights, settings, model and number of processes.
        write_extras: puts further files (configs, tokenizer) into the checkpoint folder that it is given.

    Returns:
        The last record of the log (see `Trainer.record`); empty if the run was done before.

    Raises:
        ConfigError: the processes disagree, or this machine cannot do what the config asks.
        CheckpointError: the checkpoint does not belong to this run, or saving failed.
        NonFiniteError: a loss or the gradient norm is inf or nan; nothing was updated or saved.
        Preempted: SIGTERM, SIGINT or SIGHUP; the running step was finished and saved.
    """
    if config.steps is None:
        raise ConfigError(f"engine.epochs={config.epochs:g} must be turned into updates first, by EngineConfig.over")
    run_dir, world, record = Path(run_dir), World(), {}
    task.world = world
    ahead = Prefetch(data, config.reader_threads, config.read_ahead) if config.reader_threads else nullcontext(data)
    with (
        ahead as data,
        StopRequest() as stop,
        _status(run_dir, world),
        ThreadPoolExecutor(1, "checkpoint") as writer,  # what it has begun is written, however the run ends
        Watchdog(world, config.hang_timeout, partial(_write_status, run_dir, "failed", 1)) as watchdog,
    ):
        _check_device(config)
        watchdog.at("connecting the processes")
        world.connect(config.sharding)
        identity = {
            **(identity or {}),
            "data_fingerprint": data.fingerprint,
            "weights": task.weights,
            "world_size": world.size,
        }
        identity |= {"model": repr(getattr(task.model, "config", None)), **config.model_dump(mode="json")}
        world.check_same(identity | {"packages": versions(), "parameters": _signature(task.model)})
        short = shortfall(config)
        if short and world.rank == 0:
            say(f"warning: {short}")
        trainer = Trainer(task, data, config, world, watchdog, identity, write_extras, lambda: stop.made, writer)
        # the checkpoint comes last, so that resuming from it repeats no event of its step
        run = Run(config, run_dir, world, [LogFile(), Progress(), *events, Checkpoints()], trainer.save)
        watchdog.at("resuming")
        trainer.resume(run)
        if trainer.saved_step and world.rank == 0:
            done = run.step >= config.steps
            say(f"already finished at step {run.step}" if done else f"resuming from step {run.step} ({run_dir})")
        run.emit("on_start")
        try:
            while run.step < config.steps and not run.ended:
                trainer.update(run.step)
                run.step += 1
                watchdog.pause()
                stopping = stop.made if world.size == 1 else trainer.stopping  # which all ranks know
                stopping = stopping and run.step < config.steps
                if stopping:  # before anything that takes time or may fail: who asks to stop may soon kill
                    trainer.save(run)
                if stopping or trainer.written:
                    trainer.land(run)
                if run.step % config.log_every == 0 or run.step == config.steps:
                    record = trainer.record(run.step)
                    run.log(record)
                run.emit("on_step")
                if stopping and not run.ended:
                    trainer.save(run)
                    trainer.land(run)
                    raise Preempted(f"stopped after step {run.step}; run the same command again to go on")
            trainer.save(run)
            trainer.land(run)
        finally:
            run.emit("on_end")
    return record


@contextmanager
def around_training(run_dir: Path) -> Iterator[None]:
    """For what a command does before and after `train`: a signal stops it at once, and the run folder says so."""
    with stop_at_once():
        try:
            yield
        except (Preempted, Stopped) as error:
            if World().rank == 0:
                run_dir.mkdir(parents=True, exist_ok=True)
                _write_status(run_dir, "preempted", error.exit_code, str(error))
            raise


@contextmanager
def _status(run_dir: Path, world: World) -> Iterator[None]:
    """Keep `state.json` of the run folder: what launch.sh makes an exit code of."""
    with alone(run_dir) if world.rank == 0 else nullcontext():
        if world.rank == 0:
            _write_status(run_dir, "running", None)
        try:
            yield
        except BaseException as error:  # whatever ends a run, its folder must not say that it goes on
            code = error.exit_code if isinstance(error, UnimoError) else None  # the process will have its own
            try:
                _write_status(run_dir, STATUS.get(type(error), "failed"), code, f"rank {world.rank}: {error!s}")
            except DataError as second:  # a full disk: the first error is the one to report
                say(f"warning: {second}")
            raise
        if world.rank == 0:
            _write_status(run_dir, "done", 0)


def _write_status(run_dir: Path, status: str, exit_code: int | None, message: str = "") -> None:
    state = {"status": status, "exit_code": exit_code, "message": message, "pid": os.getpid(), "host": gethostname()}
    with atomic_write(run_dir / "state.json") as file:
        file.write(json.dumps(state).encode())


def _check_device(config: EngineConfig) -> None:
    if config.amp != "none" and not paddle.device.get_device().startswith("gpu"):
        raise ConfigError(
            f"amp is {config.amp} but this process computes on {paddle.device.get_device()}, where Paddle would "
            "ignore it silently; set amp=none, or run on a GPU"
        )


def _signature(model: nn.Layer) -> str:
    """A hash of all parameter names and shapes."""
    text = json.dumps([(name, list(p.shape)) for name, p in model.named_parameters()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
