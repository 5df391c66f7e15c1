"""What an exported part is: named tensors in, named tensors out, of which lengths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from paddle import Tensor

Tensors = dict[str, Tensor]
Dtype = Literal["float32", "int64"]
Shapes = dict[str, tuple[Dtype, tuple[str | int, ...]]]  # name -> dtype, lengths or their names ("a+b" is a sum)


@dataclass(frozen=True)
class Part:
    """One graph of a system: what it computes of its named inputs, and their shapes."""

    heads: tuple[str, ...]  # without which it cannot be
    compute: Callable[[Any, Tensors], Tensors]  # of the model
    inputs: Callable[[Any], Shapes]  # of its sizes
    outputs: Callable[[Any, Sequence[str]], Shapes]  # of its sizes and heads
    constants: Callable[[Any], Tensors] = lambda model: {}  # further weights that the graph keeps beside the model's
