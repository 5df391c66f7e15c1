"""Geometry on arrays: prior boxes to boxes, which boxes to keep, and features pooled from a map under boxes."""

import cv2
import numpy as np

SAMPLES = 14  # points a side at which a box reads the map: RoI align's 7 x 7 bins of 2 x 2 samples, averaged
NMS_OVERLAP = 0.3  # bottom-up-attention's TEST.NMS
SMALLEST = 0.01  # ours: boxes thinner than this share of the image, once cut at its border, are dropped


def decode(offsets: np.ndarray, priors: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """SSD's centre-size code -> corner boxes, cut at the image border; everything [n, 4], as shares of the image.

    Offsets are (x, y, w, h) in units of the variances, relative to the prior (Liu et al. 2016, section 2.2).
    """
    size = priors[:, 2:] - priors[:, :2]
    centre = priors[:, :2] + size / 2
    offsets = offsets * variances
    centre, size = centre + offsets[:, :2] * size, size * np.exp(offsets[:, 2:])
    return np.clip(np.concatenate([centre - size / 2, centre + size / 2], axis=1), 0, 1)


def choose(boxes: np.ndarray, scores: np.ndarray, least: int, most: int, threshold: float) -> np.ndarray:
    """Indices of the boxes to keep, best first, as bottom-up-attention chooses them (Anderson et al. 2018).

    Non-maximum suppression within each class, a box competing in its best class only; then all boxes whose score is
    above the threshold, but at least `least` (drawings often have none above it) and at most `most`.

    Args:
        boxes: [n, 4] corners.
        scores: [n, C] of the classes without background.
    """
    label, best = scores.argmax(1), scores.max(1)
    wide_enough = ((boxes[:, 2:] - boxes[:, :2]) > SMALLEST).all(1)
    candidates = np.flatnonzero(wide_enough)
    corner_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)[candidates]
    survivors = cv2.dnn.NMSBoxesBatched(
        corner_size.tolist(), best[candidates].tolist(), label[candidates].tolist(), 0.0, NMS_OVERLAP
    )
    kept = candidates[np.asarray(survivors, np.int64)]
    kept = kept[np.argsort(-best[kept], kind="stable")]
    return kept[: int(np.clip((best[kept] > threshold).sum(), least, most))]


def pool(feature_map: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """RoI align with average pooling: mean of the map, read bilinearly at a grid of points inside each box.

    Bilinear reading is a product of two weights, so the mean over the grid is one small matrix product.

    Args:
        feature_map: [D, H, W] of the whole image.
        boxes: [n, 4] corners as shares of the image.

    Returns:
        [n, D] float32.
    """
    d, h, w = feature_map.shape
    across, down = _weights(boxes[:, 0], boxes[:, 2], w), _weights(boxes[:, 1], boxes[:, 3], h)
    grid = down[:, :, None] * across[:, None, :]  # (n, H, W)
    # einsum and not @: BLAS rounds differently with another number of threads
    return np.einsum("nk,dk->nd", grid.reshape(len(boxes), h * w), feature_map.reshape(d, h * w))


def _weights(start: np.ndarray, end: np.ndarray, size: int) -> np.ndarray:
    """How much each of `size` cells counts in the mean over SAMPLES points between start and end. [n, size]"""
    share = (np.arange(SAMPLES) + 0.5) / SAMPLES
    points = start[:, None] + (end - start)[:, None] * share  # (n, SAMPLES), shares of the image
    points = np.clip(points * size - 0.5, 0, size - 1)  # cell centres lie at 0.5, 1.5, ... cells
    return np.maximum(0, 1 - np.abs(points[:, :, None] - np.arange(size))).mean(1).astype(np.float32)
