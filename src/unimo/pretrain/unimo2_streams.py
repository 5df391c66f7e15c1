"""UNIMO-2's streams of pictures: captioned ones, some under a wrong caption, and two views of those without.

Every random choice is a function of (seed, epoch, sample). Texts alone are the text stream of UNIMO (`unimo_streams`).
"""

from collections.abc import Sequence

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
    """One sample is one caption with its picture, or, for a share of them, with the picture of another one.

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
        self.lengths = np.stack([images.positions(self.image_ids), [len(s) for s in self.sequences]], axis=1)
        texts = list(zip(self.ids, self.image_ids, captions.texts))
        settings = (masking, mismatched, max_tokens, codes)
        self.fingerprint = fingerprint(texts, images.fingerprint, tokenizer.fingerprint, *settings)

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        """Masked `text`, `pixels`, and `labels` [B] int64, 1 where they belong together.

        `words` and `labels` of the text are of those pairs alone; the words of the others are hidden, too, so that the
        mask does not tell which is which.
        """
        own = [int(sample) for sample in samples]
        pictured = [self._another(i, rng) if rng.random() < self.mismatched else i for i, rng in zip(own, rngs)]
        taken, pixels = self.images.readable(pictured, self.image_ids, rngs)
        # where another picture stands in for a broken one, its caption stands in, too
        own = [new if old == i else i for i, old, new in zip(own, pictured, taken)]
        fit = np.array([self.image_ids[i] == self.image_ids[j] for i, j in zip(own, taken)])
        text = hide_words([self.sequences[i] for i in own], self.tokenizer, self.masking, rngs)
        kept = fit[text["words"] // text["ids"].shape[1]]
        text |= {"words": text["words"][kept], "labels": text["labels"][kept]}
        inputs = {"text": text, "pixels": pixels, "pairs": {"labels": fit.astype(np.int64)}}
        return Batch(self.name, [self.ids[i] for i in own], inputs | mask_codes(self.codes, rngs))

    def _another(self, sample: int, rng: np.random.Generator) -> int:
        """A caption of another picture, every one as likely."""
        while self.image_ids[other := int(rng.integers(len(self.ids)))] == self.image_ids[sample]:
            pass
        return other
