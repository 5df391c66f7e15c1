"""An image's boxes and labels over its picture: what the macro in drawing.html.jinja draws, for any page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unimo.errors import MissingDependencyError
from unimo.readers.feature_store import RegionRecord
from unimo.report.thumbnails import thumbnail

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise MissingDependencyError(f"pages need jinja2 ({error}): pip install -e '.[report]'") from error

SIDE = 360  # pixels of a shown picture's longer side
LINE, LETTER = 12, 6  # pixels that a label takes: its height, and the width of one letter of its font
_MARGIN = 1.0  # pixels that a box may stick out without being called outside
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000")


def templates(folder: Path) -> Environment:
    """The templates of `folder`, which may import drawing.html.jinja; what they are given is escaped."""
    loader = FileSystemLoader([folder, Path(__file__).parent])
    return Environment(autoescape=True, undefined=StrictUndefined, loader=loader, trim_blocks=True, lstrip_blocks=True)


def drawing(record: RegionRecord, class_names: Sequence[str], file: Path | None, most: int) -> dict[str, Any]:
    """The best `most` boxes; the record's own size is the canvas, so that a wrong one shows against the picture."""
    scale = SIDE / max(record.width, record.height)
    labels = [f"{class_names[c]} {score:.2f}" for c, score in zip(record.classes, record.scores)]
    boxes: list[dict[str, Any]] = []
    for i, (label, (x1, y1, x2, y2)) in enumerate(zip(labels, record.boxes[:most])):
        box = {
            "label": label,
            "colour": _COLOURS[i % len(_COLOURS)],
            "x": round(float(x1) * scale, 1),
            "y": round(float(y1) * scale, 1),
            "w": round(float(x2 - x1) * scale, 1),
            "h": round(float(y2 - y1) * scale, 1),
        }
        boxes.append(box | _free_place(box, boxes, record.width * scale, record.height * scale))
    return {
        "id": record.image_id,
        "size": f"{record.width} x {record.height}",
        "w": round(record.width * scale, 1),
        "h": round(record.height * scale, 1),
        "picture": thumbnail(file, SIDE) if file else None,
        "boxes": boxes,
        "labels": labels,
        "count": len(record.boxes),
        "outside": int(is_outside(record).sum()),
    }


def is_outside(record: RegionRecord) -> np.ndarray:
    """[n] bool: boxes that leave the image by more than a pixel."""
    sides = np.array([record.width, record.height] * 2, np.float32)
    return np.any((record.boxes < -_MARGIN) | (record.boxes > sides + _MARGIN), axis=1)


def _free_place(box: dict[str, Any], others: list[dict[str, Any]], width: float, height: float) -> dict[str, float]:
    """Where a label begins: in its box's corner, moved left to stay in the picture and down below other labels."""
    reach = LETTER * len(box["label"])
    x, y = max(0.0, min(box["x"] + 3, width - reach)), max(box["y"], 0.0) + LINE
    near = [o for o in others if o["label_x"] < x + reach and x < o["label_x"] + LETTER * len(o["label"])]
    while y + LINE <= height and any(abs(o["label_y"] - y) < LINE for o in near):
        y += LINE
    return {"label_x": round(x, 1), "label_y": round(y, 1)}
