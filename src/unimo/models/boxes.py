"""Box arithmetic of detectors. A box is x1, y1, x2, y2 in pixels, continuous: its width is x2 - x1, without a + 1."""

import math
from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor
from paddle.vision.ops import nms as nms_of_sorted

MAX_LOG_SCALE = math.log(1000 / 16)  # Detectron's bound of dw and dh: what makes a box of 16 pixels one of 1000


def decode(deltas: Tensor, boxes: Tensor, weights: Sequence[float]) -> Tensor:
    """Move and scale `boxes` [..., 4] by `deltas` [..., 4], Faster R-CNN's (dx, dy, dw, dh) times `weights`."""
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size
    shift = deltas[..., :2] / paddle.to_tensor(weights[:2])
    scale = (deltas[..., 2:] / paddle.to_tensor(weights[2:])).clip(max=MAX_LOG_SCALE)
    centre, size = shift * size + centre, scale.exp() * size
    return paddle.concat([centre - 0.5 * size, centre + 0.5 * size], axis=-1)


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Cut `boxes` [..., 4] at the border of a picture."""
    return paddle.minimum(boxes.clip(min=0.0), paddle.to_tensor([width, height, width, height], boxes.dtype))


def by_score(scores: np.ndarray) -> np.ndarray:
    """Indices along the first axis, best first; of equals the first. The same on every device."""
    return np.argsort(-scores, axis=0, kind="stable")


def nms(boxes: Tensor, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Non-maximum suppression: indices of the kept of `boxes` [n, 4], best first, none overlapping a better kept one.

    Args:
        scores: [n].
        overlap: intersection over union above which the worse of two is dropped.
    """
    order = by_score(scores)
    if len(order) < 2:
        return order
    return order[nms_of_sorted(boxes[paddle.to_tensor(order)], overlap).numpy()]


def classwise_nms(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """`nms` within each of C classes, all at once: which of `boxes` [n, 4] each class keeps, [n, C] bool.

    Args:
        scores: [n, C].
    """
    close, order = _overlaps(boxes) > overlap, by_score(scores)
    kept, classes = np.ones(scores.shape, bool), np.arange(scores.shape[1])
    for i in order:  # of every class its next best box, [C]; a better one that is kept is never close to a kept one
        alive = kept[i, classes]
        kept &= ~(close[:, i] & alive)
        kept[i, classes] = alive
    return kept


def _overlaps(boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of all pairs of [n, 4], [n, n]; 0 for two boxes without an area."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    corner, far = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.maximum(far - corner, 0).prod(-1)
    union = area[:, None] + area - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
