"""Numpy streams of a batch -> the named streams that a model takes."""

import numpy as np
import paddle

from unimo.models.unimo import Regions, Text


def as_text(arrays: dict[str, np.ndarray]) -> Text:
    """ids, positions and mask [B, S] -> Text."""
    return Text(*(paddle.to_tensor(arrays[name]) for name in ("ids", "positions", "mask")))


def as_regions(arrays: dict[str, np.ndarray]) -> Regions:
    """features [B, N, D], boxes [B, N, 5] and mask [B, N] -> Regions. float16 features become float32 here, once."""
    features, boxes, mask = (paddle.to_tensor(arrays[name]) for name in ("features", "boxes", "mask"))
    return Regions(features.astype("float32"), boxes, mask)
