"""Visual objectives on masked regions: feature regression and soft-label classification, UNIMO section 3.1."""

import paddle.nn.functional as F
from paddle import Tensor

from unimo.models.unimo import Unimo


def masked_states(region_states: Tensor, positions: Tensor) -> Tensor:
    """[B, N, H] and flat indices row * N + slot [M] -> [M, H]."""
    return region_states.flatten(0, 1).index_select(positions)


def feature_regression_loss(model: Unimo, states: Tensor, features: Tensor) -> Tensor:
    """Sum over masked regions of || r(h) - v ||^2, r one affine map. states [M, H], features [M, D] float."""
    error = model.region_feature(states) - features.astype(states.dtype)
    return (error * error).sum()


def soft_class_loss(model: Unimo, states: Tensor, class_probs: Tensor) -> Tensor:
    """Summed cross-entropy with the detector's class distribution as target. states [M, H], class_probs [M, C]."""
    target = class_probs.astype(states.dtype)
    return F.cross_entropy(model.region_class(states), target, soft_label=True, reduction="sum")
