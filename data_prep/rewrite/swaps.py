"""Nodes of a caption replaced by others of their kind (X-): sentences that look right and no longer fit the picture.

What comes in must be of the same kind and form and counted in the training captions; what may be true of the picture
all the same stays out:

    objects     the same thing in other words (synonyms, kinds of it, what it is a kind of, after WordNet), and whatever
                may be called like anything in the image's captions or among its detected objects
    attributes  values that do not exclude the old one: a big dog may be old, a red one is not blue
    relations   prepositions and verbs that can hold together: what sits near a tree may be under it

What remains is drawn by its frequency from the few that are most alike in WordNet: another animal for a yak before a
saxophone, so that the text alone does not tell.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations
from typing import Any

import inflect

from data_prep.near_duplicates import normalise
from data_prep.rewrite.graphs import DEED, PARTICIPLE, PARTICLE, PARTITIVE, PREDICATIVE, PREPOSITION, Graph, nodes
from data_prep.rewrite.wordnet import FREQUENT, Synset, WordNet

ALIKE = 2  # replacements that a node is drawn from, for each negative asked for: the more, the less alike
NARROW = 4  # least number of kinds above the kind that two nouns share: an artefact, an organism, a region, an act
CLOSE = 6  # the same where words beside a noun say what it can be, or where several change: a device, a food, a mammal
OTHERS = 6  # relation negatives of a caption for each "without": it says only that something is missing
TRIES = 10  # draws for each negative asked for; small vocabularies cannot give them all
KINDS = ("object", "attribute", "relation")
MOST_CHANGES = 3  # of a negative with several
_NEXT = re.compile(r"^\s+(\w+)")  # the word after a node
_WORD = re.compile(r"^[^\W_][^\x00-\x1f\x7f]*$")  # an entry begins with a letter or digit and is one line

# Places that exclude each other, ours. Other prepositions (of, with, for, near) say too little to be made false.
_PLACES = [
    {"on", "upon", "atop", "on top of"},
    {"under", "below", "beneath", "underneath"},
    {"in", "inside", "within"},
    {"behind", "in back of"},
    {"in front of"},
    {"above", "over"},
    {"next to", "beside"},
]
_ALSO = {("on", "above"), ("on", "in"), ("on", "in front of"), ("on", "behind"), ("in", "behind"), ("in", "under")}
_ALSO |= {("next to", "in front of"), ("next to", "behind")}
_PAIRS = [("with", "without"), ("inside", "outside"), ("up", "down")]
_PAIRS += [("to the left of", "to the right of"), ("on the left of", "on the right of")]
_OPPOSITES = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}
_EXCLUDING = {*_OPPOSITES, *(word for group in _PLACES for word in group)}  # prepositions that others exclude
# Verbs that say too little, or go along with most others.
_VAGUE = {"be", "have", "do", "get", "make", "take", "use", "show", "see", "include", "contain", "feature", "become"}
_VAGUE |= {"look", "seem", "appear", "like", "go", "come", "hold", "stand", "locate", "call", "know", "name", "base"}
_VAGUE |= {"begin", "start", "continue", "follow", "move", "touch", "watch", "handle", "bear", "keep"}


@dataclass(frozen=True)
class Entries:
    """Words of one kind and class, most frequent first."""

    texts: list[str]
    lemmas: list[str]
    phrases: list[str]  # the texts as `_phrase` gives them
    cumulative: list[int]  # running sum of counts


Vocabulary = dict[tuple[str, str], Entries]  # (kind, class) -> entries


@dataclass(frozen=True)
class Scene:
    """What is known to be true of a caption's image besides the caption."""

    captions: Sequence[str] = ()  # its other captions
    nouns: frozenset[str] = frozenset()  # lemmas of the objects of all its captions, detected ones too


def count(graphs: Iterable[Graph]) -> Vocabulary:
    """Vocabularies of the captions whose graphs are given."""
    counts: dict[tuple[str, str], Counter] = {}
    graphs = list(graphs)
    within = {node["text"] for graph in graphs for _, node in nodes(graph) if node["span"][0]}
    for graph in graphs:
        for kind, node in nodes(graph):
            text = _without_capital(node, within)
            if _stays(node) or _misread(node) or not _WORD.search(text):
                continue
            for word_class in _takes_part_in(node["class"]):
                counts.setdefault((kind, word_class), Counter())[text, node["lemma"]] += 1
    prepositions = counts.get(("relation", PREPOSITION), Counter())
    for text in _EXCLUDING if prepositions else ():  # a small corpus lacks some, and nobody writes "without"
        prepositions[text, text] += 1
    vocabulary = {}
    for key, counter in counts.items():
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        texts, lemmas = (list(column) for column in zip(*(entry for entry, _ in ranked)))
        cumulative = list(accumulate(number for _, number in ranked))
        vocabulary[key] = Entries(texts, lemmas, list(map(_phrase, texts)), cumulative)
    return vocabulary


def _phrase(text: str) -> str:
    """What whole words are looked for by: one phrase in another."""
    return f" {normalise(text)} "


def _misread(node: dict[str, Any]) -> bool:
    """Whether the parser took a noun for a plural that shows none: "Hawa Mahal", "fedora"."""
    last = node["text"].lower().split()[-1]
    return node["class"] in ("NNS", "NNPS") and not last.endswith("s") and node["lemma"].endswith(last)


def _stays(node: dict[str, Any]) -> bool:
    """Whether nothing takes a node's place, nor it another's: a slice of, filled with, pick up, sits and plays; of."""
    bound = node["class"].endswith((PARTITIVE, PARTICIPLE, PARTICLE, DEED))
    return bound or node["class"] == PREPOSITION and node["text"].lower() not in _EXCLUDING


def _without_capital(node: dict[str, Any], within: set[str]) -> str:
    """A node's text as it stands within a sentence; `within` are the texts that were seen there."""
    text = node["text"]
    lower = text[0].lower() + text[1:]
    own = lower not in within and (node.get("name") or text in within)  # Paris, French
    return text if node["span"][0] or own or text[1:2].isupper() else lower


def _takes_part_in(word_class: str) -> list[str]:
    """Classes that an entry can stand for: after `the` what stands after `a`, after "is" what stands before a noun."""
    if word_class.endswith(" a"):
        return [word_class, word_class.removesuffix(" a") + " the"]
    return [word_class, word_class + PREDICATIVE] if word_class in ("adjective", "JJR") else [word_class]


class Swapper:
    """Draws replacements from a vocabulary.

    Args:
        number: negatives of each kind at most; with several changes too.
    """

    def __init__(self, vocabulary: Vocabulary, wordnet: WordNet, number: int):
        self.vocabulary, self.wordnet, self.number = vocabulary, wordnet, number
        self._beneath = cache(self._find_beneath)

    def __call__(self, caption: str, graph: Graph, scene: Scene, rng: random.Random) -> list[dict[str, Any]]:
        """Negatives with one change, kind by kind, then those with several.

            {"text", "kind", "node", "from", "to", "span"}      kind: object, attribute or relation
            {"text", "kind": "several", "changes": [{"kind", "node", "from", "to", "span"}, ...]}

        `span` is [start, end) in the caption, `from` what stands there. Equal `rng`, equal result.
        """
        by_kind: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for kind, node in nodes(graph):
            if (kind, node["class"]) in self.vocabulary and not (_stays(node) or self._is_bound(caption, kind, node)):
                by_kind[kind].append(node)
        mentioned = [_phrase(text) for text in (caption, *scene.captions)]
        nouns = scene.nouns | {node["lemma"] for node in graph["objects"]}
        used = {normalise(text) for text in (caption, *scene.captions)}
        negatives: list[dict[str, Any]] = []

        @cache
        def pool(kind: str, i: int, close: bool) -> tuple[list[int], list[int]]:
            """Entries that may take the place of the i-th node of a kind, the most alike first, and their counts."""
            node = by_kind[kind][i]
            entries = self.vocabulary[kind, node["class"]]
            close = close or kind == "object" and self._is_tied(caption, graph, node)
            most = -(-self.number // 2) if close and kind == "object" else ALIKE * self.number
            found: list[int] = []
            for k in self._alike_first(kind, node, CLOSE if close else NARROW):
                said = any(entries.phrases[k] in other for other in mentioned)
                if not said and self._false(kind, node, entries.texts[k], entries.lemmas[k], graph, nouns):
                    found.append(k)
                    if len(found) == most:
                        break
            return found, [entries.cumulative[k] - (entries.cumulative[k - 1] if k else 0) for k in found]

        def draw(kind: str, i: int, close: bool = False) -> dict[str, Any] | None:
            """A change of one node, if there is any."""
            node, (found, counts) = by_kind[kind][i], pool(kind, i, close)
            if not found:
                return None
            text = self.vocabulary[kind, node["class"]].texts[rng.choices(found, counts)[0]]
            start, end, new = _fit(caption, node["span"], text)
            return {"kind": kind, "node": node["text"], "from": caption[start:end], "to": new, "span": [start, end]}

        def keep(changes: list[dict[str, Any]], record: dict[str, Any]) -> bool:
            text = _apply(caption, changes)
            if (key := normalise(text)) in used:
                return False
            used.add(key)
            negatives.append({"text": text, **record})
            return True

        def one_change(kind: str) -> bool:
            change = draw(kind, rng.randrange(len(by_kind[kind])))
            if change is None or normalise(change["to"]) == "without" and not _may_deny(negatives):
                return False
            return keep([change], change)

        def several_changes(candidates: list[tuple[str, int]]) -> bool:
            chosen = rng.sample(candidates, rng.randint(2, min(MOST_CHANGES, len(candidates))))
            if not all(_independent(graph, *two) for two in combinations([(k, by_kind[k][i]) for k, i in chosen], 2)):
                return False
            changes = sorted(
                filter(None, (draw(*one, close=True) for one in chosen)), key=lambda change: change["span"]
            )
            return len(changes) > 1 and _go_together(changes) and keep(changes, {"kind": "several", "changes": changes})

        for kind, candidates in by_kind.items():
            if candidates:
                self._repeat(one_change, kind)
        every = [(kind, i) for kind, candidates in by_kind.items() for i in range(len(candidates))]
        if len(every) > 1:
            self._repeat(several_changes, every)
        return negatives

    def _is_tied(self, caption: str, graph: Graph, node: dict[str, Any]) -> bool:
        """Whether other words say what kind of thing a noun must be: one reads a book, a book is closed, a ball is of
        wool. A colour says little."""
        place = next(i for i, one in enumerate(graph["objects"]) if one is node)
        done_to = any(r["object"] == place and r["class"] != PREPOSITION for r in graph["relations"])
        described = any(
            a["object"] == place and not (a["class"].startswith("number") or self.wordnet.is_colour(a["lemma"]))
            for a in graph["attributes"]
        )
        return done_to or described or caption[: node["span"][0]].split()[-1:] == ["of"]

    def _alike_first(self, kind: str, node: dict[str, Any], least: int) -> Iterator[int]:
        """Numbers of the entries of a node's class, each once: nouns and verbs of the narrowest kind they share first.

        Nouns that share no narrow kind are left out; of nouns that WordNet does not know, mostly names, all that it
        knows. Attributes come by frequency, and numbers are written alike: in words, or with as many digits.
        """
        word_class = node["class"]
        texts = self.vocabulary[kind, word_class].texts
        if word_class.startswith("number"):
            yield from (i for i, text in enumerate(texts) if _look(text) == _look(node["text"]))
            return
        seen: set[int] = set()
        if kind == "object" or word_class.startswith("VB"):
            pos = "n" if kind == "object" else "v"
            beneath = self._beneath(kind, word_class, pos)
            for synset in self.wordnet.narrowest(_head(kind, node["lemma"]), pos, FREQUENT, least * (pos == "n")):
                new = [i for i in beneath.get(synset, ()) if i not in seen]
                seen.update(new)
                yield from new
        if kind != "object":
            yield from (i for i in range(len(texts)) if i not in seen)
        elif not self.wordnet.senses(node["lemma"], "n"):
            yield from beneath.get(None, ())

    def _find_beneath(self, kind: str, word_class: str, pos: str) -> dict[Synset | None, list[int]]:
        """Kind of thing or deed -> the entries of a class that are such in their first sense; None -> unknown ones."""
        found: dict[Synset | None, list[int]] = {}
        for i, lemma in enumerate(self.vocabulary[kind, word_class].lemmas):
            kinds: Sequence[Synset | None] = self.wordnet.narrowest(_head(kind, lemma), pos, 1, 0) or [None]
            for synset in kinds:
                found.setdefault(synset, []).append(i)
        return found

    def _is_bound(self, caption: str, kind: str, node: dict[str, Any]) -> bool:
        """Whether another noun would not fit: one read as a plural, or part of a term of WordNet's (French fries)."""
        if kind != "object":
            return False
        start, end = node["span"]
        before, after = caption[:start].split()[-1:], _NEXT.findall(caption[end:])
        if before and before[0].lower() in ("a", "an", "the"):  # "the street" is New York's
            before = []
        terms = [f"{one} {node[key]}" for one in before for key in ("text", "lemma")]
        terms += [f"{node['text']} {one}" for one in after]
        return _misread(node) or any(map(self.wordnet.has, terms))

    def _repeat(self, attempt: Callable[..., bool], *arguments: Any) -> None:
        """Try until `number` attempts succeeded, or most failed."""
        found = 0
        for _ in range(TRIES * self.number):
            if found == self.number:
                return
            found += attempt(*arguments)

    def _false(
        self, kind: str, node: dict[str, Any], text: str, lemma: str, graph: Graph, nouns: frozenset[str]
    ) -> bool:
        """Whether a node with another word in its place is likely to say something false."""
        if kind == "object":
            if not self._is_thing(lemma) and self._is_thing(node["lemma"]):  # "a playing" for a kingfisher
                return False
            return not any(self.wordnet.kind(lemma, noun) for noun in nouns)
        if kind == "attribute":
            if node["class"].startswith("number"):
                return not self.wordnet.alike(node["lemma"], "n", lemma, "n") and lemma != node["lemma"]
            if node["class"] == "VBG":
                return self._other_action(node["lemma"], lemma)
            return self.wordnet.exclude(node["lemma"], lemma)
        if node["class"] == PREPOSITION:
            old, new = node["text"].lower(), text.lower()
            where = graph["objects"][node["object"]]
            seen = any(self.wordnet.mostly(where["lemma"], "physical entity", senses) for senses in (1, FREQUENT))
            place = (
                seen or not self.wordnet.senses(where["lemma"], "n")
            ) and "name" not in where  # not "in flight", "in India"
            return _elsewhere(old, new) and (_OPPOSITES.get(old) == new or place)
        return self._other_action(node["lemma"].split()[0], lemma.split()[0])

    def _is_thing(self, lemma: str) -> bool:
        """Whether a noun may name what can be seen: no half, October, playing."""
        kinds = ("physical entity", "group")
        return not self.wordnet.senses(lemma, "n") or any(self.wordnet.kind(lemma, one) for one in kinds)

    def _other_action(self, verb: str, other: str) -> bool:
        return not ({verb, other} & _VAGUE or self.wordnet.kind(verb, other, "v"))


def _elsewhere(old: str, new: str) -> bool:
    """Whether two prepositions exclude each other."""
    if _OPPOSITES.get(old) == new:
        return True
    one, other = (next((group for group in _PLACES if word in group), None) for word in (old, new))
    if one is None or other is None or one == other:
        return False
    return not any(a in one and b in other or a in other and b in one for a, b in _ALSO)


def _head(kind: str, lemma: str) -> str:
    """What WordNet is asked for: of "sit on" the verb."""
    return lemma.split()[0] if kind == "relation" else lemma


def _look(number: str) -> tuple[bool, int]:
    """How a number is written: in letters, or with how many digits."""
    return number[0].isalpha(), 0 if number[0].isalpha() else len(number)


def _may_deny(negatives: Sequence[dict[str, Any]]) -> bool:
    """Whether so many relations have been swapped that one more may be "without"."""
    relations = [normalise(negative["to"]) for negative in negatives if negative["kind"] == "relation"]
    denied = relations.count("without")
    return len(relations) - denied >= OTHERS * (denied + 1)


def _independent(graph: Graph, one: tuple[str, dict[str, Any]], other: tuple[str, dict[str, Any]]) -> bool:
    """Whether two nodes may change at once: a noun goes with its adjective and a verb with its nouns ("a blue orange"),
    and of two names one is often part of the other ("Mumbai, California")."""
    (kind, node), (other_kind, other_node) = sorted((one, other), key=lambda two: two[0] != "object")
    if kind != "object":
        return True
    if other_kind == "object":
        return not ("name" in node and "name" in other_node)
    ends = ("object",) if other_kind == "attribute" else ("subject", "object")
    verb_or_adjective = other_node["class"] != PREPOSITION
    return not (verb_or_adjective and any(graph["objects"][other_node[end]] is node for end in ends))


def _go_together(changes: Sequence[dict[str, Any]]) -> bool:
    """Whether changes, in order, do not overlap, bring in different words, and deny nothing: "a peach without a kettle"
    is true of a peach with a leaf."""
    apart = all(a["span"][1] <= b["span"][0] for a, b in zip(changes, changes[1:]))
    put_in = {normalise(change["to"]) for change in changes}
    return apart and len(put_in) == len(changes) and "without" not in put_in


def _apply(caption: str, changes: Sequence[dict[str, Any]]) -> str:
    """The caption with all changes made; from the end, so that earlier spans stay right."""
    for change in sorted(changes, key=lambda change: change["span"], reverse=True):
        start, end = change["span"]
        caption = caption[:start] + change["to"] + caption[end:]
    return caption


_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)
_SPOKEN_EIGHT = re.compile(r"8|1[18]\b")  # the library does not know numbers


_grammar = cache(inflect.engine)


@cache
def _article(word: str) -> str:
    """`a` or `an`, as the word is spoken."""
    return "an" if _SPOKEN_EIGHT.match(word) else _grammar().a(word).split()[0]


def _fit(caption: str, span: Sequence[int], new: str) -> tuple[int, int, str]:
    """Where and what to insert: a capital where the sentence begins, and `a` or `an` as the new word needs it."""
    start, end = span
    if start == 0 and caption[0].isupper():
        new = new[0].upper() + new[1:]
    article = _ARTICLE.search(caption[:start])
    if article:
        right = _article(new)
        if article[1].lower() != right:
            capital = article[1][0].isupper()
            return article.start(1), end, (right.capitalize() if capital else right) + article[2] + new
    return start, end, new
