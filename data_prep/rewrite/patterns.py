"""Captions put otherwise by rules over spaCy's dependencies: other frames and orders, hardly other words. All are ours.

having     A teapot with a blue band.     A teapot that has a blue band.          (and back)
clause     A man driving a car.           A man who is driving a car.             (and back)
participle A bear that lives in China.    A bear living in China.
place      A turkey on a platter.         A turkey that is on a platter.
alike      A cup next to a plate.         A cup beside a plate.
order      A wrench and a screwdriver.    A screwdriver and a wrench.
of         The jaguar's jaw.              The jaw of the jaguar.
front      It was listed in 1987.         In 1987, it was listed.
simple     A man is riding a horse.       A man rides a horse.
number     2 dogs.                        Two dogs.
synonym    A soft couch.                  A soft sofa.                            (WordNet's first senses)
frame      A small yak.                   There is a small yak. (or: A picture of)
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import inflect

from data_prep.rewrite.clauses import stated
from data_prep.rewrite.swaps import _apply, _fit
from data_prep.rewrite.wordnet import FREQUENT, WordNet

Token = Any  # of spaCy
Edit = tuple[int, int, str]  # [start, end) in characters, and what comes in

SYNONYM = "synonym"
FRAME = "frame"  # says least, so it counts only where no other rule applies
_PLACES = {"in", "on", "under", "behind", "above", "beside", "near", "below", "over", "inside", "beneath", "at"}
_ALIKE = {"next to": "beside", "beside": "next to", "underneath": "under", "beneath": "under", "atop": "on top of"}
_ALIKE |= {"on top of": "atop", "near": "close to", "close to": "near", "in back of": "behind"}
_FRONTED = {"in", "on", "during", "since", "at", "near", "after", "before", "under", "behind"}
_COUNTED = 20  # numbers up to which words are as usual as digits

_grammar = cache(inflect.engine)


def patterns(document: Any, wordnet: WordNet, same: Callable[[str, str], bool]) -> Iterator[tuple[str, str]]:
    """(rule, text) for every rule that applies to a caption, in the order of the rules; nothing denied is touched.

    Args:
        same: whether a word may stand for another; WordNet's synonyms are often rare or of another sense.
    """
    text = document.text
    if "?" in text:
        return
    for rule, find in _RULES.items():
        for edits in find(document, wordnet):
            start, end, word = edits[0]
            if rule != SYNONYM or same(text[start:end].split()[-1].lower(), word.split()[-1].lower()):
                yield rule, _apply(text, [{"span": [start, end], "to": new} for start, end, new in edits])


def _having(document: Any, wordnet: WordNet) -> Iterator[list[Edit]]:
    for token in document:
        noun = token.head
        if token.lower_ == "with" and _follows_thing(token) and _pobj_is_thing(token, wordnet):
            yield [(*_span(token), f"{_relative(noun, wordnet)} {'have' if _is_plural(noun) else 'has'}")]
        elif token.lower_ in ("has", "have") and token.dep_ == "relcl" and stated(token):
            objects = [t for t in token.children if t.dep_ == "dobj"]
            before = token.doc[token.i - 1]
            if objects and before.tag_ in ("WDT", "WP") and before.i == noun.i + 1 and len(list(token.children)) == 2:
                yield [(before.idx, token.idx + len(token), "with")]


def _clause(document: Any, wordnet: WordNet) -> Iterator[list[Edit]]:
    for token in document:
        noun, more = token.head, token.right_edge.i > token.i
        if token.dep_ == "acl" and token.tag_ in ("VBG", "VBN") and token.i == noun.i + 1 and noun.pos_ == "NOUN":
            if more and _is_outer(noun) and stated(token):
                helper = "are" if _is_plural(noun) else "is"
                yield [(token.idx, token.idx, f"{_relative(noun, wordnet)} {helper} ")]
        elif token.dep_ == "relcl" and token.tag_ in ("VBG", "VBN") and more and stated(token):
            before = document[token.left_edge.i : token.i]
            pronoun = len(before) == 2 and before[0].tag_ in ("WDT", "WP") and before[1].lower_ in ("is", "are")
            if pronoun and before[0].i == noun.i + 1:
                yield [(before[0].idx, token.idx, "")]


def _participle(document: Any, wordnet: WordNet) -> Iterator[list[Edit]]:
    for token in document:
        before = document[token.i - 1] if token.i else token
        is_alone = token.dep_ == "relcl" and token.tag_ in ("VBZ", "VBP") and token.pos_ == "VERB"
        if is_alone and before.tag_ in ("WDT", "WP") and before.dep_ == "nsubj" and before.i == token.head.i + 1:
            single = not any(t.dep_ in ("conj", "neg") for t in token.children) and token.lemma_ not in (
                "have",
                "be",
                "do",
            )
            end = token.right_edge.i + 1
            last = end == len(document) or document[end].is_punct  # what comes after may be said of the same noun
            if stated(token) and end > token.i + 1 and single and last:
                present = token.text if token.tag_ == "VBZ" else _third_person(token.lemma_)
                yield [(before.idx, token.idx + len(token), _grammar().present_participle(present))]


def _place(document: Any, wordnet: WordNet) -> Iterator[list[Edit]]:
    for token in document:
        if token.lower_ in _PLACES and _follows_thing(token) and _pobj_is_thing(token, wordnet):
            helper = "are" if _is_plural(token.head) else "is"
            yield [(token.idx, token.idx, f"{_relative(token.head, wordnet)} {helper} ")]


def _alike(document: Any, _: WordNet) -> Iterator[list[Edit]]:
    for token in document:
        for length in (3, 2, 1):
            words = document[token.i : token.i + length]
            is_one = words[0].dep_ == "prep" or words[-1].dep_ == "prep"
            if is_one and len(words) == length and words.text in _ALIKE and stated(token):
                yield [(words.start_char, words.end_char, _ALIKE[words.text])]
                break


def _order(document: Any, _: WordNet) -> Iterator[list[Edit]]:
    """Two words or phrases joined by "and" or "or"; where only the first has a determiner or adjective, they stay."""
    for token in document:
        other = token.head
        joined = [t for t in other.children if t.dep_ == "cc" and t.lower_ in ("and", "or")]
        single = token.dep_ == "conj" and other.dep_ != "conj" and not any(t.dep_ == "conj" for t in token.children)
        if not single or len(joined) != 1 or token.pos_ != other.pos_ or token.pos_ not in ("NOUN", "ADJ", "PROPN"):
            continue
        first = document[other.left_edge.i : joined[0].i]
        second = document[joined[0].i + 1 : token.right_edge.i + 1]
        if token.pos_ == "ADJ":
            if other.i == 0 and token.text[0].isupper():  # French and Italian
                continue
            first, second = document[other.i : other.i + 1], document[token.i : token.i + 1]
        modified = [
            any(t.dep_ in ("amod", "compound", "nummod", "poss") for t in one.children) for one in (other, token)
        ]
        determined = [any(t.dep_ == "det" for t in one.children) for one in (other, token)]
        apart = first.end == joined[0].i and second.start == joined[0].i + 1 and len(second) > 0
        is_list = any(t.is_punct for t in (*first, *second)) or any(t.pos_ == "PRON" for t in second)
        if apart and not is_list and (determined[0] == determined[1] and (determined[0] or modified[0] == modified[1])):
            if len(second) <= 6 and second.end >= token.i + 1 and stated(token):
                one = _fit(document.text, (first.start_char, first.end_char), second.text)
                yield [one, (second.start_char, second.end_char, _inside(first))]


def _of(document: Any, wordnet: WordNet) -> Iterator[list[Edit]]:
    """Only of "the" or "this" one: a woman's hat need not be of a woman."""
    for token in document:
        noun = token.head
        mark = [t for t in token.children if t.dep_ == "case" and t.i == token.i + 1]
        owner = document[token.left_edge.i : token.i + 1]
        if any(t.dep_ == "conj" for t in noun.children):
            continue
        if token.dep_ == "poss" and mark and owner[0].lower_ in ("the", "this", "our", "your") and stated(noun):
            owned = document[mark[0].i + 1 : noun.i + 1].text
            article = "The" if owner.start == 0 else "the"
            yield [(owner.start_char, noun.idx + len(noun), f"{article} {owned} of {_inside(owner)}")]


def _front(document: Any, _: WordNet) -> Iterator[list[Edit]]:
    """The last phrase of a sentence whose verb needs it not: it has an object or is passive."""
    for sentence in [document] if document else []:
        roots = [t for t in sentence if t.dep_ == "ROOT"]
        if len(roots) != 1 or roots[0].pos_ != "VERB" or document[0].dep_ in ("prep", "advmod"):
            return
        verb = roots[0]
        full = any(t.dep_ in ("dobj", "nsubjpass") for t in verb.children)
        last = [t for t in verb.children if t.dep_ == "prep" and t.lower_ in _FRONTED and t.i > verb.i]
        end = document[-1].i if document[-1].is_punct else document[-1].i + 1
        if full and last and last[-1].right_edge.i + 1 == end and last[-1].left_edge.i == last[-1].i and stated(verb):
            phrase = document[last[-1].i : end]
            if not any(t.is_punct for t in document[:end]) and len(phrase) <= 6 and phrase.start >= 2:
                space = document[phrase.start - 1]
                start = f"{_as_first(phrase)}, {_inside(document[:1])}"
                first = document[0]
                yield [
                    (first.idx, first.idx + len(first), start),
                    (space.idx + len(space), phrase.end_char, ""),
                ]


def _simple(document: Any, _: WordNet) -> Iterator[list[Edit]]:
    for token in document:
        helpers = [t for t in token.children if t.dep_ == "aux"]
        if token.tag_ == "VBG" and len(helpers) == 1 and helpers[0].lower_ in ("is", "are") and stated(token):
            helper = helpers[0]
            if helper.i == token.i - 1 and helper.i > 0:
                for verb in (token.lemma_, token.lemma_ + "e"):  # of "riding" the parser gives "rid"
                    if _grammar().present_participle(_third_person(verb)) == token.text:
                        present = verb if helper.lower_ == "are" else _third_person(verb)
                        yield [(helper.idx, token.idx + len(token), present)]
                        break


def _number(document: Any, _: WordNet) -> Iterator[list[Edit]]:
    for token in document:
        if (
            token.dep_ == "nummod"
            and token.head.pos_ == "NOUN"
            and token.text.isdigit()
            and 1 < int(token.text) <= _COUNTED
        ):
            word = str(_grammar().number_to_words(token.text))
            yield [(*_span(token), word.capitalize() if token.i == 0 else word)]


def _synonym(document: Any, wordnet: WordNet) -> Iterator[list[Edit]]:
    """One thing by a word whose first sense is its own; none that is part of a term ("great blue heron")."""
    for token in document:
        lemma, capital = token.lemma_.lower(), token.i > 0 and not token.text.islower()
        fits = token.tag_ in ("NN", "NNS") and token.dep_ != "compound" and not capital
        if fits and wordnet.mostly(lemma, "physical entity", 1) and not _is_term(token, wordnet):
            for other in wordnet.synonyms(lemma, "n"):
                word = _grammar().plural_noun(other) if token.tag_ == "NNS" else other
                yield [_fit(document.text, _span(token), word)]


def _frame(document: Any, _: WordNet) -> Iterator[list[Edit]]:
    """For a caption that is one noun phrase: a dog, two dogs, dogs in a park; not "Beagle" or "The moon"."""
    root = next((t for t in document if t.dep_ == "ROOT"), None)
    verbs = any(t.tag_ in ("VBZ", "VBP", "VBD", "MD", "VB") and t.dep_ != "relcl" for t in document)
    marks = [t for t in document if t.is_punct and t.text != "-"]
    plain = not marks or len(marks) == 1 and marks[0].text == "." and marks[0].i == len(document) - 1
    first = document[0] if document else None
    if root is None or first is None or verbs or not plain or root.pos_ != "NOUN":
        return
    if first.lower_ in ("a", "an") or root.tag_ == "NNS" and first.tag_ in ("CD", "NNS"):
        helper = "are" if first.tag_ != "DT" else "is"
        frame = f"There {helper}" if len(document.text) % 2 else "A picture of"  # one of them: each costs a vector
        yield [(*_span(first), f"{frame} {_inside(document[:1])}")]


_RULES = {
    "having": _having,
    "clause": _clause,
    "participle": _participle,
    "place": _place,
    "alike": _alike,
    "order": _order,
    "of": _of,
    "front": _front,
    "simple": _simple,
    "number": _number,
    SYNONYM: _synonym,
    FRAME: _frame,
}


def _span(token: Token) -> tuple[int, int]:
    return token.idx, token.idx + len(token)


def _is_plural(noun: Token) -> bool:
    return noun.tag_ in ("NNS", "NNPS") or any(t.dep_ == "conj" for t in noun.children)


def _is_outer(noun: Token) -> bool:
    """Whether a noun stands in no other phrase, so that what follows it is surely said of it."""
    return noun.dep_ in ("ROOT", "nsubj", "nsubjpass", "dobj", "attr")


def _follows_thing(preposition: Token) -> bool:
    """Whether a preposition follows its noun at once, and only this noun can be meant."""
    noun = preposition.head
    single = not any(t.dep_ in ("conj", "relcl", "acl") for t in noun.children)
    counted = noun.tag_ == "NNS" or any(t.dep_ in ("det", "poss", "nummod") for t in noun.children)  # no "Saturn"
    next_to = noun.pos_ == "NOUN" and noun.i == preposition.i - 1
    return next_to and counted and _is_outer(noun) and single and stated(preposition)


def _pobj_is_thing(preposition: Token, wordnet: WordNet) -> bool:
    """Whether what follows a preposition can be seen: not "at winter"."""
    objects = [t for t in preposition.children if t.dep_ == "pobj"]
    return bool(objects) and all(
        t.pos_ == "NOUN" and wordnet.senses(t.lemma_, "n") and wordnet.kind(t.lemma_, "physical entity")
        for t in objects
    )


def _relative(noun: Token, wordnet: WordNet) -> str:
    person = all(wordnet.mostly(noun.lemma_.lower(), "person", senses) for senses in (1, FREQUENT))  # no dog
    return "who" if person else "that"


def _third_person(verb: str) -> str:
    if re.search(r"(s|x|z|ch|sh|o)$", verb):
        return verb + "es"
    return verb[:-1] + "ies" if re.search(r"[^aeiou]y$", verb) else verb + "s"


def _is_term(token: Token, wordnet: WordNet) -> bool:
    """Whether WordNet has the word with its neighbours as one entry."""
    first, last = max(token.i - 2, 0), min(token.i + 3, len(token.doc))
    terms = (token.doc[i:j] for i in range(first, token.i + 1) for j in range(token.i + 1, last + 1) if j - i > 1)
    return any(wordnet.has(term.text) or wordnet.has(term.lemma_) for term in terms)


def _inside(span: Any) -> str:
    """The text of a span within a sentence: without the capital of the sentence's start."""
    first = span[0]
    keeps = first.i or first.pos_ == "PROPN" or first.text[1:2].isupper() or first.text == "I"
    return span.text if keeps else span.text[0].lower() + span.text[1:]


def _as_first(span: Any) -> str:
    capital = span.doc.text[:1].isupper()
    return span.text[0].upper() + span.text[1:] if capital else span.text
