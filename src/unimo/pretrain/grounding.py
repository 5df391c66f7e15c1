"""What pre-training has for the grounded dictionary beside its loss: masked codes, the use of codes, and a remedy for
those that nobody chooses.

Source of masked codes: `get_pretraining_mask_grounding_output` of UNIMO-2's release, off in every released recipe.
"""

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from unimo.engine.distributed import World
from unimo.models.dictionary import GroundedDictionary, Grounding, use_of
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
        live, entropy = use_of(np.array(world.sum(self.shown.tolist())))
        return {"live_codes": float(live), "code_entropy": entropy}


class Revival(nn.Layer):
    """Gives codes that nobody chose for a while the place of a token: an option, ours.

    As the random restarts of Jukebox (Dhariwal et al. 2020), but scaled to the mean length of the codes in use: votes
    are products, so that a longer code would win them all.

    A checkpoint keeps what was chosen since the last time, and `count`, how many codes were ever revived.
    """

    def __init__(self, codes: int, every: int, seed: int):
        super().__init__()
        self.use, self.every, self.seed = CodeUse(codes, every), every, seed
        self.register_buffer("count", paddle.zeros([1]))
        self._tokens: Tensor | None = None

    def see(self, grounding: Grounding) -> None:
        """Count the choices of a batch, and keep the tokens that had a vote until the next batch."""
        self.use.add(grounding.chosen)
        tokens = grounding.tokens.detach()
        rows = tokens.flatten(0, 1)
        self._tokens = rows if grounding.votes is None else rows[grounding.votes.flatten() > 0]

    @paddle.no_grad()
    def after_update(self, step: int, dictionary: GroundedDictionary, world: World) -> None:
        """Revive what is dead after every `every`-th update, alike on all processes."""
        self.use.after_update(step)
        if step % self.every or self._tokens is None:
            return
        counts = np.array(world.sum(self.use.shown.tolist()))
        dead, live = np.flatnonzero(counts == 0), np.flatnonzero(counts)
        if not len(dead):
            return
        codes, tokens = dictionary.codes.numpy().copy(), self._tokens.numpy()
        drawn = np.random.default_rng([self.seed, step]).integers(len(tokens), size=len(dead))
        length = np.linalg.norm(codes[live], axis=1).mean()
        new = tokens[drawn] * (length / np.maximum(np.linalg.norm(tokens[drawn], axis=1, keepdims=True), 1e-12))
        codes[dead] = np.array(world.broadcast(new.tolist()), codes.dtype)  # each process has tokens of its own
        dictionary.codes.set_value(codes)
        self.count.add_(paddle.to_tensor([float(len(dead))]))
