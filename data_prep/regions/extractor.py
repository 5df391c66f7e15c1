"""What turns a picture into regions: the contract that every extractor keeps, and the extractors by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from data_prep.stage import restore_signals
from unimo.errors import ConfigError


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

    def __call__(self, picture: np.ndarray) -> Regions:
        """picture [h, w, 3] uint8 RGB."""
        ...


def _opencv_ssd(
    min_boxes: int = 10, max_boxes: int = 36, threshold: float = 0.2, cache: Path | None = None
) -> Extractor:
    from data_prep.regions.opencv import OpenCVExtractor

    return OpenCVExtractor(min_boxes, max_boxes, threshold, cache)


def _resnet50(min_boxes: int = 10, max_boxes: int = 36, threshold: float = 0.2, cache: Path | None = None) -> Extractor:
    from data_prep.regions.opencv import ResNetExtractor

    return ResNetExtractor(min_boxes, max_boxes, threshold, cache)


def _grid(model_dir: Path | None = None, cache: Path | None = None) -> Extractor:
    from data_prep.regions.grid import PatchGrid, ResNetGrid

    return PatchGrid(model_dir) if model_dir else ResNetGrid(cache)


def _paddlex(
    model_dir: Path, min_boxes: int = 10, max_boxes: int = 36, threshold: float = 0.2, cache: Path | None = None
) -> Extractor:
    from data_prep.regions.paddlex import PaddleXExtractor

    return PaddleXExtractor(model_dir, min_boxes, max_boxes, threshold, cache)


def _butd(
    model_dir: Path,
    selection: Literal["original", "lxmert"] = "original",
    min_boxes: int = 10,
    max_boxes: int = 100,
    threshold: float | None = None,
    class_names: Path | None = None,
) -> Extractor:
    from data_prep.regions.butd import BottomUpAttention

    return BottomUpAttention(model_dir, selection, min_boxes, max_boxes, threshold, class_names)


# A factory's arguments are the options of the command that it has a use for, with their defaults.
EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "opencv-ssd": _opencv_ssd,
    "resnet50": _resnet50,
    "grid": _grid,
    "paddlex": _paddlex,
    "butd": _butd,
}


def make(name: str, options: Mapping[str, Any]) -> Extractor:
    """The extractor of this name with the options that are not None.

    Raises:
        ConfigError: no such name, options that it has no use for or needs, or --min-boxes above --max-boxes.
        DataError: its weights cannot be had or are not what they should be.
    """
    if name not in EXTRACTORS:
        raise ConfigError(f"there is no extractor {name!r}; expected one of {', '.join(EXTRACTORS)}")
    known = signature(EXTRACTORS[name]).parameters
    given = {key: value for key, value in options.items() if value is not None}
    problems = [f"{_flag(key)} does nothing with it" for key in given if key not in known]
    problems += [f"{_flag(key)} is missing" for key, p in known.items() if p.default is p.empty and key not in given]
    bounds = {key: given.get(key, p.default) for key, p in known.items()}
    if "max_boxes" in bounds and bounds["min_boxes"] > bounds["max_boxes"]:
        problems.append(f"--min-boxes ({bounds['min_boxes']}) is above --max-boxes ({bounds['max_boxes']})")
    if problems:
        raise ConfigError(f"--extractor {name}: {'; '.join(problems)}")
    extractor = EXTRACTORS[name](**given)
    restore_signals()
    return extractor


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")
