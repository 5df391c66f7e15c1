"""How close two sentences are in meaning: cosine of MiniLM's sentence vectors (Reimers and Gurevych 2019)."""

import warnings
from pathlib import Path

import numpy as np
import paddle

from data_prep.sources.minilm import minilm
from unimo.models.unimo import Text
from unimo.readers.captions import caption_ids, collate_text
from unimo.zoo import from_pretrained

# of what loading says: nobody is to convert a folder of the cache, and sentences have no image side
UNIMPORTANT = (
    ".*ported on the fly",
    ".* does not hold box_embedding, image_embedding, image_norm, which start at random",
)
SAME = 0.76  # cosine of two words, ours: a couch and a sofa have 0.86, a frog and a toad 0.75
MAX_TOKENS = 128  # as all-MiniLM-L6-v2 was trained; a longer sentence loses its end


class SentenceEncoder:
    """MiniLM (`all-MiniLM-L6-v2`). Raises DataError where its package cannot be had."""

    def __init__(self, cache: Path | None = None):
        folder, self.package = minilm(cache)
        with paddle.utils.unique_name.guard(), warnings.catch_warnings():
            for said in UNIMPORTANT:
                warnings.filterwarnings("ignore", message=said)
            self.model = from_pretrained(folder, system="unimo")
        self.tokenizer = self.model.tokenizer

    @paddle.no_grad()
    def __call__(self, sentence: str) -> np.ndarray:
        """A vector of length 1, the mean of the token states. [384] float32

        One sentence at a time: products of other shapes round differently, and a result must not depend on the others.
        """
        arrays = collate_text([caption_ids(self.tokenizer, sentence, MAX_TOKENS)], self.tokenizer.pad_id)
        text = Text(**{name: paddle.to_tensor(array) for name, array in arrays.items()})
        mean = self.model(text=text).text[0].mean(0)
        return (mean / mean.norm()).numpy()

    def same(self, word: str, other: str) -> bool:
        """Whether `other` is a usual word, one of the model's 30,522 WordPieces, and as close as a synonym."""
        pieces = caption_ids(self.tokenizer, other, MAX_TOKENS)
        return len(pieces) == len(caption_ids(self.tokenizer, "a", MAX_TOKENS)) and self.likeness(word, other) >= SAME

    def likeness(self, sentence: str, other: str) -> float:
        """Cosine of two sentences, to four digits."""
        return round(float(self(sentence) @ self(other)), 4)
