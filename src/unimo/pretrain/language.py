"""Language objectives: masked words (bidirectional) and fragment prediction (seq2seq), UNIMO section 3.2."""

from typing import Protocol

import paddle.nn.functional as F
from paddle import Tensor


class Speaks(Protocol):
    """A model with the lm head."""

    def lm_logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits of gathered text states. [M, H] -> [M, V]"""
        ...


def word_prediction_loss(model: Speaks, text_states: Tensor, positions: Tensor, labels: Tensor) -> Tensor:
    """Summed cross-entropy of the words at some positions; the same for masked words and for seq2seq targets.

    Only these positions go through the head, whose vocabulary product costs most of a step.

    Args:
        text_states: [B, S, H] states of the text stream.
        positions: [M] int64, flat indices row * S + column.
        labels: [M] int64 vocabulary ids.
    """
    states = text_states.flatten(0, 1).index_select(positions)  # (M, H)
    return F.cross_entropy(model.lm_logits(states), labels, reduction="sum")
