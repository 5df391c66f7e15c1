"""Boxes of any detector of PaddleX's registry, from a local folder; 2048-d features from ResNet-50 under them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from data_prep.regions.extractor import Regions
from data_prep.regions.resnet import FEATURE_DIM, ResNetFeatures
from unimo.errors import DataError, MissingDependencyError
from unimo.storage.cache import sha256

FILES = ("inference.yml", "inference.json", "inference.pdiparams")  # what paddle.jit.save and PaddleX's export write


class PaddleXExtractor:
    """A PaddleX `model_dir` as extractor. PaddleX gives the best class of a box only: there are no class_probs.

    Args:
        folder: holds FILES; Global.model_name of inference.yml must be a name of PaddleX's registry.

    Raises:
        MissingDependencyError: PaddleX is not installed.
        DataError: the folder is not such a model, or the weights of ResNet-50 cannot be had.
    """

    feature_dim = FEATURE_DIM

    def __init__(self, folder: Path, min_boxes: int, max_boxes: int, threshold: float, cache: Path | None):
        os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")  # else its import asks for model hubs
        try:
            import paddlex
        except ImportError as error:
            raise MissingDependencyError(
                f"--extractor paddlex needs PaddleX ({error}): pip install 'paddlex[cv]==3.7.2'"
            ) from error
        self._folder, self._bounds, self._threshold = folder, (min_boxes, max_boxes), threshold
        name, labels = _read_description(folder)
        try:
            self._model = paddlex.create_model(name, model_dir=str(folder))
        except Exception as error:  # its own and Paddle's, of many types
            raise DataError(f"PaddleX {paddlex.__version__} cannot open {folder} as {name}: {error}") from error
        self.class_names = ["background", *labels]
        self._resnet = ResNetFeatures(cache)
        self.packages = [self._resnet.package.record()]
        self.description = {"name": "paddlex+resnet50", "version": paddlex.__version__, "model_name": name}
        self.description |= {f"{part}_sha256": sha256(folder / part) for part in FILES}
        self.description |= {"min_boxes": min_boxes, "max_boxes": max_boxes, "threshold": threshold}
        self.description |= self._resnet.description

    def __call__(self, picture: np.ndarray) -> Regions:
        height, width = picture.shape[:2]
        boxes, classes, scores = self._detect(picture)
        shares = boxes / np.array([width, height, width, height], np.float32)
        return Regions(boxes, classes, scores, self._resnet(picture, shares))

    def _detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The detector's boxes, classes and scores, best first: all above the threshold, within the bounds.

        Where it finds none at all, the whole picture is one region of class background with score 0.
        """
        blue_first = np.ascontiguousarray(picture[:, :, ::-1])
        (result,) = self._model.predict(blue_first, threshold=0.0)
        found = result.get("boxes")
        if found is None or any(len(box["coordinate"]) != 4 for box in found):
            raise DataError(f"{self._folder} gives no upright boxes; expected an object detector of PaddleX")
        if not found:
            height, width = picture.shape[:2]
            return np.array([[0, 0, width, height]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.float32)
        found = sorted(found, key=lambda box: -box["score"])
        above = sum(box["score"] > self._threshold for box in found)
        found = found[: int(np.clip(above, *self._bounds))]
        boxes = np.array([box["coordinate"] for box in found], np.float32)
        classes = np.array([1 + box["cls_id"] for box in found], np.int64)
        return boxes, classes, np.array([box["score"] for box in found], np.float32)


def _read_description(folder: Path) -> tuple[str, list[str]]:
    """Model name and labels of inference.yml; raises a DataError where a file is missing or says neither."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)}; expected a PaddleX model_dir with {', '.join(FILES)}")
    path = folder / FILES[0]
    try:
        values: dict[str, Any] = yaml.safe_load(path.read_bytes())
        return str(values["Global"]["model_name"]), [str(label) for label in values["label_list"]]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not name Global.model_name and label_list ({error!r})") from error
