"""Objectives of the grounded dictionary that need more than one pass: masked codes, and what is used of the dictionary.

Source of the first: `get_pretraining_mask_grounding_output` of UNIMO-2's release, off in every released recipe.
"""

import paddle.nn.functional as F
from paddle import Tensor

from unimo.models.unimo2 import Encoded, Unimo2


def masked_code_loss(model: Unimo2, encoded: Encoded, masked: Tensor) -> Tensor:
    """Summed cross-entropy of which codes entered as zeros. masked: [B, K] 0/1, as the pass was given it."""
    assert encoded.codes is not None and encoded.grounding is not None  # the code head is of models that ground
    hidden = masked.flatten().nonzero().squeeze(1)
    states = encoded.codes.flatten(0, 1).index_select(hidden)
    return F.cross_entropy(
        model.code_logits(states), encoded.grounding.chosen.flatten().index_select(hidden), reduction="sum"
    )
