"""What turns a picture into regions: the contract that every extractor keeps."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of one picture, best first."""

    boxes: np.ndarray  # [n, 4] float32, pixels: x1, y1, x2, y2
    classes: np.ndarray  # [n] int64, index into class_names, 0 = background
    scores: np.ndarray  # [n] float32
    features: np.ndarray  # [n, D] float32
    class_probs: np.ndarray | None = None  # [n, C] float32, rows sum to 1
    attributes: np.ndarray | None = None  # [n] int64, 0 = none


class Extractor(Protocol):
    """A network with its choice of boxes. Equal pictures give equal regions, whatever came before."""

    feature_dim: int
    class_names: list[str]
    description: dict[str, Any]  # name, version and whatever else must not differ within one store
    packages: list[dict[str, str]]  # `Package.record()` of each archive used

    @property
    def threads(self) -> int | None:
        """Of the network, fixed; None where any number gives the same bytes."""
        ...

    def __call__(self, picture: np.ndarray) -> Regions:
        """picture [h, w, 3] uint8 RGB. One call at a time; what it gives is not touched by the next one."""
        ...
