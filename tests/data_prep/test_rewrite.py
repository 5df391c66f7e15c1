import json
import random
from collections import Counter
from pathlib import Path

import pytest

from data_prep.captions import normalise
from data_prep.rewrite.build import Index, apply, build, fit
from data_prep.rewrite.graphs import Graph, nodes, parse
from data_prep.rewrite.swaps import _fit, count, swap
from unimo.errors import DataError
from unimo.readers.annotations import Pair, read_pairs, read_rewrites

EXTRA = {  # captions that the drawings lack: no node, several captions of one image, plural, relations
    "extra-0": ["Yum!", "It is eating."],
    "extra-1": ["A man rides a red bicycle.", "An old man is next to a big dog.", "Two children ride a bus."],
    "extra-2": ["Two brown dogs sleep on a sofa.", "Three cats watch an owl in a tree."],
}


@pytest.fixture(scope="module")
def pairs(write_pairs, shipped, tmp_path_factory) -> Path:
    image = shipped[0]["image"]
    extra = [{"image_id": k, "image": image, "captions": v, "source": "x"} for k, v in EXTRA.items()]
    return write_pairs(tmp_path_factory.mktemp("pairs"), shipped + extra, ("train", "train", "dev", "train", "test"))


@pytest.fixture(scope="module")
def records(pairs) -> list[Pair]:
    return read_pairs(pairs)


@pytest.fixture(scope="module")
def graphs(records, tmp_path_factory) -> dict[str, Graph]:
    return parse([c for p in records for c in p.captions], tmp_path_factory.mktemp("graphs") / "x.graphs.jsonl")


@pytest.fixture(scope="module")
def index(records, graphs) -> Index:
    return fit(records, graphs)


@pytest.fixture(scope="module")
def rewrites(records, graphs, index) -> dict:
    return {r.caption_id: r for r in apply(records, graphs, index, negatives=4, tfidf=5, seed=1)}


def test_graphs_name_objects_attributes_and_relations(graphs):
    graph = graphs["A man rides a red bicycle."]
    assert [n["text"] for n in graph["objects"]] == ["man", "bicycle"]
    assert [(n["object"], n["text"]) for n in graph["attributes"]] == [(1, "red")]
    assert [(n["subject"], n["text"], n["object"]) for n in graph["relations"]] == [(0, "rides", 1)]
    assert graphs["An old man is next to a big dog."]["attributes"][0]["text"] == "old"
    assert graphs["It is eating."] == {"objects": [], "attributes": [], "relations": []}  # pronouns are no objects


def test_every_node_stands_where_its_span_says(graphs):
    assert sum(len(list(nodes(graph))) for graph in graphs.values()) > 600
    for caption, graph in graphs.items():
        for _, node in nodes(graph):
            assert caption[slice(*node["span"])] == node["text"]
            assert node["text"].lower() not in ("a", "an", "the", "it", "this")


def test_negatives_differ_in_exactly_the_recorded_span(rewrites):
    kinds = Counter()
    for rewrite in rewrites.values():
        for negative in (n for n in rewrite.negatives if n.kind != "tfidf"):
            start, end = negative.span
            kinds[negative.kind] += 1
            assert rewrite.caption[start:end] == negative.__pydantic_extra__["from"]
            assert negative.text == rewrite.caption[:start] + negative.to + rewrite.caption[end:]
            assert normalise(negative.text) != normalise(rewrite.caption)
            assert negative.node in rewrite.caption[start:end]
    assert kinds["object"] > 1000 and kinds["attribute"] > 500 and kinds["relation"] > 200


def test_swapped_words_are_of_the_training_captions_and_of_another_lemma(rewrites, records, graphs):
    lemmas = {}
    for pair in records:
        for caption in pair.captions if pair.split == "train" else []:
            for kind, node in nodes(graphs[caption]):
                lemmas.setdefault((kind, normalise(node["text"])), set()).add(node["lemma"])
    for rewrite in rewrites.values():
        own = {(kind, node["text"]): node["lemma"] for kind, node in nodes(rewrite.graph)}
        for negative in (n for n in rewrite.negatives if n.kind != "tfidf"):
            entry = lemmas[negative.kind, normalise(negative.to)]
            assert own[negative.kind, negative.node] not in entry or len(entry) > 1


def test_number_and_article_agree(rewrites):
    dogs = [n for n in rewrites["extra-2#0"].negatives if n.kind == "object" and n.node == "dogs"]
    assert dogs and all(n.text.startswith("Two brown ") for n in dogs)
    for rewrite in rewrites.values():
        for negative in (n for n in rewrite.negatives if n.kind in ("object", "attribute")):
            words = negative.text.lower().replace("“", "").split()
            for article, word in zip(words, words[1:]):
                if article in ("a", "an"):
                    vowel = word[0] in "aeiou" and not word.startswith(("uni", "one", "eu"))
                    assert article == ("an" if vowel else "a"), negative.text


@pytest.mark.parametrize(
    "caption, span, new, text",
    [
        ("A dog.", [2, 5], "owl", "An owl."),
        ("An owl.", [3, 6], "university", "A university."),
        ("He saw an owl.", [10, 13], "dog", "He saw a dog."),
        ("Dogs run.", [0, 4], "owls", "Owls run."),
        ("an hour", [3, 7], "honest man", "an honest man"),
        ("Plasma dog", [7, 10], "owl", "Plasma owl"),
    ],
)
def test_fitting_a_word_in(caption, span, new, text):
    start, end, inserted = _fit(caption, span, new)
    assert caption[:start] + inserted + caption[end:] == text


def test_what_another_caption_of_the_image_says_is_no_negative(graphs):
    vocabulary = count(graphs[c] for c in ("A man rides a red bicycle.", "A red apple.", "A banana."))
    caption = "A man rides a red bicycle."
    free = swap(caption, graphs[caption], [], vocabulary, 50, random.Random(0))
    bound = swap(caption, graphs[caption], ["There is an apple on it"], vocabulary, 50, random.Random(0))
    assert any("apple" in n["text"] for n in free) and not any("apple" in n["text"] for n in bound)


def test_similar_captions_are_of_other_images_of_the_same_split(rewrites, records):
    split = {p.image_id: p.split for p in records}
    captions = {key: text for p in records for key, text in p.captions_by_id().items()}
    for rewrite in rewrites.values():
        found = [n for n in rewrite.negatives if n.kind == "tfidf"]
        assert len(found) == 5  # captions without any node have them as well
        assert len({normalise(n.text) for n in found} | {normalise(rewrite.caption)}) == 6
        own = set(normalise(" ".join(c for p in records if p.image_id == rewrite.image_id for c in p.captions)).split())
        for negative in found:
            assert not own.issuperset(normalise(negative.text).split())  # it would likely be true of the image
            assert negative.image_id != rewrite.image_id and captions[negative.caption_id] == negative.text
            assert split[negative.image_id] == split[rewrite.image_id]
        assert [n.score for n in found] == sorted((n.score for n in found), reverse=True)


def test_captions_that_share_words_come_first(rewrites):
    tree = next(r for r in rewrites.values() if r.caption == "A decorated Christmas tree.")
    assert "tree" in next(n for n in tree.negatives if n.kind == "tfidf").text


def test_choices_depend_on_seed_and_caption_alone(records, graphs, index, rewrites):
    some = list(reversed(records))[::7]
    for rewrite in apply(some, graphs, index, negatives=4, tfidf=5, seed=1):
        assert rewrite == rewrites[rewrite.caption_id]
    other = apply(some, graphs, index, negatives=4, tfidf=5, seed=2)
    assert sum(r.negatives != rewrites[r.caption_id].negatives for r in other) > len(some) / 2


WORDS = "a an the red dogs owl riding on front of next man who it two , - ' ! not 日本 é\n \t".split(" ")


def test_any_text_parses_and_swaps_within_its_spans(graphs, tmp_path):
    """400 word salads, parsed in one go: the model takes a second to load."""
    rng = random.Random(0)
    salads = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(400)]
    vocabulary, swapped = count(graphs.values()), 0
    for caption, graph in parse(salads, tmp_path / "x.jsonl").items():
        for negative in swap(caption, graph, salads[:3], vocabulary, 2, rng):
            start, end = negative["span"]
            assert negative["text"] == caption[:start] + negative["to"] + caption[end:]
            swapped += 1
    assert swapped > 500


def test_the_stage_writes_what_the_reader_reads_and_resumes_its_parsing(pairs, records, rewrites, tmp_path):
    out = tmp_path / "rewrites.jsonl"
    assert f"{len(rewrites)} captions" in build(pairs, out, negatives=4, tfidf=5, seed=1)
    first = out.read_bytes()
    assert read_rewrites(out, records) == rewrites
    kept = (tmp_path / "rewrites.graphs.jsonl").read_bytes().splitlines(keepends=True)
    assert len(kept) == 1 + len(rewrites)
    # as a kill leaves it: some whole lines, one cut short; the second of them is not parsed again, so it is believed
    marked = json.loads(kept[2])
    marked["graph"]["objects"][0]["class"] = "kept from the first run"
    (tmp_path / "rewrites.graphs.jsonl").write_bytes(
        b"".join([kept[0], kept[1], json.dumps(marked).encode() + b"\n", kept[3][:20]])
    )
    build(pairs, out, negatives=4, tfidf=5, seed=1)
    resumed = (tmp_path / "rewrites.graphs.jsonl").read_bytes().splitlines(keepends=True)
    assert resumed[3:] == kept[3:] and b"kept from the first run" in out.read_bytes()
    (tmp_path / "rewrites.graphs.jsonl").write_bytes(b'{"parser": "another"}\n' + b"".join(kept[1:3]))
    build(pairs, out, negatives=4, tfidf=5, seed=1)
    assert out.read_bytes() == first


def test_without_training_captions_there_is_nothing_to_learn(write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path, shipped[:3], ("test",))
    with pytest.raises(DataError, match="training captions"):
        build(pairs, tmp_path / "rewrites.jsonl")
