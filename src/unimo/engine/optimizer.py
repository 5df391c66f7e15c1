"""AdamW with the release's exclusions, global-norm clipping, and a state keyed by parameter name."""

import math
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn.clip import ClipGradBase, _squared_l2_norm
from paddle.utils import unique_name

from unimo.engine.adamw import AdamW
from unimo.engine.distributed import World, batch_statistics
from unimo.engine.settings import EngineConfig, Group
from unimo.errors import ConfigError, NonFiniteError

STATE = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")  # what Paddle's AdamW keeps per parameter


def decays(name: str) -> bool:
    """Whether weight decay applies: to everything, embedding tables too, but layer norms and biases."""
    parts = name.split(".")
    return parts[-1] != "bias" and not any(part.endswith("norm") for part in parts)


def assign(model: nn.Layer, groups: Sequence[Group]) -> set[str]:
    """Freeze parameters and set their share of the rate as their group says.

    Returns:
        Names of the parameters that weight decay applies to.

    Raises:
        ConfigError: naming every parameter that matches no group or several, every group that matches none, or
            because nothing is left to train.
    """
    if not groups:
        return {name for name, _ in model.named_parameters() if decays(name)}
    problems, idle, decayed = [], {group.match for group in groups}, set()
    statistics = {id(tensor) for tensor in batch_statistics(model)}
    for name, parameter in model.named_parameters():
        if id(parameter) in statistics:
            continue
        fitting = [group for group in groups if re.match(group.match, name)]
        idle -= {group.match for group in fitting}
        if len(fitting) != 1:
            matches = " and ".join(repr(group.match) for group in fitting)
            problems.append(f"{name}: {f'matches {matches}' if matches else 'matches none'}, expected exactly one")
            continue
        (group,) = fitting
        parameter.stop_gradient = group.frozen
        parameter.optimize_attr["learning_rate"] = group.rate
        if group.decay and decays(name):
            decayed.add(name)
    problems += [f"{match!r}: no parameter's name begins like this" for match in sorted(idle)]
    if all(parameter.stop_gradient for parameter in model.parameters()):
        problems.append("every parameter is frozen")
    if problems:
        raise ConfigError("engine.groups\n  - " + "\n  - ".join(problems))
    return decayed


class ClipByGlobalNorm(ClipGradBase):
    """Scale all gradients by max_norm / max(norm, max_norm) and remember the norm before it.

    Paddle's own class is not used because the norm is logged, and must stop the run before the update if it is not
    finite.

    Attributes:
        settle: sum of the squares that this rank holds -> that of all gradients; under sharding a rank has a part.
    """

    def __init__(self, max_norm: float):
        super().__init__()
        self.max_norm, self.norm = max_norm, 0.0
        self.settle: Callable[[Tensor], float] = float

    @paddle.no_grad()
    def _dygraph_clip(self, params_grads: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        # Paddle's helper, because its public norm and dot are off by a tenth on 4e7 float32 elements (CPU, 3.3.1)
        squares = [_squared_l2_norm(g.astype("float32")) for _, g in params_grads]  # none: a rank without a parameter
        square = paddle.stack(squares).astype("float64").sum() if squares else paddle.zeros([], "float64")
        self.norm = math.sqrt(self.settle(square))
        if not math.isfinite(self.norm):
            raise NonFiniteError(f"the gradient norm is {self.norm}")
        if self.norm > self.max_norm:
            for _, g in params_grads:
                g.scale_(self.max_norm / self.norm)
        return params_grads


class Optimizer:
    """Paddle's AdamW over the trainable parameters of a model, wrapped by fleet where there are several processes.

    A parameter that a step did not touch (a head of another stream) gets a zero gradient: its moments decay and its
    weights still move by them. That is the plain AdamW of the total loss, and the only rule that is the same for one
    process, for data parallelism, for sharding and after a resume.
    """

    def __init__(self, model: nn.Layer, config: EngineConfig, world: World):
        with_decay = assign(model, config.groups)
        self.parameters = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
        decayed = {p.name for name, p in self.parameters.items() if name in with_decay}
        self.world, self.sharded = world, bool(config.sharding) and world.size > 1
        self.clip = ClipByGlobalNorm(config.clip_norm)
        self.adamw = AdamW(
            learning_rate=config.learning_rate,
            beta1=config.beta1,
            beta2=config.beta2,
            epsilon=config.epsilon,
            parameters=list(self.parameters.values()),
            weight_decay=config.weight_decay,
            apply_decay_param_fun=decayed.__contains__,
            grad_clip=self.clip,
            fluid_epsilon=config.compat.adam_epsilon == "fluid-1.8",
        )
        self.outer = world.distributed_optimizer(self.adamw)
        held = {p.name for p in self.adamw._parameter_list if isinstance(p, Tensor)}  # after wrapping: this rank's part
        parts = world.gather([name for name, p in self.parameters.items() if p.name in held])
        self.owner = {name: rank for rank, names in reversed(list(enumerate(parts))) for name in names}

    def step(self, rate: float, scaler: paddle.amp.GradScaler, settle: Callable[[Tensor], float] | None = None) -> bool:
        """One update with the accumulated gradients, which are dropped after it.

        Args:
            settle: see ClipByGlobalNorm; called once, when the gradients are final and no weight is changed yet, unless
                a loss scaler found an overflow. By default a rank goes by what it holds.

        Returns:
            Whether weights were updated: a loss scaler that finds an overflow skips the update.

        Raises:
            NonFiniteError: the gradient norm is inf or nan; nothing was updated.
        """
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = paddle.zeros_like(parameter)
        self.adamw.set_lr(rate)
        self.clip.settle = settle or float
        taken = self.adamw.taken
        with unique_name.guard():  # the first step names the moments: always as in `_automatic`
            scaler.step(self.outer)
        scaler.update()
        for parameter in self.parameters.values():
            parameter.clear_gradient(set_to_zero=False)  # freed, so that the next backward pass need not add to it
        return self.adamw.taken > taken

    def shapes(self) -> dict[str, list[int]]:
        """Name and shape of every float32 tensor of the state, in the order of `state`."""
        return {
            f"{name}.{kind}": [1] if kind.endswith("pow_acc") else list(p.shape)
            for name, p in self.parameters.items()
            for kind in STATE
        }

    def state(self) -> Iterator[np.ndarray]:
        """The tensors of `shapes`, one at a time. Every rank must run through it: a rank sends what it owns."""
        local = self.adamw.state_dict()
        for key, shape in self.shapes().items():
            name, kind = key.rsplit(".", 1)
            tensor = local.get(self._automatic(name, kind))
            array = self._untouched(kind, shape) if tensor is None else tensor.numpy().reshape(shape)
            yield self.world.broadcast_array(array, shape, self.owner[name]) if self.sharded else array

    def restore(self, state: Iterator[np.ndarray]) -> None:
        """Take what `state` gave; rank 0 has the arrays, the others receive them (their iterator is not used)."""
        local = {}
        for key, shape in self.shapes().items():
            name, kind = key.rsplit(".", 1)
            array = self.world.broadcast_array(next(state) if self.world.rank == 0 else None, shape, source=0)
            if kind == "beta2_pow_acc":
                self.adamw.power2 = np.float32(array.item())
            if self.owner[name] == self.world.rank or not self.sharded:
                local[self._automatic(name, kind)] = paddle.to_tensor(array, place=paddle.CPUPlace())
        self.adamw.set_state_dict(local)

    def _untouched(self, kind: str, shape: list[int]) -> np.ndarray:
        """What is kept of a parameter before its first update, which a loss scaler may have skipped."""
        powers = {"beta1_pow_acc": self.adamw._beta1, "beta2_pow_acc": self.adamw._beta2}
        return np.full(shape, powers.get(kind, 0.0), np.float32)

    def _automatic(self, name: str, kind: str) -> str:
        return f"{self.parameters[name].name}_{kind}_0"
