"""What scenes hold and what may be said of them, checked against boxes by other means than the program's."""

import numpy as np
import pytest
import yaml

from data_prep.scenes.paint import LISTED, Cutouts
from data_prep.scenes.scene import COLOURS, INVERSE, RELATIONS, Phrase, Scene, Statement, Thing, draw, held_out
from data_prep.scenes.sentences import CAPTIONS, WORDS, captions, negatives, noun, paraphrases, plural, questions, say

GROUPS = yaml.safe_load(LISTED.read_text())
KINDS = {kind: [(name, 1.2) for name in names] for group in GROUPS.values() for kind, names in group.items()}
ALIKE = Cutouts(GROUPS, {}).others()


def some(count: int, novel: bool = False) -> list[Scene]:
    return [draw(np.random.default_rng([7, i]), KINDS, lambda s: s.novel() == novel) for i in range(count)]


def thing(kind: str, box, colour: str | None = None, size: str | None = None) -> Thing:
    return Thing(kind, "x", colour, size, box)


def test_there_is_enough_to_draw_from():
    assert len(KINDS) >= 40 and sum(map(len, KINDS.values())) >= 200 and len(COLOURS) == 8 and len(RELATIONS) == 6
    ids = [name for names in KINDS.values() for name, _ in names]
    assert len(set(ids)) == len(ids), "no cut-out is of two kinds"


def test_relations_are_those_of_the_boxes():
    """By the definition, from corners alone, on what chance draws: every relation is met."""
    met = set()
    for scene in some(200):
        assert all(0 <= edge <= 1 for t in scene.things for edge in t.box)
        for a, name, b in scene.relations():
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


def test_every_relation_is_drawn_about_as_often():
    count = dict.fromkeys(RELATIONS, 0)
    for scene in some(400):
        for _, name, _ in scene.relations():
            count[name] += 1
    assert min(count["left"], count["above"]) > 0.7 * max(count["left"], count["above"])
    assert count["front"] > 0.25 * count["left"], "fewer, as things beyond the first two do not overlap"


def test_training_never_sees_what_is_held_out():
    assert not any(held_out(t.kind, t.colour) for scene in some(100) for t in scene.things if t.colour)
    pairs = [(kind, colour) for kind in KINDS for colour in COLOURS]
    assert 0.05 < sum(held_out(*p) for p in pairs) / len(pairs) < 0.15
    assert all(
        held_out(a, name, b) == held_out(b, INVERSE[name], a) for a in KINDS for b in KINDS for name in RELATIONS
    )
    assert all(scene.novel() for scene in some(20, novel=True))


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
    assert slanting.relations() == [] and Statement((Phrase("dog"), cat), "above").holds(slanting, perhaps=True)
    assert not Statement((Phrase("dog"), cat), "below").holds(slanting, perhaps=True)


@pytest.mark.parametrize(
    "kind, several", [("bus", "buses"), ("strawberry", "strawberries"), ("fish", "fish"), ("key", "keys")]
)
def test_plurals(kind, several):
    assert plural(kind) == several


def test_articles_go_by_the_next_word():
    assert noun(Phrase("apple")) == "an apple" and noun(Phrase("apple", "red")) == "a red apple"
    assert noun(Phrase("dog", "orange", "large")) == "a large orange dog" and noun(Phrase("umbrella")) == "an umbrella"


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
    for a, name, b in scene.relations():
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
        for asked in questions(scene, np.random.default_rng(i)):
            kinds.add(asked["kind"])
            words, answer = asked["question"].rstrip("?").split(), asked["answer"]
            of = [t for t in scene.things if t.kind in words or plural(t.kind) in words]
            if asked["kind"] == "colour":
                assert [t.colour for t in of] == [answer]
            elif asked["kind"] == "size":
                assert [t.size for t in of] == [answer]
            elif asked["kind"] == "count":
                assert ["no", "one", "two", "three", "four"][len(of)] == answer
            elif asked["kind"] == "relation":
                (a, b) = [next(j for j, t in enumerate(scene.things) if t.kind == w) for w in (words[3], words[-1])]
                assert WORDS[scene.relation(a, b)] == answer
            elif asked["kind"] == "object":
                said = " ".join(words[2:-2])
                there = {
                    scene.things[a].kind
                    for a, name, b in scene.relations()
                    if WORDS[name] == said and scene.things[b].kind == words[-1]
                }
                assert there == {answer}
            else:
                colour = next((w for w in words if w in COLOURS), None)
                assert (answer == "yes") == any(t.kind == words[-1] and t.colour == colour for t in scene.things)
    assert kinds == {"relation", "object", "colour", "size", "count", "exists"}
