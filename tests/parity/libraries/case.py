"""One comparison with another library: what is compared, and how far apart the two sides are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TOLERANCE = 1e-5  # of the largest activation: float32 products of depth 768 differ by a few 1e-5 between machines


@dataclass(frozen=True)
class Result:
    """How far ours is from theirs: the largest difference as a share of the largest activation, and every argmax."""

    difference: float  # 0 is bit-equal; nan where the two cannot be compared
    same_argmax: bool

    @property
    def passed(self) -> bool:
        return self.difference <= TOLERANCE and self.same_argmax  # False for nan


@dataclass(frozen=True)
class Case:
    """A row of the table. `run` gets an empty folder for its files and may take a minute."""

    name: str
    format: str
    direction: str  # "theirs -> ours", "ours -> theirs", "there and back"
    library: str  # with its version
    sizes: str
    run: Callable[[Path], Result]


def compare(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> Result:
    """Activations by name, each [..., width]: the worst of them, relative to the largest of its own; argmax by row."""
    worst, same = 0.0, ours.keys() == theirs.keys() and bool(ours)
    for name in theirs.keys() & ours.keys():
        a, b = ours[name].astype(np.float64), theirs[name].astype(np.float64)
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return Result(float("nan"), False)
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
        same = same and bool((a.argmax(-1) == b.argmax(-1)).all())
    return Result(worst, same)


def compare_bits(after: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> Result:
    """Tensors that went there and back: 0 if names, data types, shapes and every bit are the same, else nan."""
    same = after.keys() == before.keys() and all(
        after[n].dtype == before[n].dtype
        and after[n].shape == before[n].shape
        and np.ascontiguousarray(after[n]).tobytes() == np.ascontiguousarray(before[n]).tobytes()
        for n in before
    )
    return Result(0.0 if same else float("nan"), same)
