"""Everything that a task may have, at the smallest size; also a program to run under the launcher.

A student whose embedding is contrasted with those of all rows of all ranks under a momentum teacher, with batch-norm
statistics, an adversarial perturbation found by a gradient inside of `forward`, and the mean of an update's rows that
`before_update` takes over all of its micro-batches.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from tiny_task import TinyData

from unimo.config import validate
from unimo.engine.distributed import World
from unimo.engine.loop import train
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import UnimoError
from unimo.models.layers import LayerNorm, Linear, gelu
from unimo.readers.batching import Batch

MOMENTUM, TEMPERATURE, STEP = 0.9, 0.5, 0.1


class Tower(nn.Layer):
    def __init__(self, batch_norm: bool, dropout: float):
        super().__init__()
        self.embed, self.project = Linear(8, 16), Linear(16, 4)
        self.statistics = nn.BatchNorm1D(16) if batch_norm else LayerNorm(16)
        self.register_buffer("seen", paddle.zeros([1], dtype="int64"))
        self.dropout = dropout

    def forward(self, x: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        states = self.statistics(self.embed(x) + shift)
        return F.normalize(self.project(F.dropout(gelu(states, self.training), self.dropout, training=self.training)))


class TeacherTask(Task):
    weights = {"contrast": 1.0, "centred": 0.3}

    def __init__(self, batch_norm: bool = True, dropout: float = 0.0):
        super().__init__()
        self.model, self.teacher = Tower(batch_norm, dropout), Tower(batch_norm, dropout)
        self.teacher.set_state_dict(self.model.state_dict())
        for parameter in self.teacher.parameters():
            parameter.stop_gradient = True

    def kept(self) -> Mapping[str, nn.Layer]:
        return {"teacher": self.teacher}

    def items(self, batch: Batch) -> dict[str, int]:
        return {"contrast": len(batch.ids), "centred": len(batch.ids)}

    @paddle.no_grad()
    def before_update(self, batches: Sequence[Batch]) -> None:
        rows = paddle.concat([self.world.all_rows(paddle.to_tensor(b.inputs["x"])) for b in batches])
        self.centre = rows.mean(0, keepdim=True)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = paddle.to_tensor(batch.inputs["x"])
        shift = paddle.zeros([len(x), 16])
        shift.stop_gradient = False
        (slope,) = paddle.grad(self._contrast(x, shift), [shift])
        student = self.model(x, STEP * slope.sign())
        self.model.seen.set_value(self.model.seen + len(x))
        centred = (student - self.model(x - self.centre)).square().sum()
        return {"contrast": self._contrast(x, STEP * slope.sign()), "centred": centred}

    def _contrast(self, x: Tensor, shift: Tensor) -> Tensor:
        """Each of this rank's rows against the rows of all ranks, student against student and teacher."""
        own = self.model(x, shift)
        with paddle.no_grad():
            kept = self.world.all_rows(self.teacher(x))
        columns = paddle.concat([self.world.all_rows(own), kept])
        scores = own @ columns.T / TEMPERATURE
        target = self.world.rank * len(x) + self.world.size * len(x) + paddle.arange(len(x))  # its teacher's row
        return F.cross_entropy(scores, target, reduction="sum")

    @paddle.no_grad()
    def after_update(self, step: int) -> None:
        for mine, its in zip(self.teacher.state_dict().values(), self.model.state_dict().values()):
            mixed = MOMENTUM * mine + (1 - MOMENTUM) * its if mine.is_floating_point() else its
            mine.set_value(mixed)


class EvenData(TinyData):
    """The same rows, all of one stream; `drop` of them are lost on this rank."""

    STREAMS = ("rows",)

    def __init__(self, accumulate: int = 1, drop: int = 0, **settings: Any):
        super().__init__(accumulate, **settings)
        self.drop = drop

    def next(self) -> list[Batch]:
        batches = super().next()
        return [
            Batch(b.stream, b.ids[self.drop :], {name: rows[self.drop :] for name, rows in b.inputs.items()})
            for b in batches
        ]


def join() -> int:
    """Let two ranks with other buffers make them equal."""
    world, tower = World(), Tower(batch_norm=True, dropout=0.0)
    world.connect(0)
    tower.statistics._mean.set_value(paddle.full([16], float(world.rank)))
    tower.seen.set_value(paddle.to_tensor([7 + world.rank]))
    tower.register_buffer("lowest", paddle.full([1], float(np.finfo("float32").min)))
    world.join_buffers(tower)
    found = [tower.statistics._mean[3].item(), tower.seen.item(), len(world.all_rows(paddle.zeros([0, 3])))]
    print("mean {} counter {} rows {} lowest {}".format(*found, tower.lowest.item()))
    return 0


def run(output: str | Path, options: dict[str, Any]) -> int:
    """Train and return the exit code. Options: `engine` settings, perhaps `task` and `data` (arguments), `join`."""
    if "join" in options:
        return join()
    try:
        config = validate(EngineConfig, {"steps": 6, "learning_rate": 0.01, **options["engine"]}, "teacher")
        paddle.seed(0)
        task = TeacherTask(**options.get("task", {}))
        train(task, EvenData(config.accumulate, **options.get("data", {})), config, output)
        buffers = [tensor.numpy().tobytes() for layer in (task.model, task.teacher) for tensor in layer.buffers()]
        print("buffers", hashlib.sha256(b"".join(buffers)).hexdigest())
    except UnimoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":  # teacher_task.py --output RUN OPTIONS_AS_JSON
    np.seterr(all="raise")
    sys.exit(run(sys.argv[2], json.loads(sys.argv[3])))
