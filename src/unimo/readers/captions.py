"""Pairs -> captions, and captions' token ids -> the padded text stream of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unimo.models.streams import FIRST_POSITION
from unimo.readers.annotations import Pair
from unimo.readers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Captions:
    """The captions of some pairs, one after the other: parallel lists, one entry a caption."""

    ids: list[str]  # IMAGE_ID#PLACE
    texts: list[str]
    pairs: list[Pair]  # each caption's own
    rows: np.ndarray  # [captions] int64, place of that pair among the pairs given
    sequences: list[list[int]]  # token ids with [CLS] and [SEP]; empty without a tokenizer

    @classmethod
    def of(cls, pairs: Sequence[Pair], tokenizer: Tokenizer | None = None, max_tokens: int = 512) -> "Captions":
        """All captions in the order of the pairs; with a tokenizer also their ids, cut to `max_tokens`."""
        found = [(key, text, row) for row, pair in enumerate(pairs) for key, text in pair.captions_by_id().items()]
        texts = [text for _, text, _ in found]
        return cls(
            ids=[key for key, _, _ in found],
            texts=texts,
            pairs=[pairs[row] for _, _, row in found],
            rows=np.array([row for _, _, row in found], np.int64),
            sequences=[caption_ids(tokenizer, text, max_tokens) for text in texts] if tokenizer else [],
        )

    @property
    def image_ids(self) -> list[str]:
        """Each caption's picture."""
        return [pair.image_id for pair in self.pairs]


def caption_ids(tokenizer: Tokenizer, text: str, max_tokens: int) -> list[int]:
    """[CLS] text [SEP]; a longer text loses its end, never its [SEP]."""
    return [tokenizer.cls_id, *tokenizer.encode(text)[: max_tokens - 2], tokenizer.sep_id]


def collate_text(
    sequences: Sequence[Sequence[int] | np.ndarray],
    pad_id: int,
    positions: Sequence[Sequence[int] | np.ndarray] | None = None,
    types: Sequence[Sequence[int]] | None = None,
) -> dict[str, np.ndarray]:
    """Padded model input: ids and positions int64 [B, S], mask float32 [B, S]; types int64 [B, S] where given, pads 0.

    Args:
        positions: of each token where they do not simply count up from 2 (seq2seq restarts them at the target).
        types: of each token, for a model that has a table of them.
    """
    size = max(map(len, sequences))
    ids = np.full((len(sequences), size), pad_id, np.int64)
    places = np.ones((len(sequences), size), np.int64)  # pads sit at position 1
    mask = np.zeros((len(sequences), size), np.float32)
    for row, sequence in enumerate(sequences):
        n = len(sequence)
        ids[row, :n] = sequence
        places[row, :n] = np.arange(FIRST_POSITION, n + FIRST_POSITION) if positions is None else positions[row]
        mask[row, :n] = 1
    padded: dict[str, np.ndarray] = {"ids": ids, "positions": places, "mask": mask}
    if types is not None:
        padded["types"] = np.array([[*row, *[0] * (size - len(row))] for row in types], np.int64)
    return padded
