"""What is said of a scene: captions in several patterns, true and false rewrites of each with the reason, questions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from data_prep.scenes.scene import COLOURS, INVERSE, RELATIONS, Phrase, Relation, Scene, Statement, held_out

WORDS: dict[Relation, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
    "front": "in front of",
    "behind": "behind",
}
NUMBERS = ("none", "one", "two", "three", "four")
# plurals that no rule gives, of own cut-outs too
IRREGULAR = {"fish": "fish", "sheep": "sheep", "deer": "deer", "mouse": "mice", "goose": "geese", "knife": "knives"}
IRREGULAR |= {"leaf": "leaves", "wolf": "wolves", "child": "children", "person": "people", "man": "men"}
CONSONANT = ("uni", "uku", "ufo", "eu", "one")  # starts of words that take "a" all the same
RELATED = ("{a} is {r} {b}", "{a} {r} {b}", "there is {a} {r} {b}", "{r} {b} is {a}", "{b} with {a} {r} it")
LISTED = ("{all}", "there {is_} {all}", "a picture of {all}", "{all} can be seen")
COLOURED, SIZED = 0.75, 0.6  # how often a phrase says the colour, and the size, of a thing that has one
CAPTIONS = (2, 5)
PASSED_OVER = 1 / 3  # share of small things: large ones find a place less often, and both answers are to be as frequent
TRIES = 12  # changes that are tried until one makes a sentence false
Kind = Literal["object", "attribute", "relation", "several"]


@dataclass(frozen=True)
class Caption:
    """A true statement and the pattern that it is said by."""

    statement: Statement
    pattern: str

    def text(self) -> str:
        """The sentence."""
        return say(self.statement, self.pattern)


def plural(kind: str) -> str:
    """More than one of a kind: buses, strawberries, fish."""
    if kind in IRREGULAR:
        return IRREGULAR[kind]
    if kind.endswith("y") and kind[-2] not in "aeiou":
        return kind[:-1] + "ies"
    return kind + ("es" if kind.endswith(("s", "x", "ch", "sh")) else "s")


def noun(phrase: Phrase) -> str:
    """A small red dog, an orange umbrella."""
    words = " ".join(filter(None, (phrase.size, phrase.colour, phrase.kind)))
    return f"{'an' if words[0] in 'aeiou' and not words.startswith(CONSONANT) else 'a'} {words}"


def say(statement: Statement, pattern: str) -> str:
    """The sentence of a statement by a pattern of RELATED, where it has a relation, or of LISTED."""
    if statement.relation:
        a, b = map(noun, statement.phrases)
        text = pattern.format(a=a, b=b, r=WORDS[statement.relation])
    else:
        parts = []
        for phrase, count in Counter(statement.phrases).items():
            several = " ".join(filter(None, (phrase.size, phrase.colour, plural(phrase.kind))))
            parts.append(noun(phrase) if count == 1 else f"{NUMBERS[count]} {several}")
        every = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        text = pattern.format(all=every, is_="are" if parts[0].startswith(NUMBERS[2:]) else "is")
    return text[0].upper() + text[1:] + "."


def captions(scene: Scene, rng: np.random.Generator) -> list[Caption]:
    """Two to five captions of a scene, no two the same sentence; all its things are named by the first."""
    count = int(rng.integers(CAPTIONS[0], CAPTIONS[1] + 1))
    found: dict[str, Caption] = {}
    related = scene.relations
    for attempt in range(8 * count):
        if len(found) == count:
            break
        if related and attempt % 4:
            a, relation, b = related[rng.integers(len(related))]
            phrases = tuple(_phrase(scene, thing, rng) for thing in (a, b))
            made = Caption(Statement(phrases, relation), RELATED[rng.integers(len(RELATED))])
        else:
            named = tuple(_phrase(scene, thing, rng) for thing in rng.permutation(len(scene.things)).tolist())
            made = Caption(Statement(named), LISTED[rng.integers(len(LISTED))])
        found.setdefault(made.text(), made)
    return [*found.values()]


def _phrase(scene: Scene, place: int, rng: np.random.Generator) -> Phrase:
    """Some of what is to be said of a thing; its colour always where there is another of its kind."""
    thing = scene.things[place]
    alone = sum(other.kind == thing.kind for other in scene.things) == 1
    colour = thing.colour if not alone or rng.random() < COLOURED else None
    return Phrase(thing.kind, colour, thing.size if rng.random() < SIZED else None)


def paraphrases(caption: Caption, rng: np.random.Generator) -> list[str]:
    """The same statement by other patterns, or seen from the other thing: true."""
    statement = caption.statement
    others = [p for p in (RELATED if statement.relation else LISTED) if p != caption.pattern]
    said = [say(statement, others[i]) for i in rng.permutation(len(others))[:2]]
    if statement.relation:
        turned = Statement(statement.phrases[::-1], INVERSE[statement.relation])
        said.append(say(turned, RELATED[rng.integers(len(RELATED))]))
    return [*dict.fromkeys(text for text in said if text != caption.text())]


def negatives(
    caption: Caption, scene: Scene, kinds: dict[str, list[str]], rng: np.random.Generator
) -> list[dict[str, str]]:
    """Sentences that are surely false, one of each kind that there is room for: text, kind, and from what to what.

    Of a scene without a held-out combination none names one, or training would say that there are no such things.

    Args:
        kinds: kind -> those that it may be replaced by.
    """
    found: dict[str, dict[str, str]] = {}
    for kind in get_args(Kind):
        for _ in range(TRIES):
            change = _changed(kind, caption.statement, kinds, rng)
            if not change or change[0].holds(scene, perhaps=True) or (change[0].novel() and not scene.novel):
                continue
            statement, was, new = change
            if (text := say(statement, caption.pattern)) not in found:
                found[text] = {"text": text, "kind": kind, "from": was, "to": new}
                break
    return [*found.values()]


def _changed(
    kind: Kind, statement: Statement, kinds: dict[str, list[str]], rng: np.random.Generator
) -> tuple[Statement, str, str] | None:
    """A statement with something of this kind changed, by chance, what was there and what is; None without room."""
    if kind == "several":
        one = _changed("object", statement, kinds, rng)
        other = one and _changed(
            "relation" if statement.relation and rng.random() < 0.5 else "attribute", one[0], {}, rng
        )
        return (other[0], f"{one[1]}; {other[1]}", f"{one[2]}; {other[2]}") if one and other else None
    if kind == "relation":
        return _other_relation(statement, rng)
    place = int(rng.integers(len(statement.phrases)))
    phrase = statement.phrases[place]
    if kind == "object":
        new = kinds[phrase.kind][rng.integers(len(kinds[phrase.kind]))]
        return _with(statement, place, phrase._replace(kind=new)), phrase.kind, new
    other_place = (place + 1) % len(statement.phrases)
    partner = statement.phrases[other_place]
    twins = phrase.kind == partner.kind  # exchanging their colours may say the same again
    if phrase.colour and partner.colour and phrase.colour != partner.colour and not twins and rng.random() < 0.5:
        swapped = _with(statement, place, phrase._replace(colour=partner.colour))
        swapped = _with(swapped, other_place, partner._replace(colour=phrase.colour))
        return swapped, f"{phrase.colour}, {partner.colour}", f"{partner.colour}, {phrase.colour}"
    if phrase.colour and (not phrase.size or rng.random() < 0.5):
        colour = [c for c in COLOURS if c != phrase.colour][rng.integers(len(COLOURS) - 1)]
        return _with(statement, place, phrase._replace(colour=colour)), phrase.colour, colour
    if phrase.size:
        size = "large" if phrase.size == "small" else "small"
        return _with(statement, place, phrase._replace(size=size)), phrase.size, size
    return None


def _other_relation(statement: Statement, rng: np.random.Generator) -> tuple[Statement, str, str] | None:
    """Another relation, or both things exchanged."""
    if not statement.relation:
        return None
    new = RELATIONS[rng.integers(len(RELATIONS))]
    if new == statement.relation:
        a, b = statement.phrases
        return Statement((b, a), new), f"{noun(a)}, {noun(b)}", f"{noun(b)}, {noun(a)}"
    return Statement(statement.phrases, new), WORDS[statement.relation], WORDS[new]


def _with(statement: Statement, place: int, phrase: Phrase) -> Statement:
    phrases = (*statement.phrases[:place], phrase, *statement.phrases[place + 1 :])
    return Statement(phrases, statement.relation)


def questions(scene: Scene, kinds: Sequence[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    """At most one question of each kind, with the one answer that is right: kind, question, answer, novel.

    relation: one of six answers. object, colour, size. count: none, one or two. exists: yes or no, of a thing's colour
    or another thing's. `novel`: whether it is about a combination that is held out.
    """
    asked = [*_about_a_relation(scene, rng), *_about_a_thing(scene, rng), _how_many(scene, kinds, rng)]
    asked += _whether_there_is(scene, rng)
    return [{"kind": k, "question": q, "answer": answer, "novel": novel} for k, q, answer, novel in asked]


Asked = tuple[str, str, str, bool]


def _unique(scene: Scene) -> list[int]:
    """Places of the things that their kind alone names."""
    count = Counter(thing.kind for thing in scene.things)
    return [i for i, thing in enumerate(scene.things) if count[thing.kind] == 1]


def _about_a_relation(scene: Scene, rng: np.random.Generator) -> Iterator[Asked]:
    unique = _unique(scene)
    related = [(a, name, b) for a, name, b in scene.relations if a in unique and b in unique]
    if not related:
        return
    a, name, b = related[rng.integers(len(related))]
    first, second = scene.things[a].kind, scene.things[b].kind
    novel = held_out(first, name, second)
    yield "relation", f"How does the {first} stand to the {second}?", WORDS[name], novel
    if not any(scene.may_stand(c, name, b) for c in range(len(scene.things)) if c not in (a, b)):
        yield "object", f"What is {WORDS[name]} the {second}?", first, novel


def _about_a_thing(scene: Scene, rng: np.random.Generator) -> Iterator[Asked]:
    things = [scene.things[i] for i in _unique(scene)]
    if coloured := [thing for thing in things if thing.colour]:
        thing = coloured[rng.integers(len(coloured))]
        novel = held_out(thing.kind, str(thing.colour))
        yield "colour", f"What colour is the {thing.kind}?", str(thing.colour), novel
    if sized := [thing for thing in things if thing.size]:
        thing = sized[rng.integers(len(sized))]
        if thing.size == "small" and rng.random() < PASSED_OVER:
            return
        yield "size", f"Is the {thing.kind} small or large?", str(thing.size), False


def _how_many(scene: Scene, kinds: Sequence[str], rng: np.random.Generator) -> Asked:
    """Of two of a kind where there are; else as often of one as of a kind that is not there."""
    count = Counter(thing.kind for thing in scene.things)
    kind = max(count, key=lambda name: (count[name], rng.random()))
    if count[kind] == 1 and rng.random() < 0.5:
        kind = [name for name in kinds if name not in count][rng.integers(len(kinds) - len(count))]
    return "count", f"How many {plural(kind)} are there?", NUMBERS[count[kind]], False


def _whether_there_is(scene: Scene, rng: np.random.Generator) -> Iterator[Asked]:
    """Where there are things of two colours: one in its own, or as often in the other's, which it is not in."""
    coloured = [thing for thing in scene.things if thing.colour]
    pairs = [(a, b) for a in coloured for b in coloured if a.colour != b.colour]
    absent = [(a, Phrase(a.kind, b.colour)) for a, b in pairs]
    absent = [(a, p) for a, p in absent if not Statement((p,)).holds(scene, perhaps=True)]
    if not scene.novel:
        absent = [(a, p) for a, p in absent if not Statement((p,)).novel()]
    if absent:
        thing, phrase = absent[rng.integers(len(absent))]
        yes = rng.random() < 0.5
        phrase = Phrase(thing.kind, thing.colour) if yes else phrase
        yield "exists", f"Is there {noun(phrase)}?", "yes" if yes else "no", Statement((phrase,)).novel()
