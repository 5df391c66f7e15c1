"""Numpy streams of a batch -> the named streams that a model takes."""

import numpy as np
import paddle
from paddle import Tensor
from paddle.utils.dlpack import from_dlpack

from unimo.models.streams import Pixels, Regions, Text
from unimo.readers.region_batches import widen


def as_text(arrays: dict[str, np.ndarray]) -> Text:
    """Ids, positions and mask [B, S], and types where there are any -> Text."""
    names = ("ids", "positions", "mask", *(["types"] if "types" in arrays else []))
    return Text(**{name: paddle.to_tensor(arrays[name]) for name in names})


def as_regions(arrays: dict[str, np.ndarray]) -> Regions:
    """Features [B, N, D], boxes [B, N, 5] and mask [B, N] -> Regions. float16 features become float32 here, once."""
    boxes, mask = (paddle.to_tensor(arrays[name]) for name in ("boxes", "mask"))
    features = arrays["features"]
    if features.dtype == np.float16 and paddle.get_device() == "cpu":
        features = widen_images(features)
    return Regions(on_device(features).astype("float32"), boxes, mask)


def as_pixels(arrays: dict[str, np.ndarray]) -> Pixels:
    """Images [B, 3, side, side] -> Pixels."""
    return Pixels(paddle.to_tensor(arrays["images"]))


def as_picture(inputs: dict[str, dict[str, np.ndarray]]) -> Regions | Pixels:
    """What an `Images` has collated under its key, as the stream that a model reads."""
    return as_regions(inputs["regions"]) if "regions" in inputs else as_pixels(inputs["pixels"])


def widen_images(features: np.ndarray) -> np.ndarray:
    """From float16 [B, N, D] to float32, an image at a time so that the passes stay in the processor's cache.

    About as fast as Paddle's cast on a CPU, and without the freed blocks that pile up behind Paddle's: the memory
    target of tests/benchmarks/features.py is missed in some rounds with it.
    """
    wide = np.empty(features.shape, np.float32)
    for image, half in zip(wide, features, strict=True):
        image[:] = widen(half)
    return wide


def on_device(array: np.ndarray) -> Tensor:
    """A large array as a tensor: on a CPU without a copy, so the array must stay as it is while the tensor lives."""
    return from_dlpack(array) if paddle.get_device() == "cpu" else paddle.to_tensor(array)
