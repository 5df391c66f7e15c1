"""Circle loss of the release's Flickr30k fine-tuning (the release: unimo_finetune.py)."""

import paddle.nn.functional as F
from paddle import Tensor


def circle_loss(positive: Tensor, negative: Tensor, margin: float = 0.2, scale: float = 1.0) -> Tensor:
    """Sum over rows of log(1 + N * P), in float64 inside because the exponents are unbounded.

    P = sum exp(-scale * a_p * (s_p - (1 - margin))), N = sum exp(scale * a_n * (s_n - margin)); the weights
    a_p = relu(1 + margin - s_p) and a_n = relu(s_n + margin) carry no gradient. Scores are raw logits, as the release's
    script passes them, not similarities between 0 and 1.

    Args:
        positive: [B, 1] match scores.
        negative: [B, n] match scores.
    """
    s_p, s_n = positive.astype("float64"), negative.astype("float64")
    a_p, a_n = F.relu(1 + margin - s_p).detach(), F.relu(s_n + margin).detach()
    log_p = (-scale * a_p * (s_p - (1 - margin))).logsumexp(axis=1)
    log_n = (scale * a_n * (s_n - margin)).logsumexp(axis=1)
    return F.softplus(log_p + log_n).sum().astype(positive.dtype)  # log(1 + N * P) without forming the product
