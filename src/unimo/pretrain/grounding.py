"""Objectives of the grounded dictionary that need more than one pass: masked codes, and what is used of the dictionary.

Source of the first: `get_pretraining_mask_grounding_output` of UNIMO-2's release, off in every released recipe.
"""

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from unimo.engine.distributed import World
from unimo.models.unimo2 import Encoded, Unimo2


def masked_code_loss(model: Unimo2, encoded: Encoded, masked: Tensor) -> Tensor:
    """Summed cross-entropy of which codes entered as zeros. masked: [B, K] 0/1, as the pass was given it."""
    assert encoded.codes is not None and encoded.grounding is not None  # the code head is of models that ground
    hidden = masked.flatten().nonzero().squeeze(1)
    states = encoded.codes.flatten(0, 1).index_select(hidden)
    return F.cross_entropy(
        model.code_logits(states), encoded.grounding.chosen.flatten().index_select(hidden), reduction="sum"
    )


class CodeUse(nn.Layer):
    """How often each code was chosen since the last record of the log; a checkpoint keeps counts of a begun interval.

    `counts` is joined over the processes by means after each update (`World.join_buffers`), so their sum over the
    processes is that of all choices.
    """

    def __init__(self, codes: int, log_every: int):
        super().__init__()
        self.log_every = log_every
        self.register_buffer("counts", paddle.zeros([codes]))
        self.shown = self.counts.numpy()

    @paddle.no_grad()
    def add(self, chosen: Tensor) -> None:
        """Count the choices of a batch, [B, K] int64, on this process."""
        self.counts.add_(paddle.bincount(chosen.flatten(), minlength=len(self.counts)).astype("float32"))

    def after_update(self, step: int) -> None:
        """Hold what the record of `step` will say; an interval ends where the log writes one."""
        self.shown = self.counts.numpy().copy()
        if step % self.log_every == 0:
            self.counts.set_value(paddle.zeros_like(self.counts))

    def facts(self, world: World) -> dict[str, float]:
        """Of all processes: `live_codes`, how many were chosen at all, and `code_entropy` of the choices in bits."""
        counts = np.array(world.sum(self.shown.tolist()))
        shares = counts[counts > 0] / max(counts.sum(), 1.0)
        return {"live_codes": float(len(shares)), "code_entropy": float(-(shares * np.log2(shares)).sum())}
