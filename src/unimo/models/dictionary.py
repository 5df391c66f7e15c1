"""The grounded dictionary of UNIMO-2: the codes that image and text vote for, all at once and without order.

Source: `topk_vector_quantizer` of the release's unimo_grounded.py (PaddlePaddle/Research, NLP/UNIMO-2). There is no
straight-through estimator, no moving average and no distance: similarity is a sigmoid of the scaled dot product.
"""

from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

ALPHA, BETA = 1.0, 0.25  # weights of the two terms of the loss, the release's defaults
TINY = 1e-18  # the release's guard against division by zero


@dataclass
class Grounding:
    """The codes chosen for one batch, and what they were chosen for."""

    tokens: Tensor  # [B, S, H], the states that voted
    chosen: Tensor  # [B, K] int64, most votes first
    codes: Tensor  # [B, K, H], the chosen rows of the dictionary


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

    def forward(self, tokens: Tensor, k: int) -> Grounding:
        """The `k` codes of the largest summed similarity. [B, S, H] -> Grounding.

        Every position votes, padded ones too, as in the release. The choice has no gradient; the codes get theirs as
        inputs of what follows, and from `loss`.
        """
        with paddle.no_grad(), paddle.amp.auto_cast(enable=False):  # sums of hundreds would tie in bfloat16
            votes = self.similarity(tokens.astype("float32"), self.codes).sum(1)  # (B, C)
            chosen = votes.topk(k)[1]
        codes = self.codes.index_select(chosen.flatten()).reshape([*chosen.shape, -1])  # (B, K, H)
        return Grounding(tokens, chosen, codes)

    def loss(self, grounding: Grounding) -> Tensor:
        """Codes towards the tokens they stand for, and tokens towards their codes; a scalar.

        Only the chosen codes' similarities enter, so they are computed anew for these instead of kept for all. They are
        not detached: the temperature learns here, and nowhere else.
        """
        tokens, codes = grounding.tokens, grounding.codes
        share = self.similarity(tokens, codes)  # (B, S, K)
        means = paddle.matmul(share / (share.sum(1, keepdim=True) + TINY), tokens, transpose_x=True)  # (B, K, H)
        rebuilt = paddle.matmul(share / (share.sum(2, keepdim=True) + TINY), codes)  # (B, S, H)
        return ALPHA * F.mse_loss(rebuilt, tokens.detach()) + BETA * F.mse_loss(means, codes.detach())
