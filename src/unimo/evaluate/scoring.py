"""The full caption x image score matrix of a cross-encoder, without padding and without repeated embedding.

Captions of one length and images of one region count form a block whose pairs need no padding at all; what does not
depend on the pairing (the embeddings) is computed once per caption and once per image.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from unimo.models.unimo import Regions, Text, Unimo


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
    model: Unimo,
    captions: Sequence[Text],
    images: Sequence[Regions],
    batch_positions: int = 8192,
    progress: Callable[[int], object] = lambda pairs: None,
) -> np.ndarray:
    """Match score of every caption with every image.

    Args:
        captions: one unpadded caption each, tensors [1, S].
        images: one image each without padding, tensors [1, N, ...].
        batch_positions: encoder positions of one pass; bounds memory.
        progress: told the number of pairs after each pass.

    Returns:
        [captions, images] float32.
    """
    was_training = model.training
    model.eval()
    text_states = [model.embed_text(text) for text in captions]
    image_states = [model.embed_regions(regions) for regions in images]
    scores = np.empty([len(captions), len(images)], np.float32)
    for block in plan_blocks([t.shape[1] for t in text_states], [i.shape[1] for i in image_states]):
        text = paddle.concat([text_states[row] for row in block.captions])  # (C, S, H)
        image = paddle.concat([image_states[column] for column in block.images])  # (I, N, H)
        words = paddle.ones(text.shape[:2])
        slots = paddle.concat([images[column].mask for column in block.images])  # all 1 but for images without regions
        cells = np.stack(np.meshgrid(np.arange(len(text)), np.arange(len(image)), indexing="ij"), -1).reshape(-1, 2)
        for part in np.array_split(cells, max(1, -(-len(cells) * block.length // batch_positions))):
            rows, columns = part.T
            got = model.score_embedded(text, words, image, slots, paddle.to_tensor(rows), paddle.to_tensor(columns))
            scores[block.captions[rows], block.images[columns]] = got.numpy()
            progress(len(part))
    if was_training:
        model.train()
    return scores
