"""Numpy streams of a batch -> the named streams that a model takes."""

import numpy as np
import paddle
from paddle import Tensor
from paddle.utils.dlpack import from_dlpack

from unimo.models.unimo import Regions, Text


def as_text(arrays: dict[str, np.ndarray]) -> Text:
    """ids, positions and mask [B, S] -> Text."""
    return Text(*(paddle.to_tensor(arrays[name]) for name in ("ids", "positions", "mask")))


def as_regions(arrays: dict[str, np.ndarray]) -> Regions:
    """features [B, N, D], boxes [B, N, 5] and mask [B, N] -> Regions. float16 features become float32 here, once."""
    boxes, mask = (paddle.to_tensor(arrays[name]) for name in ("boxes", "mask"))
    return Regions(on_device(arrays["features"]).astype("float32"), boxes, mask)


def on_device(array: np.ndarray) -> Tensor:
    """A large array as a tensor: on a CPU without a copy, so the array must stay as it is while the tensor lives."""
    return from_dlpack(array) if paddle.get_device() == "cpu" else paddle.to_tensor(array)
