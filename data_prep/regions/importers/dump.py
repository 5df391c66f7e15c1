"""What every foreign format holds of an image, and its way into a record: size order, box normalisation, checks."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from unimo.errors import DataError
from unimo.readers.feature_store import RegionRecord

CANVAS = 1000  # pixels a side of an image whose size nobody tells: shares of it, which models see, stay what they are
_SLACK = 0.01  # of the image's side that a box may stick out, by rounding; it is clipped
_GEOMETRY = 0.02  # by which columns that follow from others may differ from them: float16 and rounding
_SMALL = 2.0  # pixels: an image all of whose boxes end before this, and that is larger, is not in pixels


class OutsideError(DataError):
    """Boxes and image size do not fit together; many of them mean a wrong option."""


@dataclass(eq=False)
class Dump:
    """One image as a foreign file holds it; n is the number of its regions."""

    features: np.ndarray  # [n, D]
    boxes: np.ndarray  # [n, 4..7]: x1, y1, x2, y2, then area, or w, h, or w, h and area
    size: tuple[int, int] | None = None  # width and height in pixels
    classes: np.ndarray | None = None  # [n], 0 = background
    scores: np.ndarray | None = None  # [n]
    class_probs: np.ndarray | None = None  # [n, C], background first


Item = tuple[str, Callable[[], Dump]]  # image id, and what reads the rest or raises DataError


@dataclass(frozen=True)
class Layout:
    """What of the target store a record must fit, and how the source counts.

    Args:
        with_probs: class probabilities are stored; else they are but the source of classes and scores.
        swapped: the source's size fields are height and width where its format says width and height, or vice versa.
        normalised: boxes are shares of the image's sides, else pixels.
        sizes: image id -> (width, height), for formats that do not hold it.
    """

    feature_dim: int
    classes: int
    with_probs: bool
    swapped: bool
    normalised: bool
    sizes: Mapping[str, tuple[int, int]]


def base64_array(text: str | bytes, rows: int, name: str, dtype: str = "<f4") -> np.ndarray:
    """[rows, k] of a base64 string. Raises DataError where it is cut short or is no base64."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{name} is not base64, or cut short ({error})") from error
    row = rows * np.dtype(dtype).itemsize
    if not row or not content or len(content) % row:
        raise DataError(f"{name} has {len(content)} bytes, which are not whole {dtype} rows of {rows} boxes")
    return np.frombuffer(content, dtype).reshape(rows, -1)


def whole_number(text: str | int, name: str) -> int:
    """A count or a side in pixels, from 1 to a million."""
    try:
        number = int(float(text))
    except (TypeError, ValueError, OverflowError):
        number = 0
    if not 1 <= number <= 1_000_000:
        raise DataError(f"{name} is {text!r}, expected a number from 1 to 1000000")
    return number


def without_padding(dump: Dump) -> tuple[Dump, int]:
    """The regions of an image without rows of zeros in a box of no area, and how many those were.

    Raises:
        DataError: nothing but such rows.
    """
    n = len(dump.features)
    columns = (dump.classes, dump.scores, dump.class_probs)
    whole = all(column is None or len(column) == n for column in columns)
    if (
        not n
        or dump.features.ndim != 2
        or dump.boxes.ndim != 2
        or dump.boxes.shape[1] < 4
        or len(dump.boxes) != n
        or not whole
    ):
        return dump, 0  # to_record says what is wrong
    flat = (dump.boxes[:, 0] == dump.boxes[:, 2]) | (dump.boxes[:, 1] == dump.boxes[:, 3])
    kept = ~flat | dump.features.any(1)
    if kept.all():
        return dump, 0
    if not kept.any():
        raise DataError(f"all {n} regions are padding: features of zeros in a box of no area")
    classes, scores, probs = (None if column is None else column[kept] for column in columns)
    cut = replace(
        dump, features=dump.features[kept], boxes=dump.boxes[kept], classes=classes, scores=scores, class_probs=probs
    )
    return cut, int(n - kept.sum())


def to_record(image_id: str, dump: Dump, layout: Layout) -> RegionRecord:
    """The store's record, best region first where there are scores.

    Raises:
        OutsideError: boxes that do not fit the image.
        DataError: shapes that do not fit together or to the store, or values that are not finite.
    """
    n = len(dump.features)
    if dump.features.shape != (n, layout.feature_dim) or not n:
        raise DataError(f"features are {list(dump.features.shape)}, expected [boxes, {layout.feature_dim}]")
    if dump.boxes.ndim != 2 or len(dump.boxes) != n or not 4 <= dump.boxes.shape[1] <= 7:
        raise DataError(f"boxes are {list(dump.boxes.shape)}, expected [{n}, 4 to 7]")
    width, height = layout.sizes.get(image_id) or _size(dump, layout)
    boxes = _pixels(dump.boxes.astype(np.float32), width, height, layout.normalised)
    probs = dump.class_probs
    if not layout.with_probs and dump.classes is not None and dump.scores is not None:
        probs = None  # nothing needs them
    if (probs is None and layout.with_probs) or (probs is not None and probs.shape != (n, layout.classes)):
        got = "none" if probs is None else list(probs.shape)
        raise DataError(f"class probabilities are {got}, expected {[n, layout.classes]}")
    classes, scores = dump.classes, dump.scores
    if classes is None:  # the best class that is not background
        classes = probs[:, 1:].argmax(1) + 1 if probs is not None else np.zeros(n)
    if scores is None:
        scores = probs[:, 1:].max(1) if probs is not None else np.ones(n)
    if classes.shape != (n,) or scores.shape != (n,):
        raise DataError(f"classes {list(classes.shape)} and scores {list(scores.shape)} are not of {n} boxes")
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    return RegionRecord(
        image_id=image_id,
        width=width,
        height=height,
        features=dump.features[order],
        boxes=boxes[order],
        classes=classes.astype(np.int64)[order],
        scores=scores[order],
        class_probs=probs[order] if probs is not None and layout.with_probs else None,
    )


def _size(dump: Dump, layout: Layout) -> tuple[int, int]:
    if dump.size is not None:
        return dump.size[::-1] if layout.swapped else dump.size
    if layout.sizes:
        raise DataError("--sizes does not name this image")
    if layout.normalised:
        return CANVAS, CANVAS
    raise DataError("the source does not hold the image's size, which boxes in pixels need; give --sizes")


def _pixels(columns: np.ndarray, width: int, height: int, normalised: bool) -> np.ndarray:
    """[n, 4] float32 pixels within the image. Columns after the fourth must be what follows from the first four."""
    if not np.isfinite(columns).all():
        raise DataError("boxes hold nan or inf")
    sides = np.array([width, height, width, height], np.float32)
    shares = columns[:, :4] if normalised else columns[:, :4] / sides
    x1, y1, x2, y2 = shares.T
    if shares.min() < -_SLACK or shares.max() > 1 + _SLACK:
        hint = "try --boxes pixels" if normalised else "try --size-order, or --boxes normalised"
        raise OutsideError(f"boxes reach {columns[:, :4].max(0).tolist()} in an image of {width} x {height}; {hint}")
    if not normalised and columns[:, :4].max() <= _SMALL < min(width, height):
        raise OutsideError(
            f"all boxes lie in the first {_SMALL:.0f} pixels of {width} x {height}; try --boxes normalised"
        )
    if (x1 > x2).any() or (y1 > y2).any():
        raise DataError("a box ends before it begins; expected x1, y1, x2, y2")
    if columns.shape[1] > 4:
        w, h = x2 - x1, y2 - y1
        expected = {5: [w * h], 6: [w, h], 7: [w, h, w * h]}[columns.shape[1]]
        given = columns[:, 4:] if normalised else columns[:, 4:] / _units(columns.shape[1], width, height)
        if np.abs(given - np.stack(expected, 1)).max() > _GEOMETRY:
            raise OutsideError("columns of boxes after the fourth are not their width, height or area; check --boxes")
    return np.clip(shares, 0, 1) * sides


def _units(columns: int, width: int, height: int) -> np.ndarray:
    """What the columns after the fourth are divided by to become shares."""
    units = {5: [width * height], 6: [width, height], 7: [width, height, width * height]}
    return np.array(units[columns], np.float32)
