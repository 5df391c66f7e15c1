"""Extractors over the boxes of OpenCV's SSD: with its own last map, or with ResNet-50's."""

from pathlib import Path

import numpy as np

from data_prep.regions.extractor import Regions
from data_prep.regions.geometry import pool
from data_prep.regions.ssd import CLASS_NAMES, MAP_DIM, Detections, Detector


class OpenCVExtractor:
    """Features pooled from the detector's own last map, 1280-d."""

    feature_dim, class_names = MAP_DIM, CLASS_NAMES
    threads: int | None = None  # OpenCV cuts no sum

    def __init__(self, min_boxes: int, max_boxes: int, threshold: float, cache: Path | None):
        self._detect = Detector(min_boxes, max_boxes, threshold, cache)
        self.description = self._detect.description
        self.packages = [self._detect.package.record()]

    def __call__(self, picture: np.ndarray) -> Regions:
        found = self._detect(picture)
        height, width = picture.shape[:2]
        return Regions(
            boxes=found.boxes * np.array([width, height, width, height], np.float32),
            classes=found.classes,
            scores=found.scores,
            features=self._features(picture, found),
            class_probs=found.class_probs,
        )

    def _features(self, _: np.ndarray, found: Detections) -> np.ndarray:
        return pool(found.feature_map, found.boxes)


class ResNetExtractor(OpenCVExtractor):
    """Features pooled from ResNet-50's last map, 2048-d, under the same boxes."""

    def __init__(self, min_boxes: int, max_boxes: int, threshold: float, cache: Path | None):
        super().__init__(min_boxes, max_boxes, threshold, cache)
        from data_prep.regions.resnet import FEATURE_DIM, ResNetFeatures  # paddle takes seconds to import

        self._resnet = ResNetFeatures(cache)
        self.feature_dim, self.threads = FEATURE_DIM, self._resnet.threads
        self.description = {**self.description, **self._resnet.description, "name": "opencv-ssd+resnet50"}
        self.packages.append(self._resnet.package.record())

    def _features(self, picture: np.ndarray, found: Detections) -> np.ndarray:
        return self._resnet(picture, found.boxes)
