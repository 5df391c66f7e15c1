"""What turns a picture into regions: the contract that every extractor keeps."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from unimo.errors import DataError
from unimo.readers.feature_store import RegionRecord


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


def extracted_from(image_id: str, picture: np.ndarray | DataError, extract: Extractor) -> RegionRecord | DataError:
    """What the store keeps of a picture [height, width, 3], or why it cannot be decoded."""
    return picture if isinstance(picture, DataError) else record_of(image_id, picture, extract(picture))


def record_of(image_id: str, picture: np.ndarray, found: Regions) -> RegionRecord:
    """What the store keeps of a picture [height, width, 3] and the regions found in it."""
    height, width = picture.shape[:2]
    arrays = (found.features, found.boxes, found.classes, found.scores, found.class_probs, found.attributes)
    return RegionRecord(image_id, width, height, *arrays)
