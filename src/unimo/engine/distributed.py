"""Several processes under `python -m paddle.distributed.launch`: start, agreement, and hangs that become errors.

With one process nothing is initialised and every method is the obvious local one. Only float32, float64 and Python
objects are reduced: gloo's float16 sums are wrong in Paddle 3.3.1.
"""

import faulthandler
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle
import paddle.distributed as dist
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from paddle.base import core
from paddle.distributed import fleet
from paddle.nn.layer.norm import _BatchNormBase

from unimo.console import say
from unimo.engine.stop import signals_held_back
from unimo.errors import ConfigError, DataError, UnimoError

HALF = (paddle.float16, paddle.bfloat16)
GIVES_UP = 25.0  # seconds; gloo's collectives end the process after 30, with neither rank nor place
IDLE = 0.1  # share of a second's CPU time below which a thread waits (ours)


class _AllRows(PyLayer):
    """Paddle's own all_gather drops the gradient. Here each rank's rows get the sum of what all ranks ask of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: "World") -> Tensor:
        ctx.world, ctx.rows = world, x.shape[0]
        parts: list[Tensor] = []
        dist.all_gather(parts, x.contiguous())
        return paddle.concat(parts)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        total = dy.contiguous().clone()  # the gradient that came in is not ours to change
        dist.all_reduce(total)
        first = ctx.world.rank * ctx.rows
        return total[first : first + ctx.rows]


def _buffers(layer: nn.Layer) -> list[Tensor]:
    """A layer's buffers that are saved, and its batch-norm statistics."""
    saved = {id(tensor) for tensor in layer.state_dict().values()}
    return [buffer for buffer in layer.buffers() if id(buffer) in saved] + batch_statistics(layer)


def batch_statistics(layer: nn.Layer) -> list[Tensor]:
    """Running mean and variance of every batch norm in a layer; Paddle lists them among the parameters."""
    norms = [sub for sub in layer.sublayers(include_self=True) if isinstance(sub, _BatchNormBase)]
    return [tensor for norm in norms for tensor in (norm._mean, norm._variance)]


class World:
    """The processes of this run. `rank` and `size` come from the launcher's environment, before any connection."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._meetings = 0

    def connect(self, sharding: int) -> None:
        """Start fleet; optimiser state is sharded over all processes or not at all."""
        if self.size == 1:
            return
        strategy = fleet.DistributedStrategy()
        strategy.find_unused_parameters = True  # each stream leaves out some heads
        if sharding:
            strategy.hybrid_configs = {"dp_degree": 1, "sharding_degree": self.size}
        fleet.init(is_collective=True, strategy=strategy, log_level="WARNING")

    def distributed_model(self, model: nn.Layer) -> nn.Layer:
        """Wrapped so that gradients are averaged over ranks; rank 0's weights are sent to all."""
        return fleet.distributed_model(model) if self.size > 1 else model

    def distributed_optimizer(self, optimizer: paddle.optimizer.Optimizer) -> Any:
        """Wrapped by fleet (sharding) where there are several processes."""
        return fleet.distributed_optimizer(optimizer) if self.size > 1 else optimizer

    def distributed_scaler(self, scaler: paddle.amp.GradScaler) -> paddle.amp.GradScaler:
        """A loss scaler that skips a step on all ranks together."""
        return fleet.distributed_scaler(scaler) if self.size > 1 else scaler

    @staticmethod
    def no_sync(model: nn.Layer) -> AbstractContextManager:
        """Gradients of this backward pass stay local; under sharding they do so until the optimiser's step anyway."""
        return model.no_sync() if isinstance(model, paddle.DataParallel) else nullcontext()

    def sum(self, values: Sequence[float] | Tensor) -> list[float]:
        """Element-wise sum over ranks, in float64: one collective, and one read of the device.

        Args:
            values: [n]; a tensor is float64 and holds the sums afterwards.
        """
        if self.size == 1 and not isinstance(values, Tensor):
            return list(values)
        tensor = values if isinstance(values, Tensor) else paddle.to_tensor(list(values), dtype="float64")
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor.numpy().tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every rank's Python object, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = []
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's Python object on every rank."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def all_rows(self, x: Tensor) -> Tensor:
        """The rows of all ranks, rank after rank, with gradient: [n, ...] -> [size * n, ...].

        A loss of these rows on each rank, summed over the ranks, has the value and gradient of one process that has
        them all. Every rank must have as many (`Stream(even=True)`); float16 becomes float32.

        Raises:
            DataError: the ranks have different numbers of rows.
        """
        if self.size == 1:
            return x
        counts: list[Tensor] = []
        dist.all_gather(counts, paddle.to_tensor([x.shape[0]], dtype="int64"))
        rows = [count.item() for count in counts]
        if not any(rows):
            return x
        if len(set(rows)) > 1:
            raise DataError(f"all_rows needs as many rows on each rank, got {rows}; draw them by Stream(even=True)")
        return _AllRows.apply(x.astype("float32") if x.dtype in HALF else x, self)

    @paddle.no_grad()
    def share(self, layer: nn.Layer) -> None:
        """Give every rank the parameters and buffers of rank 0."""
        if self.size > 1:
            for tensor in layer.state_dict().values():
                value = tensor.detach().contiguous()
                dist.broadcast(value, src=0)
                tensor.set_value(value)

    @paddle.no_grad()
    def join_buffers(self, layer: nn.Layer) -> None:
        """Make equal what ranks change without gradients: the mean of floats (batch-norm statistics), else rank 0's."""
        if self.size == 1:
            return
        for buffer in _buffers(layer):
            if not buffer.is_floating_point():
                dist.broadcast(buffer, src=0)
                continue
            mean = buffer.astype("float64")  # equal values stay what they are, large ones finite
            dist.all_reduce(mean)
            buffer.set_value((mean / self.size).astype(buffer.dtype))

    def meet(self) -> None:
        """Wait for every rank, after work that may take one of them long.

        gloo's collectives give up after 30 s, which cannot be changed from Python; the store's counters do not.
        """
        if self.size == 1:
            return
        self._meetings += 1
        store, key = core.create_or_get_global_tcp_store(), f"unimo/meeting/{self._meetings}"
        with signals_held_back():  # one that interrupts the store's socket makes it fail
            store.add(key, 1)
            while store.add(key, 0) < self.size:
                time.sleep(0.02)
        self.sum([0.0])  # rank 0 serves the store: it must not end before all have read it

    def broadcast_array(self, array: np.ndarray | None, shape: Sequence[int], source: int) -> np.ndarray:
        """The float32 array of rank `source` on every rank; the others pass None."""
        if self.rank == source:
            assert array is not None
            if self.size == 1:
                return array
            tensor = paddle.to_tensor(array)
        else:
            tensor = paddle.empty(shape, dtype="float32")
        dist.broadcast(tensor, src=source)
        return tensor.numpy()

    def check_same(self, facts: dict[str, Any]) -> None:
        """Raise one ConfigError on every rank that names each fact that differs and the ranks that have each value."""
        everyone = self.gather(facts)
        problems = []
        for key in facts:
            ranks: dict[str, list[int]] = {}
            for rank, theirs in enumerate(everyone):
                ranks.setdefault(str(theirs.get(key)), []).append(rank)
            if len(ranks) > 1:
                problems.append(f"{key}: " + "; ".join(f"{v} on rank(s) {r}" for v, r in ranks.items()))
        if problems:
            raise ConfigError(
                "the processes of this run do not agree; start all with the same files and packages\n  - "
                + "\n  - ".join(problems)
            )


class Watchdog:
    """Ends this process with exit code 1 when it stays at one place too long, naming rank and place.

    A rank that waits in a collective for another that hangs would wait for ever; the launcher ends the job as soon as
    one process is gone. One process alone is not watched, and no one is in events: an evaluation may take hours.

    Args:
        seconds: the most at one place.
        tell: told the error before the process ends.
    """

    def __init__(self, world: World, seconds: float, tell: Callable[[str], None] = lambda error: None):
        self.world, self.seconds, self.tell = world, seconds, tell
        self._done = threading.Event()
        self.at("start")

    def at(self, place: str, joint: bool = False) -> None:
        """Note progress: the process is alive and now at `place`; `joint`, where it may wait for the other ranks."""
        self._mark = (place, self.seconds, joint)

    def pause(self) -> None:
        """Watch no more until the next `at`."""
        self._mark = (f"events after: {self._mark[0]}", math.inf, False)

    def __enter__(self) -> "Watchdog":
        if self.world.size > 1:
            clock = time.pthread_getcpuclockid(threading.get_ident())
            threading.Thread(target=self._watch, args=(clock,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._done.set()
        if self.world.size > 1 and kind is not None and not issubclass(kind, UnimoError):
            say(
                f"error: rank {self.world.rank} of {self.world.size} failed at: {self._mark[0]}. "
                "If it lost a connection, another rank ended first: see its log"
            )

    def _watch(self, clock: int) -> None:
        """Count seconds at one place, and those in which the watched thread did nothing but wait for other ranks.

        Seconds are counted by looks, not by the clock, so that those in which this process was stopped are none.
        """
        look, mark, waited, idle, busy = min(1.0, self.seconds / 4), self._mark, 0.0, 0.0, 0.0
        while not self._done.wait(look):
            if mark is not self._mark:
                mark, waited, idle = self._mark, 0.0, 0.0
            waited += look
            before, busy = busy, time.clock_gettime(clock)
            idle = idle + look if busy - before < IDLE * look else 0.0
            place, most, joint = mark
            if joint and idle >= GIVES_UP and paddle.device.get_device() == "cpu":
                self._end(place, idle)
            elif waited >= most:
                self._end(place, waited)

    def _end(self, place: str, seconds: float) -> None:
        error = f"rank {self.world.rank} of {self.world.size} made no progress for {seconds:g} s at: {place}"
        say(f"error: {error}; another rank may hang, see its log. Where each thread is:")
        faulthandler.dump_traceback(all_threads=True)
        self.tell(error)
        os._exit(1)
