"""What the training loop can be told; part of every recipe."""

import math
import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field, field_validator, model_validator

from unimo.compat import Compat
from unimo.config import Config, validate

Duration = int | float  # an int counts updates, a float is a fraction of the run


def in_steps(duration: Duration, steps: int) -> int:
    """A duration in updates, rounded down as the release rounds its warm-up."""
    return int(steps * duration) if isinstance(duration, float) else duration


class Group(Config):
    """Parameters that are trained in a way of their own."""

    match: str  # regular expression that the parameter's name begins with, such as layers\\.[0-5]\\.
    rate: float = Field(1.0, ge=0)  # times the schedule's rate: layer-wise rates, faster heads
    decay: bool = True  # weight decay, on what has it by the release's rule (not layer norms and biases)
    frozen: bool = False  # neither trained nor given moments

    @field_validator("match")
    @classmethod
    def _compiles(cls, match: str) -> str:
        try:
            re.compile(match)
        except re.error as error:
            raise ValueError(f"{match!r} is no regular expression: {error}") from None
        return match


class EngineConfig(Config):
    """Optimiser, schedule, events and parallelism of one run. Defaults of the optimiser are the UNIMO release's."""

    # How long: exactly one of the two. A run writes the updates that epochs come to, and goes on by them.
    steps: int | None = Field(None, gt=0)  # optimiser updates of the whole run: the T of the schedules
    epochs: float | None = Field(None, gt=0, allow_inf_nan=False)  # passes over the one stream
    accumulate: int = Field(1, ge=1)  # micro-batches per update that the data hands out on each rank
    seed: int = Field(1, ge=0, lt=2**32)  # order, masks, negatives, dropout

    learning_rate: float = Field(gt=0)  # the base of the schedule
    schedule: Literal["linear_warmup_decay", "piecewise", "noam", "constant"] = "linear_warmup_decay"
    # Length of the schedule, in lengths of the run. The release plans GLUE's for one GPU and trains on eight, so that
    # its runs end after an eighth of their schedule: half of them is warm-up, and the rate stays near the base.
    horizon: float = Field(1.0, ge=1, allow_inf_nan=False)
    warmup: Duration = Field(0.06, ge=0)  # updates, or a fraction of the schedule; linear_warmup_decay and noam
    boundaries: tuple[Duration, ...] = ()  # where piecewise multiplies by decay_factor; updates or fractions
    decay_factor: float = Field(0.1, gt=0)
    weight_decay: float = Field(0.01, ge=0)  # not on layer norms and biases
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.98, ge=0, lt=1)  # the release: 0.98 everywhere but SNLI-VE, 0.999
    epsilon: float = Field(1e-6, gt=0)
    clip_norm: float = Field(1.0, gt=0)  # of the gradient over all parameters
    groups: tuple[Group, ...] = ()  # none: all alike; else each parameter must match exactly one
    compat: Compat = Compat()
    # A model folder that `unimo port convert --optimizer` made of a training checkpoint: a new run takes its moments
    # and goes on in the schedule at its step. The data starts from the beginning, as it does in the release.
    continue_from: str | None = None

    log_every: int = Field(10, gt=0)  # updates
    save_every: int = Field(1000, gt=0)  # updates; a checkpoint is also written at the end and on SIGTERM
    keep_last: int = Field(2, gt=0)  # checkpoints; the best one is kept besides
    eval_every: int = Field(0, ge=0)  # updates; 0: no evaluation while training
    best_metric: str | None = None  # of those evaluations, for the checkpoint that is kept; null: the task's own
    best: Literal["highest", "lowest"] = "highest"
    patience: int = Field(0, ge=0)  # evaluations in a row without a better one that end the run; 0: never

    reader_threads: int = Field(1, ge=0)  # threads that make batches ahead; 0: the loop makes each when it is due
    read_ahead: int = Field(2, gt=0)  # updates that they are ahead at most

    amp: Literal["none", "bfloat16", "float16"] = "none"  # autocast level O1, GPU only; float16 scales the loss
    sharding: Literal[0, 1] = 0  # 1: each process keeps the moments of a part of the parameters (ZeRO stage 1)
    hang_timeout: float = Field(1800.0, gt=0)  # seconds; a rank stuck so long ends with an error (gloo: 30 in a step)

    @model_validator(mode="after")
    def _combination(self) -> "EngineConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"give exactly one of steps ({self.steps}) and epochs ({self.epochs})")
        if (self.schedule == "piecewise") != bool(self.boundaries):
            raise ValueError("boundaries are given exactly when schedule is piecewise")
        marks = [in_steps(b, self.steps) for b in self.boundaries] if self.steps else []
        if marks != sorted(set(marks)):
            raise ValueError(f"boundaries must ascend, in updates they are {marks}")
        if (self.patience or self.best_metric) and not self.eval_every:
            raise ValueError("best_metric and patience are about evaluations on the way, so they need eval_every")
        return self

    @property
    def updates(self) -> int:
        """`steps` of a run whose epochs, if it was given in those, `over` has turned into them."""
        assert self.steps is not None  # `loop.train` refuses any other
        return self.steps

    @property
    def planned(self) -> int:
        """Updates that the schedule is made for: those of the run, or more."""
        return round(self.updates * self.horizon)

    def over(self, updates_per_epoch: Callable[[], float]) -> "EngineConfig":
        """The same in updates, for data of which one pass takes so many; raises a ConfigError as any config does."""
        if self.epochs is None:
            return self
        steps = max(1, math.ceil(self.epochs * updates_per_epoch() - 1e-6))
        return validate(EngineConfig, {**self.model_dump(), "steps": steps, "epochs": None}, f"{self.epochs:g} epochs")
