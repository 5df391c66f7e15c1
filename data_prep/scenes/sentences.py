"""What is said of a scene: captions in several patterns, true and false rewrites of each with the reason, questions."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from data_prep.scenes.scene import COLOURS, INVERSE, RELATIONS, Phrase, Relation, Scene, Statement

WORDS: dict[Relation, str] = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
    "front": "in front of",
    "behind": "behind",
}
NUMBERS = ("no", "one", "two", "three", "four")
IRREGULAR = {"fish": "fish"}  # plurals
RELATED = ("{a} is {r} {b}", "{a} {r} {b}", "there is {a} {r} {b}", "{r} {b} is {a}", "{b} with {a} {r} it")
LISTED = ("{all}", "there {is_} {all}", "a picture of {all}", "{all} can be seen")
COLOURED, SIZED = 0.75, 0.6  # how often a phrase says the colour, and the size, of a thing that has one
CAPTIONS = (2, 5)
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


def noun(phrase: Phrase, article: str = "a") -> str:
    """A small red dog, the orange umbrella, an apple."""
    words = " ".join(filter(None, (phrase.size, phrase.colour, phrase.kind)))
    return f"{'an' if article == 'a' and words[0] in 'aeiou' else article} {words}"


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
    related = scene.relations()
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

    Args:
        kinds: kind -> those that it may be replaced by.
    """
    found = []
    for kind in get_args(Kind):
        for _ in range(TRIES):
            change = _changed(kind, caption.statement, kinds, rng)
            if change and not change[0].holds(scene, perhaps=True):
                statement, was, new = change
                found.append({"text": say(statement, caption.pattern), "kind": kind, "from": was, "to": new})
                break
    return found


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
    if phrase.colour and partner.colour and phrase.colour != partner.colour and rng.random() < 0.5:
        swapped = _with(statement, place, phrase._replace(colour=partner.colour))
        swapped = _with(swapped, other_place, partner._replace(colour=phrase.colour))
        return swapped, f"{phrase.colour}, {partner.colour}", f"{partner.colour}, {phrase.colour}"
    if phrase.colour and (not phrase.size or rng.random() < 0.5):
        colour = COLOURS[rng.integers(len(COLOURS))]
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


def questions(scene: Scene, rng: np.random.Generator) -> list[dict[str, str]]:
    """At most one question of each kind, with the one answer that is right: kind, question, answer.

    relation: one of six answers. object, colour, size, count; exists: yes and no equally often.
    """
    asked = [
        *_about_a_relation(scene, rng),
        *_about_a_thing(scene, rng),
        _how_many(scene, rng),
        _whether_there_is(scene, rng),
    ]
    return [{"kind": kind, "question": question, "answer": answer} for kind, question, answer in asked]


def _unique(scene: Scene) -> list[int]:
    """Places of the things that their kind alone names."""
    count = Counter(thing.kind for thing in scene.things)
    return [i for i, thing in enumerate(scene.things) if count[thing.kind] == 1]


def _about_a_relation(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    unique = _unique(scene)
    related = [(a, name, b) for a, name, b in scene.relations() if a in unique and b in unique]
    if not related:
        return
    a, name, b = related[rng.integers(len(related))]
    first, second = scene.things[a].kind, scene.things[b].kind
    yield "relation", f"How does the {first} stand to the {second}?", WORDS[name]
    there = [scene.things[c].kind for c, other, d in scene.relations() if d == b and other == name]
    if len(there) == 1:
        yield "object", f"What is {WORDS[name]} the {second}?", first


def _about_a_thing(scene: Scene, rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    things = [scene.things[i] for i in _unique(scene)]
    if coloured := [thing for thing in things if thing.colour]:
        thing = coloured[rng.integers(len(coloured))]
        yield "colour", f"What colour is the {thing.kind}?", str(thing.colour)
    if sized := [thing for thing in things if thing.size]:
        thing = sized[rng.integers(len(sized))]
        yield "size", f"Is the {thing.kind} small or large?", str(thing.size)


def _how_many(scene: Scene, rng: np.random.Generator) -> tuple[str, str, str]:
    kind = scene.things[rng.integers(len(scene.things))].kind
    count = sum(thing.kind == kind for thing in scene.things)
    return "count", f"How many {plural(kind)} are there?", NUMBERS[count]


def _whether_there_is(scene: Scene, rng: np.random.Generator) -> tuple[str, str, str]:
    """No: a kind in the colour of another thing where it is in none such, else in any colour that it is not in."""
    thing = scene.things[rng.integers(len(scene.things))]
    if thing.colour and rng.random() < 0.5:
        present = [other.colour for other in scene.things if other.colour]
        for options in (present, COLOURS):
            phrases = [Phrase(thing.kind, colour) for colour in options]
            absent = [phrase for phrase in phrases if not Statement((phrase,)).holds(scene, perhaps=True)]
            if absent:
                return "exists", f"Is there {noun(absent[rng.integers(len(absent))])}?", "no"
    return "exists", f"Is there {noun(Phrase(thing.kind, thing.colour))}?", "yes"
