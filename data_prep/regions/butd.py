"""Regions of bottom-up attention: a ported Faster R-CNN's proposals, their 2048-d features, classes and attributes."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from data_prep.regions import backbone
from data_prep.regions.class_names import read_class_names, read_synonyms
from data_prep.regions.extractor import Regions
from unimo import zoo
from unimo.errors import ConfigError
from unimo.hardware import compute_in_one_thread
from unimo.inference import Precision
from unimo.models.faster_rcnn import STRIDE, Chosen, Detected, FasterRCNN, FasterRCNNConfig, choose, choose_lxmert

Selection = Literal["original", "lxmert"]
THRESHOLD = 0.2  # conf_thresh of generate_tsv.py


class BottomUpAttention:
    """A model folder of a Faster R-CNN as extractor.

    Args:
        model: the folder; `unimo port convert` makes one.
        selection: `models.faster_rcnn.choose` or `choose_lxmert`.
        threshold: None is THRESHOLD; choose_lxmert has none.
        class_names: a file of one class a line, without background.
        precision: of the products of stage 5. Proposals do not depend on it; features and all that is made of them do.

    Raises:
        ConfigError, CheckpointError, DataError: as of `zoo.locate`; another model, names that are not as many as the
            model's classes, a threshold that has no use, or a precision that cannot be had here.
    """

    def __init__(
        self,
        model: Path,
        selection: Selection,
        min_boxes: int,
        max_boxes: int,
        threshold: float | None,
        class_names: Path | None,
        precision: Precision,
    ):
        backbone.check(precision)
        if selection == "lxmert" and threshold is not None:
            raise ConfigError("--threshold does nothing with --selection lxmert, which has none")
        synonyms = read_synonyms(class_names)  # and that the file can be read
        folder = zoo.locate(model)
        self._network = network = zoo.from_pretrained(folder)
        if not isinstance(network, FasterRCNN):
            raise ConfigError(f"{model} is no detector; --extractor butd needs one (docs/regions.md)")
        classes = network.config.num_classes
        self.class_names = read_class_names(class_names, classes)
        if len(self.class_names) != classes + 1:
            raise ConfigError(f"{class_names} names {len(self.class_names) - 1} classes, the detector has {classes}")
        self._stage5 = backbone.Backbone(network.res5, network.pooled_shape, precision)
        self.feature_dim = network.config.feature_size
        self.packages: list[dict[str, str]] = []
        self.threads = compute_in_one_thread()
        self._selection, self._bounds = selection, (min_boxes, max_boxes)
        self._threshold = THRESHOLD if threshold is None else threshold
        self.description: dict[str, Any] = {
            "name": "bottom-up-attention",
            "version": "1",
            "weights_sha256": zoo.digest(folder),
        }
        self.description |= {"selection": selection, "min_boxes": min_boxes, "max_boxes": max_boxes}
        self.description |= synonyms
        if selection == "original":
            self.description["threshold"] = self._threshold
        if precision != "float32":  # not named, so that stores begun before go on
            self.description["precision"] = precision

    @paddle.no_grad()
    def __call__(self, picture: np.ndarray) -> Regions:
        height, width = picture.shape[:2]
        pixels, size = prepare(picture, self._network.config)
        found = self._network(pixels, [size], self._stage5)
        probs = F.softmax(found.class_logits, axis=-1).numpy()
        chosen = self._choose(found, probs, size)
        scale = np.array([width / size[1], height / size[0]] * 2, np.float32)
        return Regions(
            np.clip(chosen.boxes * scale, 0, np.array([width, height] * 2, np.float32)),
            1 + chosen.classes,
            chosen.scores,
            found.features.numpy()[chosen.rows],
            np.roll(probs[chosen.rows], 1, axis=1),  # background, the detector's last, is the store's first
            1 + found.attribute_logits.numpy()[chosen.rows, :-1].argmax(1),
        )

    def _choose(self, found: Detected, probs: np.ndarray, size: tuple[int, int]) -> Chosen:
        (proposals,), (least, most) = found.proposals, self._bounds
        if self._selection == "original":
            return choose(proposals.numpy(), probs, least, most, self._threshold)
        boxes = self._network.class_boxes(proposals, found.box_deltas, size)
        return choose_lxmert(boxes, probs, self._network.config.lxmert_overlaps, least, most)


def prepare(picture: np.ndarray, config: FasterRCNNConfig) -> tuple[Tensor, tuple[int, int]]:
    """A picture as the detector reads it: [h, w, 3] uint8 RGB -> pixels [1, 3, H, W] and its height and width there.

    Bilinear without anti-aliasing, the shorter side to `shorter_side` unless the longer one would pass `longest_side`.
    H and W are at least two cells of the map: strips less wide get zeros at their right or below.
    """
    height, width = new = picture_size(picture.shape[0], picture.shape[1], config)
    colours = picture[:, :, ::-1] if config.blue_first else picture
    pixels = paddle.to_tensor(np.ascontiguousarray(colours.transpose(2, 0, 1)[None], np.float32))
    pixels = F.interpolate(pixels, new, mode="bilinear", align_corners=False)
    mean, std = (paddle.to_tensor(values).reshape([1, 3, 1, 1]) for values in (config.pixel_mean, config.pixel_std))
    least = 2 * STRIDE
    return F.pad((pixels - mean) / std, [0, max(0, least - width), 0, max(0, least - height)]), new


def picture_size(height: int, width: int, config: FasterRCNNConfig) -> tuple[int, int]:
    """Height and width after scaling, by the arithmetic of processing_image.py beside the port's source."""
    scale = config.shorter_side / min(height, width)
    new = [config.shorter_side, scale * width] if height < width else [scale * height, config.shorter_side]
    if max(new) > config.longest_side:
        shrink = config.longest_side / max(new)
        new = [side * shrink for side in new]
    rounded_height, rounded_width = (max(1, int(side + 0.5)) for side in new)
    return rounded_height, rounded_width
