"""Cross-modal contrastive learning (CMCL), UNIMO section 3.3."""

import paddle
from paddle import Tensor

from unimo.models.layers import MASKED


def cmcl_loss(scores: Tensor, positive: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Sum over pairs of -log( sum of exp(d / tau) over positives / sum of exp(d / tau) over all candidates ).

    All positives (the pair, its paraphrases X+, retrieved images X^I and sentences X^T) are summed inside the log.

    Args:
        scores: [P, K] similarity d of each candidate of each pair.
        positive: [P, K] 0/1, 1 for candidates of X+, X^I and X^T; every pair has at least one valid positive.
        valid: [P, K] 0/1, 0 for padding candidates.
        temperature: tau; the papers do not state it.
    """
    logits = scores.astype("float32") / temperature
    everything = paddle.logsumexp(logits + 100 * MASKED * (valid - 1.0), axis=1)
    positives = paddle.logsumexp(logits + 100 * MASKED * (valid * positive - 1.0), axis=1)
    return (everything - positives).sum()
