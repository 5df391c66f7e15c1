"""What is read off a sentence's clauses beside the parser's own rules: places, passives, predicative adjectives."""

import random

import pytest

from data_prep.rewrite.graphs import Graph, Parser
from data_prep.rewrite.swaps import Scene, Swapper, count
from unimo.readers.scene_graphs import SceneGraph

PLACES = {
    "the chair is in front of the desk": "chair -in front of- desk",
    "a man is standing in front of a table": "man -in front of- table",
    "A man stands in front of a table.": "man -in front of- table",
    "a cup is on top of the table": "cup -on top of- table",
    "A cat sitting on top of a car": "cat -on top of- car",
    "The lamp is behind the sofa.": "lamp -behind- sofa",
    "The lamp is to the left of the sofa.": "lamp -to the left of- sofa",
    "A lamp to the left of the sofa.": "lamp -to the left of- sofa",
    "The dog is on the other side of the fence.": "dog -on the other side of- fence",
    "a man is in the middle of a street": "man -in the middle of- street",
    "An old man is next to a big dog.": "man -next to- dog",
    "The dog is far from the house.": "dog -far from- house",
    "A train is coming out of a tunnel.": "train -out of- tunnel",
    "A bird is perched on a branch.": "bird -on- branch",
    "In front of the house is a car.": "car -In front of- house",
    "There are two dogs sitting in front of a house.": "dogs -in front of- house",
    "A bike that is parked under a tree.": "bike -under- tree",
    "A cat that is sleeping on a couch.": "cat -sleeping on- couch",
    "The street is lined with trees.": "street -lined with- trees",
    "A bus parked by a building.": "bus -parked by- building",
    "The bus is parked by a building.": "bus -parked by- building",
    "A plate topped with food.": "plate -topped with- food",
    "The table is made of wood.": "table -made of- wood",
    "A cup is full of coffee.": "cup -full of- coffee",
    "A man and a woman are standing behind a car.": "man -behind- car, woman -behind- car",
    "The girl is wearing a dress and is standing behind a fence.": "girl -wearing- dress, girl -behind- fence",
    "We see a man standing on top of a car.": "man -on top of- car",
}
DEEDS = {
    "A dog chased by a cat": "cat -chased- dog",
    "the ball is held by a boy": "boy -held- ball",
    "A dog being chased by a cat.": "cat -chased- dog",
    "A dog which was chased by a cat.": "cat -chased- dog",
    "The dog and the cat are chased by a boy.": "boy -chased- dog, boy -chased- cat",
    "A cell phone held up by a person.": "person -held up- cell phone",
    "A person holding up a cell phone": "person -holding up- cell phone",
    "A lady is sitting and playing the piano.": "lady -playing- piano",
    "A kid that is holding a kite.": "kid -holding- kite",
}
QUALITIES = {
    "The cat is black and the dog is white": "cat: black, dog: white",
    "The dog is big, brown and wet.": "dog: big, dog: brown, dog: wet",
    "The man and the woman are tall.": "man: tall, woman: tall",
    "The cat looks hungry.": "cat: hungry",
    "A woman is wearing a hat that is red.": "hat: red",
    "A man is asleep in a bed.": "man: asleep",
    "The house is painted red.": "house: red",
    "A man keeps the door open.": "door: open",
    "The dog is bigger than the cat.": "dog: bigger",
    "The cat is not black and the dog is white.": "dog: white",
    "The man is a doctor.": "",
    "A cup is full of coffee.": "",
    "The lamp is on.": "",
    "It is black.": "",
}
UNTRUE = [
    "The cat is not black.",
    "The girl isn't tall.",
    "The dog is no longer wet.",
    "The car is neither red nor blue.",
    "No dog is white.",
    "The dog may be white.",
    "Is the cat black?",
    "Are the dogs on the bed?",
    "Is there a cat under the table?",
    "The boy is not in front of the car.",
    "A dog that isn't on a leash",
    "There is no dog on the couch.",
    "A man is not riding a horse.",
    "It is on the table.",
    "Who is in the car?",
]


@pytest.fixture(scope="module")
def graphs(parser: Parser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    every = [*PLACES, *DEEDS, *QUALITIES, *UNTRUE, "A man without a hat.", "A cat is under the table, not on the bed."]
    return parser.graphs(every, tmp_path_factory.mktemp("clauses") / "graphs.jsonl")


def relations(graph: Graph) -> str:
    return ", ".join(f"{a} -{text}- {b}" for a, text, b in SceneGraph.model_validate(graph).triples())


@pytest.mark.parametrize("caption", [*PLACES, *DEEDS])
def test_who_is_where_and_who_does_what(graphs, caption):
    assert relations(graphs[caption]) == {**PLACES, **DEEDS}[caption]


@pytest.mark.parametrize("caption", QUALITIES)
def test_adjectives_after_a_verb_are_the_subjects(graphs, caption):
    graph = graphs[caption]
    found = [f"{graph['objects'][node['object']]['text']}: {node['text']}" for node in graph["attributes"]]
    assert ", ".join(found) == QUALITIES[caption]


@pytest.mark.parametrize("caption", UNTRUE)
def test_what_is_denied_asked_or_said_of_nobody_gives_nothing(graphs, caption):
    assert graphs[caption]["relations"] == graphs[caption]["attributes"] == []


def test_denial_ends_where_it_ends(graphs):
    assert relations(graphs["A cat is under the table, not on the bed."]) == "cat -under- table"


def test_the_front_of_in_front_of_is_no_object(graphs):
    for caption in ("the chair is in front of the desk", "A lamp to the left of the sofa."):
        names = [node["text"] for node in graphs[caption]["objects"]]
        assert len(names) == 2 and not {"front", "left"} & set(names)


def test_every_relation_is_of_two_things_and_stands_where_its_span_says(graphs):
    for caption, graph in graphs.items():
        ends = [(node["subject"], node["object"]) for node in graph["relations"]]
        assert len(set(ends)) == len(ends) and all(a != b for a, b in ends)
        for node in graph["attributes"] + graph["relations"]:
            assert caption[slice(*node["span"])] == node["text"]


@pytest.fixture(scope="module")
def swapped(graphs: dict[str, Graph], wordnet) -> dict[str, set[str]]:
    """Caption -> all its negatives by swapping."""
    swap = Swapper(count(graphs.values()), wordnet, 200)
    return {
        caption: {n["text"] for n in swap(caption, graph, Scene(), random.Random(0)) if n["kind"] != "several"}
        for caption, graph in graphs.items()
    }


def test_what_clauses_add_is_swapped_for_what_makes_it_false(swapped):
    assert "the chair is behind the desk" in swapped["the chair is in front of the desk"]
    assert "a man is standing behind a table" in swapped["a man is standing in front of a table"]
    assert "The lamp is to the right of the sofa." in swapped["The lamp is to the left of the sofa."]
    assert "The cat is red and the dog is white" in swapped["The cat is black and the dog is white"]
    assert "Behind the house is a car." in swapped["In front of the house is a car."]


def test_a_participle_and_a_particle_keep_their_words(swapped):
    for caption, words in (
        ("A plate topped with food.", "topped with"),
        ("The street is lined with trees.", "lined with"),
        ("A person holding up a cell phone", "holding up"),
        ("A cell phone held up by a person.", "held up by"),
    ):
        assert swapped[caption] and all(words in text for text in swapped[caption])


def test_what_stands_after_is_does_not_come_before_a_noun(parser, wordnet, tmp_path):
    """No "asleep dog"; but what stands before a noun may come after "is"."""
    captions = ["An awake dog.", "The cat is asleep.", "A black cat.", "The dog is white.", "The cat is alive."]
    graphs = parser.graphs(captions, tmp_path / "graphs.jsonl")
    swap = Swapper(count(graphs.values()), wordnet, 100)
    texts = {n["text"] for c, g in graphs.items() for n in swap(c, g, Scene(), random.Random(0))}
    assert "The dog is black." in texts
    assert not any("asleep dog" in text or "white cat" in text for text in texts)


def test_nothing_denied_is_swapped(swapped):
    """A dog that isn't on a leash isn't on a sofa either."""
    assert all("leash" in text for text in swapped["A dog that isn't on a leash"])
    assert all("hat" in text for text in swapped["A man without a hat."])
    assert "A man with a hat." in swapped["A man without a hat."]
    assert swapped["Is the cat black?"] == set()
