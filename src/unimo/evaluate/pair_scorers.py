"""What retrieval asks of a model: captions and pictures encoded apart, then any of their pairings scored.

What does not depend on the pairing is computed once for each caption and once for each picture: the embeddings of a
UNIMO, the two towers of a UNIMO-2, everything of a OneR.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from unimo.errors import ConfigError
from unimo.evaluate.ridge import RidgeMatch
from unimo.models.layers import attention_bias
from unimo.models.oner import Oner
from unimo.models.streams import Pixels, Regions, Text
from unimo.models.systems import system_of
from unimo.models.unimo import Unimo
from unimo.models.unimo2 import Unimo2
from unimo.readers.tensors import as_text

CALLS = 4  # in which texts are encoded alone: few pads, and not many small products
Encoded = tuple[Tensor, ...]  # each [n, ...], one row a caption or picture


class PairScorer(NamedTuple):
    """A model as retrieval sees it; all three are differentiable, so that a loss may be made of the scores."""

    encode_texts: Callable[[Text], Encoded]
    encode_images: Callable[[Any], Encoded]  # of the model's picture stream, Regions or Pixels
    score: Callable[[Encoded, Encoded, Tensor, Tensor], Tensor]  # (texts, images, rows, columns [P]) -> [P]
    # Vectors of captions and of pictures encoded alone, [n, H] each; their products rank as the match of two single
    # streams does.
    alone: tuple[Callable[[Encoded], Tensor], Callable[[Encoded], Tensor]]
    joint: bool = True  # whether scoring a pairing runs an encoder over both

    def text_vectors(self, text: Text) -> Tensor:
        """Of texts, each encoded alone. [B, H]"""
        return self.alone[0](self.encode_texts(text))

    def image_vectors(self, picture: Any) -> Tensor:
        """Of pictures, each encoded alone: Regions or Pixels, as the model reads them. [B, H]"""
        return self.alone[1](self.encode_images(picture))


def _unimo(model: Unimo) -> PairScorer:
    def encode_images(regions: Regions) -> Encoded:
        return model.embed_regions(regions), regions.mask

    def score(texts: Encoded, images: Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        (words, mask), (slots, image_mask) = texts, images
        return model.score_embedded(words, mask, slots, image_mask, rows, columns)

    def first(encoded: Encoded) -> Tensor:
        return model.encode(encoded[0], attention_bias(encoded[1]), keep_cache=False)[0][:, 0]

    def weighed(pooled: Tensor) -> Tensor:
        """As X^T and X^I are scored in pre-training; the match head's bias would rank nothing."""
        return pooled * model.match.affine.weight.squeeze(1)

    if model.config.match_on == "joint":
        return PairScorer(
            lambda text: (model.embed_text(text), text.mask),
            encode_images,
            score,
            (lambda text: weighed(model.pool_text(first(text))), lambda image: model.pool_image(first(image))),
        )
    return PairScorer(
        lambda text: (model.pool_text(first((model.embed_text(text), text.mask))),),
        lambda regions: (model.pool_image(first(encode_images(regions))),),
        lambda texts, images, rows, columns: model.match(
            texts[0].index_select(rows), images[0].index_select(columns)
        ).squeeze(1),
        (lambda text: weighed(text[0]), _itself),
        joint=False,
    )


def _unimo2(model: Unimo2) -> PairScorer:
    """The release's score, and the contrast of the towers alone."""

    def encode_texts(text: Text) -> Encoded:
        return model.encode_text(text)[0], text.mask

    def encode_images(pixels: Pixels) -> Encoded:
        return (model.vit(pixels.images),)

    def score(texts: Encoded, images: Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        (words, mask), (patches,) = texts, images
        return model.score_encoded(words, mask, patches, rows, columns)

    alone = (
        lambda text: model.scored_text(model.contrasted("text", text[0])),
        lambda image: F.normalize(model.contrasted("image", image[0]), axis=-1),
    )
    return PairScorer(encode_texts, encode_images, score, alone)


def _oner(model: Oner) -> PairScorer:
    """Cosine of the projected class tokens."""

    def score(texts: Encoded, images: Encoded, rows: Tensor, columns: Tensor) -> Tensor:
        return (texts[0].index_select(rows) * images[0].index_select(columns)).sum(1)

    return PairScorer(
        lambda text: (model.project(model(text=text).cls),),
        lambda pixels: (model.project(model(pixels=pixels).cls),),
        score,
        (_itself, _itself),
        joint=False,
    )


def _itself(encoded: Encoded) -> Tensor:
    """The vector that a stream was encoded as."""
    return encoded[0]


SCORERS: dict[str, tuple[tuple[str, ...], Callable[[Any], PairScorer]]] = {  # system -> heads it needs, scorer
    "unimo": (("pool", "match"), _unimo),
    "unimo-2": (("pool", "match"), _unimo2),
    "oner": ((), _oner),
}


def pair_scorer(model: nn.Layer) -> PairScorer:
    """The scorer of a model; raises a ConfigError where it has no heads to score pairs with."""
    if isinstance(model, RidgeMatch):
        return PairScorer(model.encode_texts, model.encode_images, model.score, (_itself, _itself), joint=False)
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


def pair_scores(
    scorer: PairScorer, text: dict[str, np.ndarray], images: Any, rows: Any, columns: Any, calls: Any = None
) -> Tensor:
    """Scores of many pairings of few texts and pictures, each encoded once. rows, columns: [P] integers -> [P]

    Args:
        text: as `readers.captions.collate_text` gives it.
        calls: of a joint scorer, [C, 3] integers as `readers.pairings.group_by_cost` gives them: pairings of a call,
            and the positions of picture and caption that it needs. By default one call takes all.
    """
    rows, columns = paddle.to_tensor(rows), paddle.to_tensor(columns)
    if scorer.joint:
        texts = scorer.encode_texts(as_text(text))
    else:
        texts = encoded_by_length(scorer.encode_texts, text)
    pictures = scorer.encode_images(images)
    if calls is None or not scorer.joint:
        return scorer.score(texts, pictures, rows, columns)
    counts = [count for count, _, _ in calls.tolist()]
    parts = zip(calls.tolist(), rows.split(counts), columns.split(counts))
    return paddle.concat(
        [scorer.score(_first(texts, tokens), _first(pictures, slots), r, c) for (_, slots, tokens), r, c in parts]
    )


def encoded_by_length(encode: Callable[[Text], Encoded], text: dict[str, np.ndarray]) -> Encoded:
    """What `encode` makes of each text alone, those of similar length together, so that there are few pads.

    Args:
        encode: gives tensors of one row a text, whose shape does not depend on the length.
        text: T of them, as `readers.captions.collate_text` gives them.
    """
    lengths = text["mask"].sum(1)
    order = np.argsort(lengths, kind="stable")
    parts = []
    for rows in np.array_split(order, min(CALLS, len(order))):
        size = int(lengths[rows].max())
        parts.append(encode(as_text({name: array[rows, :size] for name, array in text.items()})))
    back = paddle.to_tensor(np.argsort(order))
    return tuple(paddle.concat(part).index_select(back) for part in zip(*parts))


def _first(encoded: Encoded, positions: int) -> Encoded:
    """The first positions of each, where there are more: the others would be pads."""
    return tuple(x if x.shape[1] <= positions else x[:, :positions] for x in encoded)
