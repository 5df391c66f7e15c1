"""Image-text matching, and the contrast of images and texts before they meet: UNIMO-2's objectives on pairs.

Source: `get_img_txt_matching_output` and `get_pretraining_cmcl_output_*` of the release's unimo_grounded.py.
"""

from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from unimo.engine.distributed import World
from unimo.models.unimo2 import Encoded, Unimo2
from unimo.pretrain.info_nce import info_nce

# Whose lengths are set to 1 before the product. The release does it to the image where the contrast is within a batch,
# to neither where it is over all processes, and to both where they pass the projections.
Normalised = Literal["image", "neither", "both"]


def matching_loss(model: Unimo2, encoded: Encoded, labels: Tensor) -> Tensor:
    """Summed cross-entropy of whether image and text of each pair fit. labels: [B] int64, 1 where they do."""
    return F.cross_entropy(model.match_logits(encoded), labels, reduction="sum")


def contrast_loss(model: Unimo2, encoded: Encoded, labels: Tensor, normalised: Normalised, world: World) -> Tensor:
    """Summed contrast of the pairs that fit, each among all images and all texts of the batch on all processes.

    Images and texts of pairs that do not fit are candidates of the others.

    Args:
        labels: [B] float32, 1 where image and text fit; every process has as many rows.
    """
    image, text = (x.astype("float32") for x in model.contrast_features(encoded))
    if normalised != "neither":
        image = F.normalize(image, axis=-1)
    if normalised == "both":
        text = F.normalize(text, axis=-1)
    return info_nce(image / model.contrast_temperature(), text, labels, world)


def view_loss(model: Unimo2, views: Encoded, temperature: float, world: World) -> Tensor:
    """Summed contrast of two varied views of each unpaired image, grounded: each view has to find the other one.

    Ours: the paper draws this objective on [V, G], but neither it, as far as it is known, nor the release gives a
    formula. Here the pooled class tokens are normalised and contrasted as in SimCLR (Chen et al. 2020), but each view
    among the other views of all images alone.

    Args:
        views: of 2 B images, the second views after the first.
    """
    pooled = F.normalize(model.pooled_image(views).astype("float32"), axis=-1)
    first, second = pooled.chunk(2)
    return info_nce(first / temperature, second, paddle.ones([first.shape[0]]), world)
