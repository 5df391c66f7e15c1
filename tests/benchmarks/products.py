"""What the matrix products of a model's training step take, and how fast this process does one that is large."""

import time
from statistics import median
from typing import Any

SIDE = 2048


def count_products(model: Any, counted: list[float]) -> None:
    """Add to a list what the products of each layer of a UNIMO that runs from now on take, in 1e9 operations.

    2 m n k for a product of the forward pass; its backward pass takes two more, one where the input needs no gradient.
    """
    from paddle import nn

    def linear(layer: Any, inputs: tuple, output: Any) -> None:
        passes = 2 if inputs[0].stop_gradient else 3
        counted.append(passes * 2e-9 * inputs[0].size * layer.weight.shape[1])

    def attention(layer: Any, inputs: tuple, output: Any) -> None:  # logits and contexts; its affine maps are linear
        counted.append(3 * 2 * 2e-9 * inputs[0].size * inputs[0].shape[1])

    def words(layer: Any, inputs: tuple, output: Any) -> None:
        counted.append(3 * 2e-9 * inputs[0].size * inputs[1].shape[0])

    hooks = {"Attention": attention, "MaskedLMHead": words}
    for layer in model.sublayers():
        if hook := linear if isinstance(layer, nn.Linear) else hooks.get(type(layer).__name__):
            layer.register_forward_post_hook(hook)


def product_rate() -> float:
    """1e9 operations a CPU second of a float32 product of SIDE x SIDE x SIDE, the median of seven after two."""
    import paddle

    a, seconds = paddle.randn([SIDE, SIDE]), []
    for _ in range(9):
        started = time.process_time()
        paddle.matmul(a, a)
        seconds.append(time.process_time() - started)
    return 2e-9 * SIDE**3 / median(seconds[2:])
