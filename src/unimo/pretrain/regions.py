"""Visual objectives on masked regions: feature regression and soft-label classification, UNIMO section 3.1."""

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from unimo.models.streams import Regions
from unimo.models.unimo import Unimo


def without_hidden(regions: Regions, hidden: Tensor) -> Regions:
    """The model's input: features of hidden regions are zero, their boxes stay. hidden: [B, N] 0/1.

    Slot 0, the mean of an image's regions, is taken anew over the visible ones: the full mean would give a hidden
    region away as what is missing to the sum (ours; the paper does not say).
    """
    visible = (regions.mask * (1 - hidden)).unsqueeze(2)  # (B, N, 1)
    visible[:, 0] = 0
    kept = regions.features * visible
    mean = kept.sum(axis=1, keepdim=True) / visible.sum(axis=1, keepdim=True).clip(min=1)
    return Regions(paddle.concat([mean, kept[:, 1:]], axis=1), regions.boxes, regions.mask)


def hidden_rows(values: Tensor, hidden: np.ndarray) -> Tensor:
    """Rows of the hidden slots, in order. [B, N, X], [B, N] -> [R, X]

    They are found on the host: asking the device where they are would wait for all its work.
    """
    return values.flatten(0, 1).index_select(paddle.to_tensor(np.flatnonzero(hidden)))


def feature_regression_loss(model: Unimo, states: Tensor, features: Tensor) -> Tensor:
    """Sum over hidden regions of || r(h) - v ||^2, r one affine map. states [R, H], features [R, D]."""
    error = model.region_feature(states) - features
    return (error * error).sum()


def soft_class_loss(model: Unimo, states: Tensor, class_probs: Tensor) -> Tensor:
    """Summed cross-entropy with the detector's class distribution as target. states [R, H], class_probs [R, C]."""
    target = class_probs.astype(states.dtype)
    return F.cross_entropy(model.region_class(states), target, soft_label=True, reduction="sum")
