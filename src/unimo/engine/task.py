"""What the engine trains: a task computes losses, a data object hands out batches. Everything else is the loop's."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from paddle import Tensor, nn

from unimo.engine import checkpoint
from unimo.engine.distributed import World
from unimo.errors import ConfigError
from unimo.readers.batching import Batch
from unimo.storage.safetensors_writer import DTYPES


class Task(nn.Layer):
    """A model, the objectives it is trained by, and whatever training needs besides. Override what a task has.

    Attributes:
        model: owns every trained parameter; it alone makes the model folder.
        weights: objective -> weight of its mean loss.
        world: the processes of the run; set by the engine before the first batch. `world.all_rows(x)` gives the rows of
            all of them, with gradient.
    """

    model: nn.Layer
    weights: Mapping[str, float]

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def items(self, batch: Batch) -> Mapping[str, int]:
        """Objective -> items that its summed loss runs over. Read off the arrays, before any forward pass, so that the
        sum over all micro-batches and ranks is known when the first loss is scaled."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """Objective -> loss summed over its items. It may call `paddle.grad` (adversarial perturbations)."""
        raise NotImplementedError

    def kept(self) -> Mapping[str, nn.Layer]:
        """What training needs and a model folder does not, such as a momentum teacher, by name. Its parameters take no
        gradient; they and its buffers are saved in task.safetensors and restored bit-equal. It stays in the mode, train
        or eval, that the task put it in."""
        return {}

    def observed(self) -> Mapping[str, float]:
        """What the log says of the task beside its losses, such as a temperature. Every rank calls it."""
        return {}

    def before_update(self, batches: Sequence[Batch]) -> None:
        """Called with all micro-batches of an update before the first forward pass: a contrast may see them all."""

    def after_update(self, step: int) -> None:
        """Called on every rank once the weights of update `step` (counted from 1) are in place. An update that a loss
        scaler skips has none."""


class Data(Protocol):
    """Where batches come from. Every rank has its own; all give micro-batches of the same stream in an update."""

    fingerprint: str  # changes when samples or their order do

    def next(self) -> list[Batch]:
        """The micro-batches of the next update, for this rank."""
        ...

    def state(self) -> dict[str, Any]:
        """The position, as JSON."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a position that `state` gave."""
        ...


def check_parameters(task: Task) -> None:
    """Raise a ConfigError that names every parameter or buffer that would be lost, saved twice or wrongly, or trained
    although it is kept."""
    trained, kept = task.model.state_dict(), checkpoint.joined(task.kept())
    owned = {id(tensor) for tensor in trained.values()}
    held = owned | {id(tensor) for tensor in kept.values()}
    outside = [name for name, tensor in task.state_dict().items() if id(tensor) not in held]
    twice = sorted(name for name, tensor in kept.items() if id(tensor) in owned)
    following = [
        f"{key}.{name}"
        for key, layer in task.kept().items()
        for name, p in layer.named_parameters()
        if not p.stop_gradient
    ]
    strange = [f"{name} ({t.dtype})" for name, t in (trained | kept).items() if checkpoint.dtype_of(t) not in DTYPES]
    if outside:
        raise ConfigError(f"parameters outside of task.model would be neither trained nor saved: {outside}")
    if twice:
        raise ConfigError(f"parameters of task.model are kept besides, which would save them twice: {twice}")
    if following:
        raise ConfigError(f"kept parameters take no gradient; set stop_gradient of {following}")
    if strange:
        raise ConfigError(f"checkpoints hold {', '.join(DTYPES)}; these are of another type: {strange}")
