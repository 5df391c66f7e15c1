"""When two captions count as the same or nearly the same, and when two pictures do."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

NEAR = 0.8  # ours: from this share of common words on (Jaccard, after `normalise`) two texts are near-duplicates


def normalise(caption: str) -> str:
    """Lower case, words only, without articles: captions equal after this are the same caption."""
    words = re.findall(r"\w+", caption.lower())
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def words(text: str) -> frozenset[str]:
    """What near-duplicates are told by."""
    return frozenset(normalise(text).split())


def near(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether two texts are equal or near-duplicates."""
    return len(a & b) >= NEAR * len(a | b)


class NearIndex:
    """`words(text) in index`: whether a text is near one of many, without a comparison with each.

    Sets of which NEAR is common share one of the n - ceil(NEAR n) + 1 rarest words of either (n is its size), in any
    order of rarity that both are sorted by: the prefix filter of Bayardo et al., WWW 2007.
    """

    def __init__(self, texts: Iterable[frozenset[str]]):
        different = dict.fromkeys(texts)
        self._frequency = Counter(word for text in different for word in text)
        self._by_word: dict[str, list[frozenset[str]]] = defaultdict(list)
        for text in different:
            for word in self._rarest(text):
                self._by_word[word].append(text)
        self._wordless = frozenset() in different  # texts without any word are equal

    def __contains__(self, text: frozenset[str]) -> bool:
        if not text:
            return self._wordless
        return any(near(text, other) for word in self._rarest(text) for other in self._by_word.get(word, ()))

    def _rarest(self, text: frozenset[str]) -> list[str]:
        common = math.ceil(NEAR * len(text) - 1e-9)  # a product a hair above the whole number is that number
        return sorted(text, key=lambda word: (self._frequency[word], word))[: len(text) - common + 1]


# Both must hold for two pictures to be near-duplicates. Chosen by looking at the closest pairs of the demo's pictures:
# the hash alone joins unlike round things, the thumbnail alone joins all that is small and pale.
HASH_BITS, THUMBNAIL_DIFFERENCE = 6, 10.0


def look(picture: np.ndarray) -> np.ndarray:
    """What pictures are compared by: 64 bits of perceptual hash and a 16 x 16 RGB thumbnail, [832] float32."""
    import cv2  # words are compared without it

    bits = np.unpackbits(np.asarray(cv2.img_hash.pHash(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)), np.uint8))
    thumbnail = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA)
    return np.concatenate([bits, thumbnail.reshape(-1)]).astype(np.float32)


def alike(looks: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Places of the rows of `looks` that are near-duplicates of `one`. [found] int64"""
    return _close(looks, one, HASH_BITS, THUMBNAIL_DIFFERENCE)


def _close(looks: np.ndarray, one: np.ndarray, bits: int, difference: float) -> np.ndarray:
    close = np.flatnonzero((looks[:, :64] != one[:64]).sum(1) <= bits)
    return close[np.abs(looks[close, 64:] - one[64:]).mean(1) <= difference]


# Both must hold, and the proportions agree, for two drawings to be one. Chosen by looking: further apart begin other
# things of one outline (a shovel and a rake); variants in another colour or with another detail are within.
DRAWING_BITS, DRAWING_DIFFERENCE, PROPORTION = 16, 12.0, 0.1
WHITE = 210  # ours: ground is where all three values reach it; JPEG leaves noise around a drawing on white


def drawing(picture: np.ndarray) -> np.ndarray:
    """What drawings are compared by, whatever white is around them: log of height to width, then `look`, [833] float32.

    An empty picture is taken whole.
    """
    drawn = picture.min(axis=2) < WHITE
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if len(rows):
        picture = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = picture.shape[:2]
    return np.concatenate([[np.log(height / width)], look(picture)]).astype(np.float32)


def same_drawing(drawings: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Places of the rows of `drawings` that show what `one` does, perhaps re-coloured a little. [found] int64"""
    close = np.flatnonzero(np.abs(drawings[:, 0] - one[0]) <= PROPORTION)
    return close[_close(drawings[close, 1:], one[1:], DRAWING_BITS, DRAWING_DIFFERENCE)]
