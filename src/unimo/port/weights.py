"""Foreign tensors -> parameters of a model: all that is missing or misshapen is found before anything is set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from paddle import nn

from unimo.errors import CheckpointError

Table = Mapping[str, tuple[str, ...]]  # our parameter -> the foreign tensors that, joined along the last axis, make it


class Stored(Protocol):
    """A tensor of a foreign file, in our layout (affine maps [in, out]), whose values are read only when asked for."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Report:
    """What a foreign checkpoint gave to a model and what it did not."""

    mapped: Table
    unused: tuple[str, ...]  # tensors that the model has no place for
    missing_heads: tuple[str, ...]  # parts of the model that the checkpoint does not hold; they start at random
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report for people, one fact a line."""
        lines = [f"loaded {sum(map(len, self.mapped.values()))} tensors into {len(self.mapped)} parameters"]
        if self.unused:
            lines.append(f"not used ({len(self.unused)}): {', '.join(self.unused)}")
        if self.missing_heads:
            lines.append(f"not in the checkpoint, starting at random: {', '.join(self.missing_heads)}")
        return lines + list(self.notes)


def problems(model: nn.Layer, table: Table, stored: Mapping[str, Stored | CheckpointError]) -> list[str]:
    """All that keeps `stored` from filling `table`: missing, damaged (an error in its place), of another shape."""
    parameters, found = dict(model.named_parameters()), []
    for ours, names in table.items():
        *leading, last = parameters[ours].shape
        expected = (*leading, last // len(names))
        for name in names:
            tensor = stored.get(name)
            if tensor is None:
                found.append(f"{name}: missing, expected {list(expected)}")
            elif isinstance(tensor, CheckpointError):
                found.append(str(tensor))
            elif tensor.shape != expected:
                found.append(f"{name}: shape {list(tensor.shape)}, expected {list(expected)}")
            elif tensor.dtype.kind != "f":
                found.append(f"{name}: data type {tensor.dtype.name}, expected a floating one")
    return found


def fill(model: nn.Layer, table: Table, stored: Mapping[str, Stored]) -> None:
    """Set the parameters of `table`, one at a time, so that a large checkpoint is never in memory twice."""
    parameters = dict(model.named_parameters())
    for ours, names in table.items():
        parts = [stored[name].read() for name in names]
        value = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        parameters[ours].set_value(value.astype(np.float32, copy=False))


def split(model: nn.Layer, table: Table) -> dict[str, np.ndarray]:
    """The inverse of `fill`: parameters cut into the foreign tensors they were joined from."""
    parameters = dict(model.named_parameters())
    return {
        name: part
        for ours, names in table.items()
        for name, part in zip(names, np.split(parameters[ours].numpy(), len(names), axis=-1), strict=True)
    }
