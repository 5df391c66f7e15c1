"""What runs a convolutional network: Paddle's inference engine on a CPU, where it is faster, dygraph elsewhere."""

from collections.abc import Callable, Sequence
from functools import cached_property

import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from unimo.errors import ConfigError
from unimo.hardware import compute_in_one_thread
from unimo.inference import Precision, check_processor, traced


class Backbone:
    """A layer in evaluation, [n, C, h, w] -> [n, D, h', w'], traced at the first call and computing in one thread.

    The first call, too, is the engine's, however few follow: equal pictures give equal bits in every run and part.

    Args:
        shape: of what it reads. n is the most at once, and the engine gets as many always, zeros among them: for each n
            that it meets it would keep a copy of the weights.
        precision: of the engine's products; `check` tells what can be had.
    """

    def __init__(self, layer: nn.Layer, shape: Sequence[int], precision: Precision = "float32"):
        self._layer, self._shape, self._bfloat16 = layer, shape, precision == "bfloat16"

    def __call__(self, maps: Tensor) -> Tensor:
        """What the layer gives; the next call overwrites it. [m, C, h, w], m up to n -> [m, D, h', w']"""
        return self._run(maps)

    @cached_property
    def _run(self) -> Callable[[Tensor], Tensor]:
        if not _on_cpu():
            return self._layer
        inputs = [InputSpec(self._shape, "float32", "maps")]
        run = traced(_Listed(self._layer), inputs, self._bfloat16, threads=compute_in_one_thread())

        def filled_up(maps: Tensor) -> Tensor:
            count, (most, *shape) = len(maps), self._shape
            if count == most:
                return run([maps])[0]
            return run([paddle.concat([maps, paddle.zeros([most - count, *shape])])])[0][:count]

        return filled_up


def check(precision: Precision) -> None:
    """Raise a ConfigError for a precision that this processor, or the device that Paddle computes on, does not have."""
    if precision != "float32" and not _on_cpu():
        raise ConfigError(f"precision {precision} is of a CPU, this process computes on {paddle.get_device()}")
    check_processor(precision)


def _on_cpu() -> bool:
    return paddle.get_device() == "cpu"


class _Listed(nn.Layer):
    """A layer as `inference.write_graph` takes it: one list of tensors -> a list of one."""

    def __init__(self, layer: nn.Layer):
        super().__init__()
        self.layer = layer

    def forward(self, given: list[Tensor]) -> list[Tensor]:
        return [self.layer(*given)]
