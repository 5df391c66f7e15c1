"""What scenes hold and what may be said of them, checked against boxes by other means than the program's."""

import re

import numpy as np
import pytest
import yaml

from data_prep.scenes.paint import LISTED, Cutouts
from data_prep.scenes.scene import (
    COLOURS,
    COUNTS,
    GRID,
    INVERSE,
    RELATIONS,
    Cutout,
    Phrase,
    Scene,
    Statement,
    Thing,
    draw,
    held_out,
)
from data_prep.scenes.sentences import CAPTIONS, WORDS, captions, negatives, noun, paraphrases, plural, questions, say

GROUPS = yaml.safe_load(LISTED.read_text())
MASK = np.pad(np.ones([GRID - 4, GRID - 4]), 2)
KINDS = {
    kind: [Cutout(name, 1.2, MASK) for name in names] for group in GROUPS.values() for kind, names in group.items()
}
ALIKE = Cutouts(GROUPS, {}).others()


def some(count: int, novel: bool = False) -> list[Scene]:
    return [draw(np.random.default_rng([7, i]), KINDS, lambda s: s.novel == novel) for i in range(count)]


def thing(kind: str, box, colour: str | None = None, size: str | None = None) -> Thing:
    return Thing(kind, Cutout("x", 1.0, np.ones([GRID, GRID])), colour, size, box)


def test_there_is_enough_to_draw_from():
    assert len(KINDS) >= 40 and sum(map(len, KINDS.values())) >= 200 and len(COLOURS) == 8 and len(RELATIONS) == 6
    ids = [cutout.name for cutouts in KINDS.values() for cutout in cutouts]
    assert len(set(ids)) == len(ids), "no cut-out is of two kinds"


def test_relations_are_those_of_the_boxes():
    """By the definition, from corners alone, on what chance draws: every relation is met."""
    met = set()
    for scene in some(200):
        assert all(0 <= edge <= 1 for t in scene.things for edge in t.box)
        for a, name, b in scene.relations:
            one, other = scene.things[a].box, scene.things[b].box
            met.add(name)
            assert scene.relation(b, a) == INVERSE[name]
            if name in ("front", "behind"):
                assert (a > b) == (name == "front")
                assert one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
            else:
                x, y = one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]
                assert {"left": -x, "right": x, "above": -y, "below": y}[name] >= 2 * min(abs(x), abs(y)) > 0
                assert {"left": -x, "right": x, "above": -y, "below": y}[name] == max(abs(x), abs(y))
    assert met == set(RELATIONS)


def test_counts_and_relations_are_as_frequent_as_they_are_meant_to_be():
    scenes = some(600)
    found = np.bincount([len(scene.things) for scene in scenes], minlength=5)[1:] / len(scenes)
    assert np.abs(found - COUNTS).max() < 0.06
    of_first_two = [scene.relation(0, 1) for scene in scenes if len(scene.things) > 1]
    shares = [sum(name in (one, INVERSE[one]) for name in of_first_two) for one in ("left", "above", "front")]
    assert min(shares) > 0.75 * max(shares)
    twins = [len({t.kind for t in scene.things}) < len(scene.things) for scene in scenes if len(scene.things) > 1]
    assert 0.14 < np.mean(twins) < 0.26


def test_in_front_is_where_opaque_parts_overlap():
    """Counted in pixels, by another raster than the program's."""
    seen = 0
    for scene in some(300):
        for a, name, b in scene.relations:
            if name == "front":
                seen += 1
                front, behind = (opaque(scene.things[k]) for k in (a, b))
                assert 0.1 < (front & behind).sum() / behind.sum() < 0.6
                assert not {n for k, n, m in scene.relations if (k, m) == (a, b)} - {"front"}
    assert seen > 30


def opaque(thing: Thing, side: int = 400) -> np.ndarray:
    """[side, side] bool"""
    left, top, right, bottom = (round(edge * side) for edge in thing.box)
    found = np.zeros([side, side], bool)
    margin_x, margin_y = (right - left) * 2 // GRID, (bottom - top) * 2 // GRID
    found[top + margin_y : bottom - margin_y, left + margin_x : right - margin_x] = True
    return found


def test_things_called_large_are_larger_than_those_called_small():
    areas: dict[str, list[float]] = {"small": [], "large": []}
    for scene in some(200):
        for t in scene.things:
            if t.size:
                left, top, right, bottom = t.box
                areas[t.size].append((right - left) * (bottom - top) * t.cutout.mask.mean())
    assert max(areas["small"]) < 0.4 * min(areas["large"])


def test_training_names_nothing_that_is_held_out_be_it_true_or_false():
    """Else it would say that there are no such things, and test would ask for the opposite."""
    names = [(noun(Phrase(kind, colour)), held_out(kind, colour)) for kind in KINDS for colour in COLOURS]
    held = [name.split(" ", 1)[1] for name, is_held in names if is_held]
    for i, scene in enumerate(some(150)):
        rng = np.random.default_rng(i)
        texts = [q["question"] for q in questions(scene, [*KINDS], rng)]
        for caption in captions(scene, rng):
            texts += [caption.text(), *(n["text"] for n in negatives(caption, scene, ALIKE, rng))]
        assert not [(text, name) for text in texts for name in held if re.search(rf"\b{name}\b", text)]
        assert not any(q["novel"] for q in questions(scene, [*KINDS], rng))


def test_training_never_sees_what_is_held_out():
    assert not any(held_out(t.kind, t.colour) for scene in some(100) for t in scene.things if t.colour)
    pairs = [(kind, colour) for kind in KINDS for colour in COLOURS]
    assert 0.05 < sum(held_out(*p) for p in pairs) / len(pairs) < 0.15
    assert all(
        held_out(a, name, b) == held_out(b, INVERSE[name], a) for a in KINDS for b in KINDS for name in RELATIONS
    )
    assert all(scene.novel for scene in some(20, novel=True))


def test_a_scene_is_a_function_of_its_seed():
    assert some(5) == some(5)


def test_truth_of_statements():
    scene = Scene((thing("dog", (0.0, 0.4, 0.2, 0.6), "red"), thing("cat", (0.7, 0.4, 0.9, 0.6), None, "small")))
    red_dog, cat = Phrase("dog", "red"), Phrase("cat")
    assert Statement((red_dog, cat), "left").holds(scene) and not Statement((cat, red_dog), "left").holds(scene)
    assert not Statement((Phrase("dog", "blue"), cat), "left").holds(scene, perhaps=True)
    assert not Statement((Phrase("dog"), Phrase("dog"))).holds(scene), "one dog is not two"
    blue_cat = Statement((Phrase("cat", "blue"),))
    assert not blue_cat.holds(scene) and blue_cat.holds(scene, perhaps=True), "its own colours may be blue"
    slanting = Scene((thing("dog", (0.0, 0.0, 0.2, 0.2)), thing("cat", (0.5, 0.4, 0.7, 0.6))))
    assert slanting.relations == [] and Statement((Phrase("dog"), cat), "above").holds(slanting, perhaps=True)
    assert not Statement((Phrase("dog"), cat), "below").holds(slanting, perhaps=True)


@pytest.mark.parametrize(
    "kind, several", [("bus", "buses"), ("strawberry", "strawberries"), ("fish", "fish"), ("key", "keys")]
)
def test_plurals(kind, several):
    assert plural(kind) == several


def test_articles_go_by_the_next_word():
    assert noun(Phrase("apple")) == "an apple" and noun(Phrase("apple", "red")) == "a red apple"
    assert noun(Phrase("dog", "orange", "large")) == "a large orange dog" and noun(Phrase("umbrella")) == "an umbrella"
    assert noun(Phrase("unicorn")) == "a unicorn"


def test_two_of_a_kind_are_counted():
    dogs = Statement((Phrase("dog", "red"), Phrase("dog", "red"), Phrase("cat")))
    assert say(dogs, "there {is_} {all}") == "There are two red dogs and a cat."


def test_captions_and_paraphrases_are_true_and_rewrites_false():
    """A sentence is read back by comparing it with every true sentence of its scene."""
    seen = set()
    for i, scene in enumerate(some(60)):
        rng = np.random.default_rng(i)
        made = captions(scene, rng)
        assert CAPTIONS[0] <= len(made) <= CAPTIONS[1] or len(scene.things) == 1
        assert len({c.text() for c in made}) == len(made)
        true = true_sentences(scene)
        for caption in made:
            assert caption.statement.holds(scene)
            if caption.statement.relation:
                assert caption.text() in true
                assert set(paraphrases(caption, rng)) <= true and caption.text() not in paraphrases(caption, rng)
            for negative in negatives(caption, scene, ALIKE, rng):
                seen.add(negative["kind"])
                assert negative["text"] not in true and negative["text"] != caption.text()
                assert negative["from"] != negative["to"]
    assert seen == {"object", "attribute", "relation", "several"}


def true_sentences(scene: Scene) -> set[str]:
    """All that relations allow to say, from the things alone."""
    found = set()
    named = [
        [noun(Phrase(t.kind, colour, size)) for colour in {None, t.colour} for size in {None, t.size}]
        for t in scene.things
    ]
    for a, name, b in scene.relations:
        for first in named[a]:
            for second in named[b]:
                where = WORDS[name]
                said = (
                    f"{first} is {where} {second}",
                    f"{first} {where} {second}",
                    f"there is {first} {where} {second}",
                    f"{where} {second} is {first}",
                    f"{second} with {first} {where} it",
                )
                found |= {f"{text[0].upper()}{text[1:]}." for text in said}
    return found


def test_questions_have_the_one_right_answer():
    kinds = set()
    for i, scene in enumerate(some(120)):
        for asked in questions(scene, [*KINDS], np.random.default_rng(i)):
            kinds.add(asked["kind"])
            words, answer = asked["question"].rstrip("?").split(), asked["answer"]
            of = [t for t in scene.things if t.kind in words or plural(t.kind) in words]
            if asked["kind"] == "colour":
                assert [t.colour for t in of] == [answer]
            elif asked["kind"] == "size":
                assert [t.size for t in of] == [answer]
            elif asked["kind"] == "count":
                assert ["none", "one", "two"][len(of)] == answer
            elif asked["kind"] == "relation":
                (a, b) = [next(j for j, t in enumerate(scene.things) if t.kind == w) for w in (words[3], words[-1])]
                assert WORDS[scene.relation(a, b)] == answer
            elif asked["kind"] == "object":
                name = next(name for name, said in WORDS.items() if said == " ".join(words[2:-2]))
                b = next(k for k, t in enumerate(scene.things) if t.kind == words[-1])
                might = {t.kind for a, t in enumerate(scene.things) if a != b and scene.may_stand(a, name, b)}
                assert might == {answer}
            else:
                colour = next((w for w in words if w in COLOURS), None)
                assert (answer == "yes") == any(t.kind == words[-1] and t.colour == colour for t in scene.things)
    assert kinds == {"relation", "object", "colour", "size", "count", "exists"}


def test_answers_are_not_given_away_by_how_often_they_come():
    asked = [q for i, scene in enumerate(some(1500)) for q in questions(scene, [*KINDS], np.random.default_rng(i))]
    shares = {
        kind: max(np.unique([q["answer"] for q in asked if q["kind"] == kind], return_counts=True)[1])
        / sum(q["kind"] == kind for q in asked)
        for kind in ("relation", "size", "count", "exists", "colour")
    }
    assert shares["relation"] < 0.25 and shares["colour"] < 0.2 and shares["size"] < 0.57
    assert shares["exists"] < 0.57 and shares["count"] < 0.5
