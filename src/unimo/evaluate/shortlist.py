"""An opt-in shortlist: only pairs that the model's own match of single streams ranks high are scored jointly.

Each caption keeps its best pictures, and each picture its best captions, so that both directions are served; all pairs
of either kind are scored. The others rank below every scored pair, by the match of single streams.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from unimo.engine.distributed import World
from unimo.errors import ConfigError
from unimo.evaluate.pair_scorers import pair_scorer
from unimo.models.streams import Pixels, Regions, Text
from unimo.models.systems import system_of


@dataclass(frozen=True, eq=False)
class Shortlist:
    """The pairs to score jointly, and what ranks the others."""

    alone: np.ndarray  # [captions, images] float32, the match of single streams
    chosen: np.ndarray  # [captions, images] bool
    kept: tuple[int, int]  # pictures of a caption, captions of a picture; more where they tie

    @classmethod
    def of(cls, alone: np.ndarray, pictures: int) -> "Shortlist":
        """The best `pictures` of each caption, and of each picture as many captions as makes as many pairs."""
        kept = pictures, math.ceil(pictures * alone.shape[0] / alone.shape[1])
        return cls(alone, _best(alone, kept[0]) | _best(alone.T, kept[1]).T, kept)

    def complete(self, scores: np.ndarray) -> np.ndarray:
        """The matrix with a finite score for each pair that was not chosen, below all that were."""
        return np.where(self.chosen, scores, scores[self.chosen].min() - 1 - (self.alone.max() - self.alone))

    def facts(self, image_of_caption: np.ndarray) -> dict[str, float]:
        """Its size and, in percent, its own recalls: how many queries have a true answer among the chosen pairs."""
        found = self.chosen & (image_of_caption[:, None] == np.arange(self.chosen.shape[1]))
        return {
            "pictures_per_caption": self.kept[0],
            "captions_per_picture": self.kept[1],
            "pairs_scored": 100 * float(self.chosen.mean()),
            "image_recall": 100 * float(found.any(axis=1).mean()),
            "text_recall": 100 * float(found.any(axis=0).mean()),
        }


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """Which columns are among a row's k best; all that tie with the last of them, so that no order decides."""
    k = min(k, scores.shape[1])
    return scores >= -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]


@paddle.no_grad()
def alone_scores(
    model: nn.Layer, captions: Iterable[Text], images: Iterable[Regions | Pixels], world: World
) -> np.ndarray:
    """Match of every caption encoded alone with every picture encoded alone. [captions, images] float32

    All processes call it with all captions and pictures, and encode a part of them each.

    Raises:
        ConfigError: the model has no other match than this one.
    """
    scorer, was_training = pair_scorer(model), model.training
    if not scorer.joint:
        raise ConfigError(
            f"a model of {system_of(model)} scores all pairs by streams encoded alone: leave out shortlist and score"
        )
    model.eval()
    text = _shared(captions, scorer.text_vectors, world)
    image = _shared(images, scorer.image_vectors, world)
    if was_training:
        model.train()
    return text @ image.T


def _shared(streams: Iterable[Any], vector: Callable[[Any], Tensor], world: World) -> np.ndarray:
    """The vector of each stream, every process making every n-th. [n, H]"""
    mine = [vector(one).numpy() if i % world.size == world.rank else None for i, one in enumerate(streams)]
    world.meet()  # one may have more to encode than another
    vectors = [next(one for one in ones if one is not None) for ones in zip(*world.gather(mine), strict=True)]
    return np.concatenate(vectors)
