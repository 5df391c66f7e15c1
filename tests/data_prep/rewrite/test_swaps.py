"""Swapped phrases: what is changed, what is never put in, and how the sentence stays one."""

import random
from collections import Counter

import pytest

from data_prep.near_duplicates import normalise
from data_prep.rewrite.graphs import PREPOSITION, nodes
from data_prep.rewrite.swaps import MOST_CHANGES, Scene, Swapper, _apply, _elsewhere, _fit, count

WORDS = "a an the red dogs owl riding on front of next man who it two , - ' ! not 日本 é\n \t".split(" ")


def changes(negative: dict) -> list[dict]:
    return negative.get("changes") or [negative]


@pytest.fixture(scope="module")
def corpus(shipped) -> list[str]:
    more = [
        "A man rides a red bicycle.",
        "A woman feeds a small horse.",
        "An old man sits next to a big dog.",
        "Two brown dogs sleep on a sofa under a lamp.",
        "Three cats watch an owl in a tree.",
        "A boy with a hat is behind the car.",
    ]
    return [caption for record in shipped for caption in record["captions"]] + more


@pytest.fixture(scope="module")
def graphs(parser, corpus, tmp_path_factory):
    return parser.graphs(corpus, tmp_path_factory.mktemp("graphs") / "g.jsonl")


@pytest.fixture(scope="module")
def swapped(graphs, wordnet):
    """Caption -> its negatives."""
    swap = Swapper(count(graphs.values()), wordnet, 5)
    return {caption: swap(caption, graph, Scene(), random.Random(caption)) for caption, graph in graphs.items()}


def check(caption: str, negative: dict) -> None:
    """A negative differs in exactly the spans that it records, and is another sentence."""
    made = changes(negative)
    assert (negative["kind"] == "several") == (len(made) > 1) and len(made) <= MOST_CHANGES
    for change in made:
        start, end = change["span"]
        assert caption[start:end] == change["from"] and change["node"] in change["from"]
        assert change["kind"] in ("object", "attribute", "relation")
    for one, other in zip(made, made[1:]):
        assert one["span"][1] <= other["span"][0]
    rest, at = [], 0
    for change in made:
        rest += [caption[at : change["span"][0]], change["to"]]
        at = change["span"][1]
    assert negative["text"] == "".join(rest) + caption[at:]
    assert normalise(negative["text"]) != normalise(caption)


def test_negatives_differ_in_exactly_the_recorded_spans(swapped):
    kinds = Counter()
    for caption, negatives in swapped.items():
        for negative in negatives:
            check(caption, negative)
            kinds[negative["kind"]] += 1
        assert len({normalise(n["text"]) for n in negatives}) == len(negatives)
        assert all(n <= 5 for n in Counter(n["kind"] for n in negatives).values())
    assert kinds["object"] > 1500 and kinds["attribute"] > 300 and kinds["relation"] > 40 and kinds["several"] > 400


def test_any_text_parses_and_swaps_within_its_spans(parser, graphs, wordnet, tmp_path):
    """400 word salads, parsed in one go."""
    rng = random.Random(0)
    salads = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(400)]
    swap, made = Swapper(count(graphs.values()), wordnet, 2), 0
    for caption, graph in parser.graphs(salads, tmp_path / "x.jsonl").items():
        for negative in swap(caption, graph, Scene(tuple(salads[:3])), rng):
            check(caption, negative)
            made += 1
    assert made > 300


def test_what_comes_in_was_counted_in_the_same_kind_and_form(swapped, graphs):
    vocabulary = count(graphs.values())
    classes = {
        caption: {(kind, node["text"]): node["class"] for kind, node in nodes(graph)}
        for caption, graph in graphs.items()
    }
    for caption, negatives in swapped.items():
        for change in (change for negative in negatives for change in changes(negative)):
            entries = vocabulary[change["kind"], classes[caption][change["kind"], change["node"]]]
            come_in = normalise(change["to"])
            assert come_in in {normalise(text) for text in entries.texts}


def test_no_synonym_and_no_kind_of_anything_named_comes_in(swapped, graphs, wordnet):
    lemma_of = {
        (kind, normalise(node["text"])): node["lemma"] for graph in graphs.values() for kind, node in nodes(graph)
    }
    seen = 0
    for caption, negatives in swapped.items():
        named = [node["lemma"] for node in graphs[caption]["objects"]]
        for change in (change for negative in negatives for change in changes(negative)):
            if change["kind"] == "object":
                lemma = lemma_of["object", normalise(change["to"])]
                assert not any(wordnet.kind(lemma, noun) for noun in named), (caption, change)
                seen += 1
    assert seen > 1500


def test_what_is_true_of_the_image_all_the_same_stays_out(graphs, wordnet):
    caption = "A man rides a red bicycle."
    swap = Swapper(count(graphs.values()), wordnet, 2000)  # all there are

    def put_in(scene: Scene) -> set[str]:
        return {
            normalise(change["to"])
            for negative in swap(caption, graphs[caption], scene, random.Random(0))
            for change in changes(negative)
        }

    free = put_in(Scene())
    assert {"horse", "blue"} <= free
    assert "blue" not in put_in(Scene(captions=("The bicycle has a blue bell",)))  # another caption says it
    detected = put_in(Scene(nouns=frozenset({"animal"})))
    assert "horse" not in detected and "cat" not in detected and "boat" in detected
    assert "woman" in free and "boy" not in free  # a boy is a man, for WordNet


def test_attributes_come_in_only_where_they_exclude_the_old_one(swapped, wordnet):
    for caption, negatives in swapped.items():
        for negative in negatives:
            if negative["kind"] == "attribute" and negative["node"].lower() in ("red", "big", "small", "black"):
                new = normalise(negative["to"])
                assert wordnet.exclude(negative["node"].lower(), new), (caption, new)


@pytest.mark.parametrize(
    "old, new, exclude",
    [
        ("on", "under", True),
        ("on", "on top of", False),
        ("in", "next to", True),
        ("on", "above", False),
        ("with", "without", True),
        ("with", "on", False),
        ("near", "under", False),
        ("of", "in", False),
        ("inside", "outside", True),
    ],
)
def test_prepositions_that_exclude_each_other(old, new, exclude):
    assert _elsewhere(old, new) == exclude


def test_an_opposite_needs_no_occurrence(graphs):
    prepositions = count(graphs.values())["relation", PREPOSITION]
    assert "with" in prepositions.texts and "without" in prepositions.texts


def test_nothing_is_denied_of_something_put_in(swapped):
    for negative in (n for negatives in swapped.values() for n in negatives):
        words = [normalise(change["to"]) for change in changes(negative)]
        assert len(words) == 1 or "without" not in words, negative["text"]  # "a peach without a kettle" is true


def test_a_noun_before_of_stays(graphs, wordnet):
    caption = "A slice of watermelon."
    swap = Swapper(count(graphs.values()), wordnet, 20)
    found = swap(caption, graphs[caption], Scene(), random.Random(0))
    assert found and all(change["node"] != "slice" for n in found for change in changes(n))


def test_what_is_alike_comes_in_first(graphs, wordnet):
    """Of a horse living things come in before the many tools of the drawings."""
    swap = Swapper(count(graphs.values()), wordnet, 4)
    caption = "A pink horse running in the sun."
    found = [change for n in swap(caption, graphs[caption], Scene(), random.Random(0)) for change in changes(n)]
    animals = [normalise(change["to"]) for change in found if change["node"] == "horse"]
    assert len(animals) > 1 and all(wordnet.mostly(animal, "animal", 1) for animal in animals), animals


def test_what_cannot_be_seen_takes_the_place_of_nothing_that_can(parser, wordnet, tmp_path):
    """A parser that takes a verb for a noun once must not have it put in everywhere."""
    captions = [
        "A kingfisher on a branch.",
        "Some playing is a game.",
        "A playing of games.",
        "A dog on a box.",
        "A owl.",
    ]
    graphs = parser.graphs(captions, tmp_path / "g.jsonl")
    vocabulary = count(graphs.values())
    playing = ("object", "NN a")
    entries = vocabulary[playing]
    vocabulary[playing] = type(entries)(
        [*entries.texts, "playing"],
        [*entries.lemmas, "playing"],
        [*entries.phrases, " playing "],
        [*entries.cumulative, entries.cumulative[-1] + 1000],
    )
    swap = Swapper(vocabulary, wordnet, 20)
    found = swap(captions[0], graphs[captions[0]], Scene(), random.Random(0))
    put_in = {normalise(change["to"]) for n in found for change in changes(n)}
    assert put_in and not any("playing" in text for text in put_in)


def test_without_is_at_most_every_seventh_relation(swapped):
    number = Counter()
    for negatives in swapped.values():
        relations = [normalise(n["to"]) for n in negatives if n["kind"] == "relation"]
        assert relations.count("without") * 7 <= len(relations)
        number.update(relations)
    assert sum(number.values()) > 40


def test_several_changes_are_of_words_that_do_not_belong_together(swapped, graphs):
    seen = 0
    for caption, negatives in swapped.items():
        graph = graphs[caption]
        for negative in (n for n in negatives if n["kind"] == "several"):
            changed = [(change["kind"], change["node"]) for change in negative["changes"]]
            for attribute in graph["attributes"]:
                noun = graph["objects"][attribute["object"]]["text"]
                both = {("attribute", attribute["text"]), ("object", noun)} <= set(changed)
                twice = [n["text"] for n in graph["objects"]].count(noun) > 1
                assert not both or twice, negative["text"]
                seen += 1
    assert seen > 100


def test_numbers_come_in_as_they_are_written(parser, wordnet, tmp_path):
    captions = ["Two dogs.", "Three cats.", "20,000 ants.", "36 bees.", "29 cows."]
    graphs = parser.graphs(captions, tmp_path / "g.jsonl")
    swap = Swapper(count(graphs.values()), wordnet, 20)
    for caption, texts in (("Two dogs.", {"Three"}), ("36 bees.", {"29"})):
        found = swap(caption, graphs[caption], Scene(), random.Random(0))
        assert {n["to"] for n in found if n["kind"] == "attribute"} == texts


def test_a_name_with_a_plural_verb_is_a_plural(parser, tmp_path):
    captions = ["The Imperial Baths are a building in Trier.", "The Taj Mahal is white."]
    baths, mahal = parser.graphs(captions, tmp_path / "g.jsonl").values()
    assert baths["objects"][0]["class"] == "NNPS" != mahal["objects"][0]["class"]


def test_number_and_article_agree(swapped):
    dogs = swapped["Two brown dogs sleep on a sofa under a lamp."]
    for negative in dogs:
        if negative["kind"] == "object" and negative["node"] == "dogs":
            assert negative["text"].startswith("Two brown ")
    for negative in (n for negatives in swapped.values() for n in negatives):
        words = negative["text"].replace("“", "").split()
        for article, word in zip(words, words[1:]):
            if article in ("a", "an") and word.isalpha() and word.islower():
                vowel = word[0] in "aeiou" and not word.startswith(("uni", "one", "eu", "ute", "use"))
                assert article == ("an" if vowel else "a"), negative["text"]


@pytest.mark.parametrize(
    "caption, span, new, text",
    [
        ("A dog.", [2, 5], "owl", "An owl."),
        ("An owl.", [3, 6], "university", "A university."),
        ("He saw an owl.", [10, 13], "dog", "He saw a dog."),
        ("Dogs run.", [0, 4], "owls", "Owls run."),
        ("an hour", [3, 7], "honest man", "an honest man"),
        ("Plasma dog", [7, 10], "owl", "Plasma owl"),
        ("An oar.", [3, 6], "utensil", "A utensil."),
        ("A spoon.", [2, 7], "MRI scan", "An MRI scan."),
        ("A tall boy.", [2, 6], "8-year-old", "An 8-year-old boy."),
        ("An\n owl", [4, 7], "plate", "A\n plate"),
    ],
)
def test_fitting_a_word_in(caption, span, new, text):
    start, end, inserted = _fit(caption, span, new)
    assert _apply(caption, [{"span": [start, end], "to": inserted}]) == text


def test_capitals_that_are_not_the_sentences_own_stay(parser, tmp_path):
    captions = ["TV on a table.", "Christmas tree in a room.", "Snowman with a broom.", "French bread on a table."]
    captions += ["A boy waves a French flag.", "Two dogs sleep.", "A snowman with a hat."]
    vocabulary = count(parser.graphs(captions, tmp_path / "g.jsonl").values())
    texts = {text for entries in vocabulary.values() for text in entries.texts}
    assert {"TV", "Christmas tree", "snowman", "French"} <= texts
    assert not {"tV", "christmas tree", "french", "Snowman"} & texts


def test_numbers_and_actions_that_are_the_same_in_other_words_stay_out(parser, wordnet, tmp_path):
    captions = ["Two dogs play.", "2 cats play.", "Three cats play.", "A smiling woman holds a cup.", "A sleeping cat."]
    captions += ["A beaming boy."]
    graphs = parser.graphs(captions, tmp_path / "g.jsonl")
    swap = Swapper(count(graphs.values()), wordnet, 50)
    attributes = {
        caption: {
            n["to"] for n in swap(caption, graphs[caption], Scene(), random.Random(0)) if n["kind"] == "attribute"
        }
        for caption in captions
    }
    assert attributes["Two dogs play."] == {"Three"}
    assert "sleeping" in attributes["A smiling woman holds a cup."]
    assert "beaming" not in attributes["A smiling woman holds a cup."]


def test_equal_seeds_give_equal_negatives(graphs, wordnet):
    swap = Swapper(count(graphs.values()), wordnet, 5)
    for caption in list(graphs)[::40]:
        one, same, other = (swap(caption, graphs[caption], Scene(), random.Random(seed)) for seed in (1, 1, 2))
        assert one == same and (one != other or len(one) < 5)
