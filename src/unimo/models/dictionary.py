"""The grounded dictionary of UNIMO-2: the codes that image and text vote for, all at once and without order.

Source: `topk_vector_quantizer` and `vector_quantizer` of the release's unimo_grounded.py (PaddlePaddle/Research,
NLP/UNIMO-2). There is no straight-through estimator, no moving average and no distance in the first: similarity is a
sigmoid of the scaled dot product.
"""

from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

ALPHA, BETA = 1.0, 0.25  # weights of the two terms of the loss, the release's defaults
TINY = 1e-18  # the release's guard against division by zero


@dataclass
class Grounding:
    """The codes chosen for one batch, and what they were chosen for."""

    tokens: Tensor  # [B, S, H], the states that voted
    chosen: Tensor  # [B, K] int64, most votes first; one to one: [B, S], each token's own
    codes: Tensor  # [B, K, H] or [B, S, H], the chosen rows of the dictionary
    votes: Tensor | None = None  # [B, S] 0/1, the tokens that had one; None: all
    one_to_one: bool = False


class GroundedDictionary(nn.Layer):
    """C codes of width H, and the learnt temperature of their similarity to tokens."""

    def __init__(self, num_codes: int, hidden_size: int):
        super().__init__()
        uniform = nn.initializer.Uniform(-1 / num_codes, 1 / num_codes)
        self.codes = self.create_parameter([num_codes, hidden_size], default_initializer=uniform)
        self.temperature = self.create_parameter([1], default_initializer=nn.initializer.Constant(100.0))

    def similarity(self, tokens: Tensor, codes: Tensor) -> Tensor:
        """Each token's similarity to each code, 0..1: [B, S, H] and [C, H] or [B, C, H] -> [B, S, C]."""
        return F.sigmoid(self.temperature.clip(1.0, 1e4) * paddle.matmul(tokens, codes, transpose_y=True))

    def forward(self, tokens: Tensor, k: int, votes: Tensor | None = None) -> Grounding:
        """The `k` codes of the largest summed similarity. [B, S, H] -> Grounding.

        The choice has no gradient; the codes get theirs as inputs of what follows, and from `losses`.

        Args:
            votes: [B, S] 0/1. In the release every position votes, padded ones too, so that what is chosen depends on
                the batch's longest text.
        """
        with paddle.no_grad(), paddle.amp.auto_cast(enable=False):  # sums of hundreds would tie in bfloat16
            similar = self.similarity(tokens.astype("float32"), self.codes)  # (B, S, C)
            similar = similar if votes is None else similar * votes.astype("float32").unsqueeze(2)
            chosen = similar.sum(1).topk(k)[1]
        return Grounding(tokens, chosen, self.rows(chosen), votes)

    def nearest(self, tokens: Tensor, votes: Tensor | None = None) -> Grounding:
        """Each token's nearest code by squared distance, the release's "normal" method. [B, S, H] -> Grounding."""
        with paddle.no_grad(), paddle.amp.auto_cast(enable=False):
            products = paddle.matmul(tokens.astype("float32"), self.codes, transpose_y=True)  # (B, S, C)
            chosen = (self.codes.square().sum(1) - 2 * products).argmin(2)
        return Grounding(tokens, chosen, self.rows(chosen), votes, one_to_one=True)

    def rows(self, chosen: Tensor) -> Tensor:
        """The codes of these numbers. [B, K] int64 -> [B, K, H]"""
        return self.codes.index_select(chosen.flatten()).reshape([*chosen.shape, -1])

    def losses(self, grounding: Grounding) -> Tensor:
        """Codes towards the tokens they stand for, and tokens towards their codes: one loss a sample. [B]

        Of the codes of the most votes only the chosen ones' similarities enter, so they are computed anew for these
        instead of kept for all. They are not detached: the temperature learns here, and nowhere else.
        """
        tokens, codes, votes = grounding.tokens, grounding.codes, grounding.votes
        rebuilt, means = codes, tokens
        if not grounding.one_to_one:
            share = self.similarity(tokens, codes)  # (B, S, K)
            share = share if votes is None else share * votes.astype(share.dtype).unsqueeze(2)
            means = paddle.matmul(share / (share.sum(1, keepdim=True) + TINY), tokens, transpose_x=True)  # (B, K, H)
            rebuilt = paddle.matmul(share / (share.sum(2, keepdim=True) + TINY), codes)  # (B, S, H)
        of_tokens = _mean((rebuilt - tokens.detach()).square().mean(2), votes)
        of_codes = _mean((means - codes.detach()).square().mean(2), votes if grounding.one_to_one else None)
        return ALPHA * of_tokens + BETA * of_codes


def use_of(counts: np.ndarray) -> tuple[int, float]:
    """How many codes were chosen at all, and the entropy of the choices in bits. counts: [C], times or shares"""
    shares = counts[counts > 0] / max(counts.sum(), np.finfo(float).tiny)
    return len(shares), float(-(shares * np.log2(shares)).sum())


def _mean(values: Tensor, counted: Tensor | None) -> Tensor:
    """Mean of each row over the places that are counted. [B, S] -> [B]"""
    if counted is None:
        return values.mean(1)
    counted = counted.astype(values.dtype)
    return (values * counted).sum(1) / counted.sum(1)
