"""Numpy streams of a batch -> the named streams that a model takes."""

import numpy as np
import paddle

from unimo.models.unimo import Regions, Text


def as_text(arrays: dict[str, np.ndarray]) -> Text:
    """ids, positions and mask [B, S] -> Text."""
    return Text(*(paddle.to_tensor(arrays[name]) for name in ("ids", "positions", "mask")))


def as_regions(arrays: dict[str, np.ndarray]) -> Regions:
    """features [B, N, D] (float16 stays float16: the model casts), boxes [B, N, 5] and mask [B, N] -> Regions."""
    return Regions(*(paddle.to_tensor(arrays[name]) for name in ("features", "boxes", "mask")))
