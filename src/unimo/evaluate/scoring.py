"""The full caption x image score matrix of any pair scorer, without padding and without repeated encoding.

Captions of one length and images of one region count form a block whose pairs need no padding at all; what does not
depend on the pairing is computed once per caption and once per image.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import paddle
from paddle import nn

from unimo.evaluate.pair_scorers import Encoded, pair_scorer
from unimo.evaluate.runtimes import Runtime, traced_scorer
from unimo.inference import Precision
from unimo.models.streams import Pixels, Regions, Text


@dataclass(frozen=True)
class Block:
    """All pairings of captions of one length with images of one region count."""

    captions: np.ndarray  # [C] int64, rows of the score matrix
    images: np.ndarray  # [I] int64, columns
    length: int  # positions of one pair, image slot included


def plan_blocks(text_lengths: Sequence[int], region_counts: Sequence[int]) -> list[Block]:
    """Cut the matrix into blocks without padding; their `captions` x `images` cover every cell exactly once."""
    rows, columns = defaultdict(list), defaultdict(list)
    for row, length in enumerate(text_lengths):
        rows[length].append(row)
    for column, count in enumerate(region_counts):
        columns[count].append(column)
    return [
        Block(np.array(rows[length]), np.array(columns[count]), length + count)
        for length in sorted(rows)
        for count in sorted(columns)
    ]


def cost(blocks: Sequence[Block]) -> tuple[int, int]:
    """Pairs to score and encoder positions they take."""
    pairs = [len(b.captions) * len(b.images) for b in blocks]
    return sum(pairs), sum(p * b.length for p, b in zip(pairs, blocks))


@paddle.no_grad()
def score_matrix(
    model: nn.Layer,
    captions: Iterable[Text],
    images: Iterable[Regions | Pixels],
    batch_positions: int = 8192,
    progress: Callable[[int], object] = lambda pairs: None,
    runtime: Runtime = "dygraph",
    precision: Precision = "float32",
    wanted: np.ndarray | None = None,
) -> np.ndarray:
    """Score of every caption with every image.

    Args:
        model: of any system that a pair scorer knows.
        captions: one unpadded caption each, tensors [1, S]. Both are gone through once.
        images: one image each without padding, tensors [1, ...].
        batch_positions: encoder positions of one pass; bounds memory.
        progress: told the number of pairs after each pass.
        runtime: of the joint passes. Inference traces a graph of the weights of now, used by this call alone.
        precision: of their products; `runtimes.check_precision` tells what can be had.
        wanted: [captions, images] bool, the pairs to score; by default all.

    Returns:
        [captions, images] float32; not a number where a pair was not wanted.
    """
    was_training, scorer = model.training, pair_scorer(model)
    model.eval()
    texts = [scorer.encode_texts(text) for text in captions]
    pictures = [scorer.encode_images(picture) for picture in images]
    if runtime == "inference":
        scorer = traced_scorer(model, precision)
    scores = np.full([len(texts), len(pictures)], np.nan, np.float32)
    wanted = np.ones(scores.shape, bool) if wanted is None else wanted
    for block in plan_blocks(*([_positions(item) for item in items] for items in (texts, pictures))):
        cells = np.argwhere(wanted[np.ix_(block.captions, block.images)])
        if not len(cells):
            continue
        text, image = _stacked(texts, block.captions), _stacked(pictures, block.images)
        for part in np.array_split(cells, -(-len(cells) * block.length // batch_positions)):
            rows, columns = part.T
            got = scorer.score(text, image, paddle.to_tensor(rows), paddle.to_tensor(columns))
            scores[block.captions[rows], block.images[columns]] = got.numpy()
            progress(len(part))
    if was_training:
        model.train()
    return scores


def _positions(encoded: Encoded) -> int:
    """That it takes in a joint pass; a finished embedding, [1, E], takes none to speak of."""
    return encoded[0].shape[1] if encoded[0].ndim == 3 else 1


def _stacked(items: Sequence[Encoded], chosen: np.ndarray) -> Encoded:
    return tuple(paddle.concat(parts) for parts in zip(*(items[i] for i in chosen)))
