"""VinVL's files: features.tsv, with the objects of predictions.tsv or label.tsv beside it."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.regions.importers.dump import Dump, Item, base64_array, whole_number
from data_prep.regions.importers.lines import lines
from data_prep.stage import WHOLE, Shard
from unimo.errors import DataError

FEATURES, OBJECTS = "features.tsv", ("predictions.tsv", "label.tsv")
GEOMETRY = 6  # last columns of the features: x1/w, y1/h, x2/w, y2/h, box width/w, box height/h


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
        self._found: dict[str, tuple[np.ndarray, np.ndarray, tuple[int, int] | None]] = {}
        for _, line in lines([found[0]], WHOLE):
            image_id, _, text = line.partition("\t")
            try:
                self._found[image_id] = self._parse(json.loads(text))
            except (ValueError, KeyError, TypeError, DataError):
                continue  # the image then has no objects, and is left out with that reason

    def _parse(self, values: Any) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
        things, size = values, None
        if isinstance(values, dict):
            things = values["objects"]
            size = (whole_number(values["image_w"], "image_w"), whole_number(values["image_h"], "image_h"))
        scores = np.array([float(thing["conf"]) for thing in things], np.float32)
        classes = [self._place(str(thing["class"])) for thing in things]
        return np.array(classes, np.int64), scores, size

    def _place(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self.class_names)
            self.class_names.append(name)
        return self._places[name]

    def of(self, image_id: str) -> tuple[np.ndarray, np.ndarray, tuple[int, int] | None]:
        """Classes, scores, and width and height where they are told."""
        if image_id not in self._found:
            raise DataError(f"{self.files[1].name} has no objects of this image, or a damaged line")
        return self._found[image_id]


def read_vinvl(folder: Path, objects: Objects, shard: Shard) -> Iterator[Item]:
    """Images of features.tsv, whose lines are `id, JSON of num_boxes and features` or `id, num_boxes, features`."""
    for place, line in lines([folder / FEATURES], shard):
        image_id, *fields = line.split("\t")
        yield image_id.strip() or place, partial(_dump, image_id, fields, objects)


def _dump(image_id: str, fields: list[str], objects: Objects) -> Dump:
    try:
        if len(fields) == 1:
            values = json.loads(fields[0])
            count, features = values["num_boxes"], values["features"]
        else:
            count, features = fields
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"expected num_boxes and features after the image id ({error!r})") from error
    columns = base64_array(features, whole_number(count, "num_boxes"), "features")
    if columns.shape[1] <= GEOMETRY:
        raise DataError(f"features have {columns.shape[1]} columns, the last {GEOMETRY} of which are the box")
    classes, scores, size = objects.of(image_id)
    return Dump(
        features=columns[:, :-GEOMETRY],
        boxes=columns[:, -GEOMETRY:],
        size=size,
        classes=classes,
        scores=scores,
    )
