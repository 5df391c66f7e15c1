"""VinVL's files: features.tsv, with the objects of predictions.tsv or label.tsv beside it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.regions.importers.dump import Dump, Item, base64_array, whole_number
from data_prep.regions.importers.lines import fail, lines
from data_prep.stage import WHOLE, Shard
from unimo.errors import DataError

FEATURES, OBJECTS = "features.tsv", ("predictions.tsv", "label.tsv")
_NEAR = 0.01  # of the image's side that a rect may differ by from its region's box: rounding
GEOMETRY = 6  # last columns of the features: x1/w, y1/h, x2/w, y2/h, box width/w, box height/h


@dataclass(eq=False)
class Found:
    """The objects of one image."""

    classes: np.ndarray  # [n] int64
    scores: np.ndarray  # [n] float32
    rects: np.ndarray  # [n, 4] pixels
    size: tuple[int, int] | None  # width and height, where they are told


class Objects:
    """Detected objects by image id, and the names of their classes: background, then in the order of the file.

    Raises:
        DataError: the folder lacks features.tsv or the objects.
    """

    def __init__(self, folder: Path):
        found = [folder / name for name in OBJECTS if (folder / name).is_file()]
        if not (folder / FEATURES).is_file() or not found:
            raise DataError(f"{folder} must hold {FEATURES} and one of {', '.join(OBJECTS)}")
        self.files = [folder / FEATURES, found[0]]
        self.class_names = ["background"]
        self._places: dict[str, int] = {}
        self._found: dict[str, Found] = {}
        for _, line in lines([found[0]], WHOLE):
            if isinstance(line, DataError):
                continue
            image_id, _, text = line.partition("\t")
            try:
                self._found[image_id] = self._parse(json.loads(text))
            except (ValueError, KeyError, TypeError, RecursionError, DataError):
                continue  # the image then has no objects, and is left out with that reason

    def _parse(self, values: Any) -> Found:
        things, size = values, None
        if isinstance(values, dict):
            things = values["objects"]
            size = (whole_number(values["image_w"], "image_w"), whole_number(values["image_h"], "image_h"))
        scores = np.array([float(thing["conf"]) for thing in things], np.float32)
        rects = np.array([thing["rect"] for thing in things], np.float64).reshape(len(things), 4)
        classes = [self._place(str(thing["class"])) for thing in things]
        return Found(np.array(classes, np.int64), scores, rects, size)

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self.class_names)
            self.class_names.append(name)
        return self._places[name]

    def of(self, image_id: str) -> Found:
        """The objects of an image. Raises DataError where there are none."""
        if image_id not in self._found:
            raise DataError(f"{self.files[1].name} has no objects of this image, or a damaged line")
        return self._found[image_id]


def read_vinvl(folder: Path, objects: Objects, shard: Shard) -> Iterator[Item]:
    """Images of features.tsv, whose lines are `id, JSON of num_boxes and features` or `id, num_boxes, features`."""
    for place, line in lines([folder / FEATURES], shard):
        if isinstance(line, DataError):
            yield place, partial(fail, str(line))
            continue
        image_id, *fields = line.split("\t")
        yield image_id.strip() or place, partial(_dump, image_id, fields, objects)


def _dump(image_id: str, fields: list[str], objects: Objects) -> Dump:
    try:
        if len(fields) == 1:
            values = json.loads(fields[0])
            count, features = values["num_boxes"], values["features"]
        else:
            count, features = fields
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"expected num_boxes and features after the image id ({error!r})") from error
    columns = base64_array(features, whole_number(count, "num_boxes"), "features")
    if columns.shape[1] <= GEOMETRY:
        raise DataError(f"features have {columns.shape[1]} columns, the last {GEOMETRY} of which are the box")
    found, boxes = objects.of(image_id), columns[:, -GEOMETRY:]
    places = matched(boxes, found.rects, found.size)
    return Dump(
        features=columns[:, :-GEOMETRY],
        boxes=boxes,
        size=found.size,
        classes=found.classes[places],
        scores=found.scores[places],
    )


def matched(boxes: np.ndarray, rects: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """The object of each region, by its rect. [n] int64

    Where width and height are not told they are what makes the edges that lie furthest right and down the same.

    Args:
        boxes: [n, 4 or more], shares of the image's sides.
        rects: [n, 4] pixels.

    Raises:
        DataError: objects and regions are not the same boxes.
    """
    corners = boxes[:, :4].astype(np.float64)
    wrong = "objects are not the boxes of the features (another detector's?), so they cannot give the classes"
    if len(rects) != len(corners):
        raise DataError(f"{wrong}: {len(rects)} objects, {len(corners)} regions")
    if not (np.isfinite(rects).all() and np.isfinite(corners).all()):
        raise DataError("boxes or rects hold nan or inf")
    sides = np.array(size, np.float64) if size else _sides(corners, rects)
    apart = np.abs(corners[:, None] - (rects / np.tile(sides, 2))[None]).max(2)  # [region, object]
    places = np.full(len(corners), -1, np.int64)
    free = np.ones(len(rects), bool)
    for region, place in zip(*np.unravel_index(np.argsort(apart, axis=None, kind="stable"), apart.shape)):
        if apart[region, place] > _NEAR:
            break
        if places[region] < 0 and free[place]:
            places[region], free[place] = place, False
    if (places < 0).any():
        raise DataError(f"{wrong}: {(places < 0).sum()} of {len(places)} regions have no object with their box")
    return places


def _sides(corners: np.ndarray, rects: np.ndarray) -> np.ndarray:
    """Width and height of the image, [2], from pixels and shares of the same boxes."""
    reach = np.stack([corners[:, 2:].max(0), rects[:, 2:].max(0)])
    return np.where((reach > 0).all(0), reach[1] / np.where(reach[0] > 0, reach[0], 1), 1.0)
