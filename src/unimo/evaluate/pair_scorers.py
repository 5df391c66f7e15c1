"""What retrieval asks of a model: captions and pictures encoded apart, then any of their pairings scored.

What does not depend on the pairing is computed once for each caption and once for each picture: the embeddings of a
UNIMO, the two towers of a UNIMO-2, everything of a OneR.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn

from unimo.errors import ConfigError
from unimo.models.oner import Oner
from unimo.models.streams import Pixels, Regions, Text
from unimo.models.systems import system_of
from unimo.models.unimo import Unimo
from unimo.models.unimo2 import Unimo2

CONTRAST_WEIGHT = 0.3  # of the contrast in UNIMO-2's score (release: cmcl_score_weight of its Flickr30k settings)
Encoded = tuple[Tensor, ...]  # each [n, ...], one row a caption or picture


class PairScorer(NamedTuple):
    """A model as retrieval sees it; all three are differentiable, so that a loss may be made of the scores."""

    encode_texts: Callable[[Text], Encoded]
    encode_images: Callable[[Any], Encoded]  # of the model's picture stream, Regions or Pixels
    score: Callable[[Encoded, Encoded, Tensor, Tensor], Tensor]  # (texts, images, rows, columns [P]) -> [P]
    joint: bool = True  # whether scoring a pairing runs an encoder over both


def _unimo(model: Unimo) -> PairScorer:
    def encode_images(regions: Regions) -> Encoded:
        return model.embed_regions(regions), regions.mask

    def score(texts: Encoded, images: Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        (words, mask), (slots, image_mask) = texts, images
        return model.score_embedded(words, mask, slots, image_mask, rows, columns)

    return PairScorer(lambda text: (model.embed_text(text), text.mask), encode_images, score)


def _unimo2(model: Unimo2) -> PairScorer:
    """The release's: logit of the match, plus a share of the contrast of the towers (src/finetune of its retrieval)."""

    def encode_texts(text: Text) -> Encoded:
        return model.encode_text(text)[0], text.mask

    def encode_images(pixels: Pixels) -> Encoded:
        return (model.vit(pixels.images),)

    def score(texts: Encoded, images: Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        (words, mask), (patches,) = texts, images
        paired = model.ground(patches.index_select(columns), words.index_select(rows), mask.index_select(rows))
        return model.match_logits(paired)[:, 1] + CONTRAST_WEIGHT * model.contrast_score(paired).squeeze(1)

    return PairScorer(encode_texts, encode_images, score)


def _oner(model: Oner) -> PairScorer:
    """Cosine of the projected class tokens."""

    def score(texts: Encoded, images: Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        return (texts[0].index_select(rows) * images[0].index_select(columns)).sum(1)

    return PairScorer(
        lambda text: (model.project(model(text=text).cls),),
        lambda pixels: (model.project(model(pixels=pixels).cls),),
        score,
        joint=False,
    )


SCORERS: dict[str, tuple[tuple[str, ...], Callable[[Any], PairScorer]]] = {  # system -> heads it needs, scorer
    "unimo": (("pool", "match"), _unimo),
    "unimo-2": (("pool", "match"), _unimo2),
    "oner": ((), _oner),
}


def pair_scorer(model: nn.Layer) -> PairScorer:
    """The scorer of a model; raises a ConfigError where it has no heads to score pairs with."""
    system = system_of(model)
    if system not in SCORERS:
        raise ConfigError(f"a model of {system} scores no pairs; expected one of {', '.join(SCORERS)}")
    heads, scorer = SCORERS[system]
    missing = [head for head in heads if head not in model.heads]
    if missing:
        raise ConfigError(
            f"the model has no head {' and no head '.join(missing)}, by which a {system} scores a caption with a "
            "picture; fine-tune it for retrieval first"
        )
    return scorer(model)


def pair_scores(scorer: PairScorer, text: Text, images: Any, rows: Any, columns: Any) -> Tensor:
    """Scores of many pairings of few texts and pictures, each encoded once. rows, columns: [P] integers -> [P]"""
    rows, columns = paddle.to_tensor(rows), paddle.to_tensor(columns)
    return scorer.score(scorer.encode_texts(text), scorer.encode_images(images), rows, columns)
