"""What clauses say that SceneGraphParser's rules pass over, read off spaCy's dependencies. The rules are ours.

    places       "The chair is in front of the desk."     chair -in front of- desk
    deeds        "A dog chased by a cat."                 cat -chased- dog: the doer comes first, as the parser has it
                 "A man sits and reads a book."           man -reads- book
    adjectives   "The cat is black and looks hungry."     cat: black, hungry

Nothing is taken for true that is denied, asked or only possible.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Token = Any  # of spaCy

# Nouns that make a preposition with "of", and what may stand before them: to the left of, on the other side of.
_PARTS = {"front", "back", "top", "bottom", "left", "right", "side", "rear", "middle", "center", "centre", "midst"}
_BEFORE_PARTS = {"the", "left", "right", "other", "far", "back", "front"}
# Prepositions that say little without the word before them: next to, full of; after a participle more: dressed in.
_BOUND = {"of", "to", "with", "from", "for", "about", "than"}
_BOUND_AFTER_PARTICIPLES = _BOUND | {"in", "into", "by"}
# Participles after which "by" names a place: parked by a wall.
_PUT = {"park", "seat", "perch", "locate", "situate", "place", "position", "moor", "dock"}
# What denies or doubts the word that it hangs on.
_UNTRUE = {"no", "none", "neither", "nor", "never", "hardly", "scarcely", "barely"}
_UNTRUE |= {"may", "might", "could", "would", "should", "if", "unless", "whether", "?"}
_SUBJECTS = ("nsubj", "nsubjpass")
_FAR = 30  # words up a sentence, or along a list, that are looked at: one of thousands must not cost their square


@dataclass(frozen=True)
class Link:
    """Two nouns, and the tokens [start, end) that say what the first is to the second."""

    subject: Token
    start: int
    end: int
    object: Token


def links(document: Any) -> Iterator[Link]:
    """Places and deeds; those that the parser finds too are among them."""
    for token in document:
        is_by = token.dep_ == "agent" and token.head.lemma_ not in _PUT
        if (is_by or token.dep_ == "dobj") and stated(token):
            yield from _deeds(token)
        elif token.dep_ in ("prep", "agent") and token.head.dep_ != "prep" and token.lower_ != "as" and stated(token):
            start, head = _before(token)
            last = _last(token)
            nouns = [head] if head.pos_ in ("NOUN", "PROPN") and head.dep_ != "acl" else _subjects(head)
            yield from (Link(noun, start, last.i + 1, other) for noun in nouns for other in _objects(last))


def _deeds(token: Token) -> Iterator[Link]:
    """Who does what to whom, by an object or by the "by" of a passive."""
    verb = token.head
    particles = [t.i for t in verb.children if t.dep_ == "prt"]
    apart = particles not in ([], [verb.i + 1])  # "picks a cup up"
    if apart or any(t.dep_ == "dative" for t in verb.children):
        return
    passive = token.dep_ == "agent"
    doers, others = (_objects(token), _subjects(verb)) if passive else (_subjects(verb), _coordinated(token))
    yield from (Link(doer, verb.i, verb.i + 1 + len(particles), other) for doer in doers for other in others)


def predicates(document: Any) -> Iterator[tuple[Token, Token]]:
    """(noun, adjective) where a verb stands between them; an adjective that needs more words (full of) is left out."""
    for token in document:
        if token.dep_ in ("acomp", "oprd"):
            nouns = [t for t in token.head.children if t.dep_ == "dobj"] or _subjects(token.head)
            for adjective in _coordinated(token):
                bound = any(t.i == adjective.i + 1 and t.lower_ in _BOUND for t in adjective.children)
                if adjective.pos_ == "ADJ" and stated(adjective) and (adjective.tag_ == "JJR" or not bound):
                    yield from ((noun, adjective) for noun in nouns)


def antecedent(pronoun: Token) -> Token | None:
    """The noun that a relative pronoun stands for: "a man who rides"."""
    relative = pronoun.tag_ in ("WDT", "WP") and pronoun.head.dep_ == "relcl"
    return pronoun.head.head if relative else None


def stated(token: Token) -> bool:
    """Whether what a word says is claimed to be so: no word above it, up to its own clause's, is denied or doubted."""
    for _ in range(_FAR):
        if _denied(token):
            return False
        if token.dep_ in ("ROOT", "relcl"):
            return True
        if token.dep_ in _SUBJECTS:  # of a denied verb it stands, of a question it doesn't
            return all(t.lower_ != "?" for t in token.head.children)
        beside = token.dep_ == "conj" or token.dep_ == "ccomp" and token.i < token.head.i
        if beside and any(t.dep_ in _SUBJECTS for t in token.children):
            return True
        token = token.head
    return True


def _denied(token: Token) -> bool:
    return any(
        t.dep_ == "neg" or t.lower_ in _UNTRUE or t.dep_ == "advmod" and any(s.dep_ == "neg" for s in t.children)
        for t in token.children
    )


def _before(preposition: Token) -> tuple[int, Token]:
    """Where a preposition begins, with a word that it belongs to, and the noun or verb that it follows."""
    start, head = preposition.i, preposition.head
    bound = _BOUND_AFTER_PARTICIPLES if head.tag_ == "VBN" else _BOUND
    binds = head.tag_ == "VBN" or head.pos_ in ("ADJ", "ADV") and head.dep_ != "attr"
    if head.i == start - 1 and binds and preposition.lower_ in bound:
        start = head.i
    for _ in range(_FAR):
        if head.pos_ not in ("ADJ", "ADV"):
            break
        head = head.head
    return start, head


def _last(preposition: Token) -> Token:
    """The last word of a preposition: out of, on top of, to the left of."""
    for token in preposition.children:
        if token.i == preposition.i + 1 and token.dep_ == "prep":
            return token
        before = token.doc[preposition.i + 1 : token.i]
        if token.lower_ in _PARTS and all(t.lower_ in _BEFORE_PARTS for t in before):
            of = [t for t in token.children if t.i == token.i + 1 and t.lower_ == "of"]
            if of:
                return of[0]
    return preposition


def _objects(preposition: Token) -> list[Token]:
    return [noun for token in preposition.children if token.dep_ == "pobj" for noun in _coordinated(token)]


def _subjects(verb: Token) -> list[Token]:
    """The nouns that a verb is said of: its subjects, those of the verb it goes with, or the noun it follows."""
    for _ in range(_FAR):
        auxiliaries = [t for t in verb.children if t.dep_ in ("aux", "auxpass")]  # which the subject sometimes hangs on
        children = {t.dep_: t for one in (*auxiliaries, verb) for t in one.children}
        found = children.get("nsubj") or children.get("nsubjpass")
        if found is not None:
            before = antecedent(found)
            return [] if _denied(found) else [before] if before is not None else _coordinated(found)
        if verb.dep_ == "acl" and verb.tag_ != "VB":  # a man standing; "a place to stand" is nobody's
            return [] if _denied(verb.head) else [verb.head]
        if verb.dep_ == "conj" or verb.dep_ in ("advcl", "xcomp") and verb.tag_ in ("VBG", "VBN"):
            verb = verb.head
            if verb.pos_ not in ("VERB", "AUX"):
                return []
        else:  # "there is a cup", "on the table is a cup"
            return _coordinated(children["attr"]) if "attr" in children else []
    return []


def _coordinated(token: Token) -> list[Token]:
    """A word and those joined to it: black, red and white."""
    found = [token]
    for one in found:
        found += [t for t in one.children if t.dep_ == "conj" and len(found) < _FAR]
    return found
