"""UNIMO-2's streams of pictures: captioned ones, some under another caption, too, and two views of those without.

Every random choice is a function of (seed, epoch, sample). Texts alone are the text stream of UNIMO (`unimo_streams`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unimo.pretrain.recipe import Masking
from unimo.pretrain.unimo_streams import hide_words
from unimo.readers.annotations import Pair
from unimo.readers.batching import Batch, fingerprint
from unimo.readers.captions import Captions
from unimo.readers.images import Rngs
from unimo.readers.pixels import PixelImages
from unimo.readers.tokenizer import Tokenizer

Codes = tuple[int, float]  # codes of a sample, and the share of them to mask


def mask_codes(codes: Codes | None, rngs: Rngs) -> dict[str, dict[str, np.ndarray]]:
    """`masked` [B, K] float32, 1 for each code that is to be predicted; nothing without `codes`."""
    if codes is None:
        return {}
    count, ratio = codes
    drawn = np.stack([rng.random(count) < ratio for rng in rngs])
    drawn[:, 0] |= ~drawn.any(axis=1)  # the code of the most votes where none was drawn
    return {"codes": {"masked": drawn.astype(np.float32)}}


class ViewStream:
    """Pictures without text: two varied views of each."""

    name, even = "image", True

    def __init__(self, ids: Sequence[str], images: PixelImages, codes: Codes | None = None):
        self.ids, self.images, self.codes = list(ids), images, codes
        self.lengths = 2 * images.positions(self.ids)[:, None]
        self.fingerprint = fingerprint(self.ids, images.fingerprint, codes)

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        """`pixels` of 2 B pictures: the first view of each, then the second."""
        firsts, seconds = zip(*(rng.spawn(2) for rng in rngs))
        taken, first = self.images.readable(samples, self.ids, firsts)
        _, second = self.images.readable(samples, self.ids, seconds)
        pixels = {"images": np.concatenate([first["images"], second["images"]])}
        inputs = {"pixels": pixels, **mask_codes(self.codes, [*firsts, *seconds])}
        return Batch(self.name, [self.ids[i] for i in taken], inputs)


class CaptionedStream:
    """One sample is one caption with its picture; a share of captions is also paired with the picture of another one.

    The release's data has such pairs as samples of their own, which take part in the contrast as candidates that are
    nobody's partner. Candidates that are only pushed away drove image and text to opposite ends in our runs, where
    nothing is learnt any more (docs/unimo2.md); so here each sample is a pair that fits.

    Args:
        mismatched: that share; which, and with what picture, is a function of (seed, epoch, sample).
    """

    name, even = "pair", True

    def __init__(
        self,
        pairs: Sequence[Pair],
        images: PixelImages,
        tokenizer: Tokenizer,
        masking: Masking,
        mismatched: float,
        max_tokens: int,
        codes: Codes | None = None,
    ):
        self.images, self.tokenizer, self.masking, self.codes = images, tokenizer, masking, codes
        self.mismatched = mismatched if len(pairs) > 1 else 0.0
        captions = Captions.of(pairs, tokenizer, max_tokens)
        self.ids, self.image_ids, self.sequences = captions.ids, captions.image_ids, captions.sequences
        own = np.stack([images.positions(self.image_ids), [len(s) for s in self.sequences]], axis=1)
        self.lengths = np.ceil(own * (1 + self.mismatched)).astype(np.int64)  # on average
        texts = list(zip(self.ids, self.image_ids, captions.texts))
        settings = (masking, mismatched, max_tokens, codes)
        self.fingerprint = fingerprint(texts, images.fingerprint, tokenizer.fingerprint, *settings)

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        """Masked `text` of B captions, `pixels` of their pictures and of M others; `others`: `captions` [M], rows of
        the captions that those are paired with."""
        wrong = [
            (row, self._another(int(sample), rng))
            for row, (sample, rng) in enumerate(zip(samples, rngs))
            if rng.random() < self.mismatched
        ]
        own, pixels = self.images.readable(samples, self.image_ids, rngs)
        more = [rngs[row].spawn(1)[0] for row, _ in wrong]
        sequences = [self.sequences[i] for i in own]
        inputs: dict[str, Any] = {"text": hide_words(sequences, self.tokenizer, self.masking, rngs)}
        if wrong:
            taken, others = self.images.readable([i for _, i in wrong], self.image_ids, more)
            # what stands in for a broken picture may be the caption's own
            kept = [k for k, (row, _) in enumerate(wrong) if self.image_ids[taken[k]] != self.image_ids[own[row]]]
            pixels = {"images": np.concatenate([pixels["images"], others["images"][kept]])}
            inputs["others"] = {"captions": np.array([wrong[k][0] for k in kept], np.int64)}
        inputs["pixels"] = pixels
        return Batch(self.name, [self.ids[i] for i in own], inputs | mask_codes(self.codes, rngs))

    def _another(self, sample: int, rng: np.random.Generator) -> int:
        """A caption of another picture, every one as likely."""
        while self.image_ids[other := int(rng.integers(len(self.ids)))] == self.image_ids[sample]:
            pass
        return other
