"""Foreign tensors <-> our parameters by name tables: lazily, so that a conversion holds one tensor at a time."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from paddle import nn

from unimo.errors import CheckpointError

Table = Mapping[str, tuple[str, ...]]  # our parameter -> the foreign tensors that, joined along its last axis, make it


class Stored(Protocol):
    """A tensor whose header is known and checked, and whose values are read when asked for, not before."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes by the header."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of what `read` gives, which is that of the file but for bfloat16, read as float32."""
        ...

    def read(self) -> np.ndarray:
        """The values, perhaps as a read-only view of the file. Raises CheckpointError where they are damaged."""
        ...


@dataclass(frozen=True)
class Lazy:
    """A tensor that is computed from others when it is read."""

    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]
    dtype: np.dtype = np.dtype(np.float32)

    def read(self) -> np.ndarray:
        """Compute the values, anew each time."""
        return self.make()


def of_array(array: np.ndarray) -> Lazy:
    """A tensor in memory as a stored one."""
    return Lazy(array.shape, lambda: array, array.dtype)


def shapes_of(model: nn.Layer) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter by name."""
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def linear_weights(model: nn.Layer) -> set[str]:
    """Our parameters that torch keeps the other way round: weights of affine maps, here [in, out], there [out, in]."""
    return {f"{name}.weight" for name, layer in model.named_sublayers() if isinstance(layer, nn.Linear)}


def problems(
    table: Table,
    stored: Mapping[str, Stored | CheckpointError],
    shapes: Mapping[str, tuple[int, ...]],
    transposed: Container[str] = (),
) -> list[str]:
    """All that keeps `stored` from making `table`: missing, damaged (an error in its place), of another shape."""
    found = []
    for ours, names in table.items():
        *leading, last = shapes[ours]
        expected = [*leading, last // len(names)]
        if ours in transposed:
            expected.reverse()
        for name in names:
            tensor = stored.get(name)
            if tensor is None:
                found.append(f"{name}: missing, expected {expected}")
            elif isinstance(tensor, CheckpointError):
                found.append(str(tensor))
            elif list(tensor.shape) != expected:
                found.append(f"{name}: shape {list(tensor.shape)}, expected {expected}")
            elif tensor.dtype.kind != "f":
                found.append(f"{name}: data type {tensor.dtype.name}, expected a floating one")
    return found


def refuse(source: Any, wrong: list[str]) -> None:
    """Raise one CheckpointError that lists all that is wrong with `source`, if anything is."""
    if wrong:
        raise CheckpointError(f"{source} does not fit the model: {len(wrong)} problem(s)\n  - " + "\n  - ".join(wrong))


def undamaged(stored: Mapping[str, Stored | CheckpointError]) -> dict[str, Stored]:
    """Those that can be read."""
    return {name: tensor for name, tensor in stored.items() if not isinstance(tensor, CheckpointError)}


def gather(
    table: Table, stored: Mapping[str, Stored], shapes: Mapping[str, tuple[int, ...]], transposed: Container[str] = ()
) -> dict[str, Stored]:
    """Our parameters, float32, made of foreign tensors in which `problems` found nothing wrong.

    Args:
        transposed: our parameters whose foreign tensors are kept [out, in].
    """
    return {
        ours: Lazy(shapes[ours], _join([stored[name] for name in names], ours in transposed))
        for ours, names in table.items()
    }


def _join(parts: list[Stored], transposed: bool) -> Callable[[], np.ndarray]:
    def make() -> np.ndarray:
        arrays = [part.read().T if transposed else part.read() for part in parts]
        return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays, -1)).astype(np.float32, copy=False)

    return make


def scatter(table: Table, ours: Mapping[str, Stored], transposed: Container[str] = ()) -> dict[str, Stored]:
    """The inverse of `gather`: our parameters cut into the foreign tensors that make them."""
    found: dict[str, Stored] = {}
    for name, theirs in table.items():
        *leading, last = ours[name].shape
        width = last // len(theirs)
        shape = (width, *leading) if name in transposed else (*leading, width)
        for i, foreign in enumerate(theirs):
            found[foreign] = Lazy(shape, _cut(ours[name], slice(i * width, (i + 1) * width), name in transposed))
    return found


def _cut(whole: Stored, part: slice, transposed: bool) -> Callable[[], np.ndarray]:
    return lambda: whole.read()[..., part].T if transposed else whole.read()[..., part]


def finite(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """The same tensors, of which reading one with a NaN or an infinite value raises a CheckpointError."""
    return {name: Lazy(tensor.shape, _checked(name, tensor), tensor.dtype) for name, tensor in tensors.items()}


def _checked(name: str, tensor: Stored) -> Callable[[], np.ndarray]:
    def make() -> np.ndarray:
        array = tensor.read()
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):  # both carry a NaN on
            bad = array.size - np.count_nonzero(np.isfinite(array))
            raise CheckpointError(
                f"{name}: {bad} of {array.size} values are not finite; the file is damaged or of a run that diverged"
            )
        return array

    return make


def fill(model: nn.Layer, tensors: Mapping[str, Stored]) -> None:
    """Set parameters, one at a time, so that a large checkpoint is never in memory twice."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameters[name].set_value(np.ascontiguousarray(tensor.read()))


def values_of(model: nn.Layer) -> dict[str, Stored]:
    """A model's parameters as stored tensors; a write starts from these."""
    return {name: Lazy(tuple(p.shape), p.numpy) for name, p in model.named_parameters()}
