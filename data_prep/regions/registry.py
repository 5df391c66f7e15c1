"""The extractors by name: what each needs is imported when it is made."""

from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from data_prep.regions.extractor import Extractor
from data_prep.stage import restore_signals
from unimo.errors import ConfigError


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
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Extractor:
    from data_prep.regions.butd import BottomUpAttention

    return BottomUpAttention(model_dir, selection, min_boxes, max_boxes, threshold, class_names, precision)


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
