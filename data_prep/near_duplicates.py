"""When two captions count as the same, and when as nearly the same."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

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
