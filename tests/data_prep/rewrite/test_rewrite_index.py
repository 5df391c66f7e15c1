"""The folder that `rewrite fit` writes: the same rewrites as without it, at a part's cost, or one clear error."""

import json
import shutil
from pathlib import Path

import pytest

from data_prep.merge import merge
from data_prep.rewrite.build import Amounts, _opened, apply, build, fit
from data_prep.rewrite.graphs import Parser
from data_prep.rewrite.index import Index
from data_prep.stage import Shard
from unimo.errors import DataError
from unimo.readers.annotations import read_pairs

AMOUNTS = Amounts(paraphrases=0, negatives=4, tfidf=5)
MANY = ["A man rides a red bicycle.", "An old man is next to a big dog.", "Ünïcode — a Café’s dog.", "Yum!"]


@pytest.fixture(scope="module")
def pairs(write_pairs, shipped, tmp_path_factory) -> Path:
    """Drawings and an image with several captions, in three splits that take turns."""
    records = [*shipped[:90], {**shipped[90], "image_id": "many", "captions": MANY}, *shipped[91:150]]
    return write_pairs(tmp_path_factory.mktemp("pairs"), records, ("train", "train", "dev", "train", "test"))


@pytest.fixture(scope="module")
def folder(pairs, tmp_path_factory, wordnet) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "words"
    assert fit(pairs, out).startswith(f"{out}: 153 captions")
    return out


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "words"))


def test_parts_over_an_index_are_a_single_run_without_one_and_parse_nothing(pairs, folder, tmp_path, monkeypatch):
    build(pairs, tmp_path / "whole.jsonl", AMOUNTS, seed=3)
    monkeypatch.setattr(Parser, "graphs", lambda *_: pytest.fail("it parses"))
    for number in (1, 2):
        build(pairs, tmp_path / "parts.jsonl", AMOUNTS, seed=3, shard=Shard(number, 2), index=folder)
    merge(tmp_path / "parts.jsonl")
    whole = (tmp_path / "whole.jsonl").read_bytes()
    assert len(whole.splitlines()) == 153
    assert (tmp_path / "parts.jsonl").read_bytes() == whole


def test_it_is_mapped_and_holds_what_was_counted(pairs, folder, parser, wordnet, tmp_path):
    records = read_pairs(pairs)
    graphs = parser.graphs([c for p in records for c in p.captions], tmp_path / "graphs.jsonl")
    fitted, mapped = Index.fit(records, graphs), Index.load(folder, records)
    assert mapped.vocabulary == fitted.vocabulary and mapped.places == fitted.places
    for name, split in fitted.splits.items():
        other = mapped.splits[name]
        assert list(other.graphs) == split.graphs
        own, theirs = split.candidates, other.candidates
        for one, two in zip(own.captions, theirs.captions, strict=True):
            assert two._replace(content=[tuple(entry) for entry in two.content]) == one
        for one, two in ((own.rows, theirs.rows), (own.postings, theirs.postings)):
            assert one.shape == two.shape and one.nnz == two.nnz and not (one != two).nnz
            assert not any(a.flags.owndata or a.flags.writeable for a in (two.data, two.indices, two.indptr))
    some = records[::-4]
    made = [list(apply(some, index, wordnet, AMOUNTS, 1, {}, {})) for index in (mapped, fitted)]
    assert len(made[0]) == len(some) and made[0] == made[1]
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jsonl", ".safetensors"}


def change(manifest: Path, part: str, key: str, value: object) -> None:
    values = json.loads(manifest.read_text())
    values[part][key] = value
    manifest.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "part, key, value, said",
    [
        ("versions", "scikit-learn", "0.1", r"scikit-learn 0\.1 \(here "),
        ("settings", "graphs", -1, r"graphs -1 \(here "),
        ("settings", "model", "2.0", r"model 2\.0 \(here "),
    ],
)
def test_an_index_of_other_versions_is_refused(pairs, copy, parser, part, key, value, said):
    assert _opened(copy, pairs, read_pairs(pairs), parser).places
    change(copy / "manifest.json", part, key, value)
    with pytest.raises(DataError, match=f"was made with {said}.*; run `rewrite fit`"):
        _opened(copy, pairs, read_pairs(pairs), parser)


def test_an_index_of_other_pairs_is_refused(pairs, folder, tmp_path):
    other = tmp_path / "pairs.jsonl"
    other.write_text("".join(pairs.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="was made with other pairs than .*pairs.jsonl as it is now; run `rewrite fit`"):
        build(other, tmp_path / "out.jsonl", AMOUNTS, index=folder)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_unfinished_index_or_another_folder_is_refused(pairs, copy, parser, tmp_path):
    (copy / "manifest.json").rename(tmp_path / "kept.json")
    with pytest.raises(DataError, match="manifest.json.*run it to its end"):
        _opened(copy, pairs, read_pairs(pairs), parser)
    manifest = json.loads((tmp_path / "kept.json").read_text()) | {"stage": "retrieve fit"}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="was written by `retrieve fit`; expected the folder of `rewrite fit`"):
        _opened(copy, pairs, read_pairs(pairs), parser)
    with pytest.raises(DataError, match="was written by `retrieve fit`; name another folder"):
        fit(pairs, copy)
    (copy / "manifest.json").unlink()
    (copy / "index.json").write_text('{"format": "unimo-features", "version": 1}')  # of a store that is being written
    with pytest.raises(DataError, match="index.json: it is 'unimo-features' version 1"):
        fit(pairs, copy)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file is a file; expected the name of a folder"):
        fit(pairs, tmp_path / "file")


@pytest.mark.parametrize("name", ["train.captions.jsonl", "dev.graphs.jsonl", "test.safetensors", "vocabulary.jsonl"])
def test_a_cut_or_missing_file_is_refused(pairs, copy, name):
    content = (copy / name).read_bytes()
    for kept in (len(content) - 9, 0, None):
        (copy / name).write_bytes(content[:kept]) if kept is not None else (copy / name).unlink()
        with pytest.raises(DataError, match=f"{copy}.*run `rewrite fit` again"):
            Index.load(copy, read_pairs(pairs))


def test_a_damaged_line_is_named(pairs, copy):
    content = (copy / "train.captions.jsonl").read_bytes()
    (copy / "train.captions.jsonl").write_bytes(content.replace(b"[", b"{", 1))
    with pytest.raises(DataError, match="train.captions.jsonl: line 1 is damaged"):
        Index.load(copy, read_pairs(pairs)).splits["train"].candidates.captions[0]


def test_stopped_while_parsing_it_goes_on(pairs, folder, tmp_path):
    """What an earlier run parsed is believed, a torn line is parsed again, and the same files come out."""
    kept = folder.with_name("words.graphs.jsonl").read_bytes().splitlines(keepends=True)
    assert len(kept) == 1 + 153
    (tmp_path / "words.graphs.jsonl").write_bytes(b"".join(kept[:40]) + kept[40][:20])
    fit(pairs, tmp_path / "words")
    files = json.loads((folder / "manifest.json").read_text())["sha256"]
    assert len(files) == 11 and json.loads((tmp_path / "words" / "manifest.json").read_text())["sha256"] == files
    marked = json.loads(kept[1])
    marked["graph"] = {"objects": [], "attributes": [], "relations": []}
    (tmp_path / "words.graphs.jsonl").write_bytes(kept[0] + json.dumps(marked).encode() + b"\n")
    fit(pairs, tmp_path / "words")
    assert Index.load(tmp_path / "words", read_pairs(pairs)).splits["train"].graphs[0] == marked["graph"]


def test_the_order_of_hashes_does_not_matter(pairs, folder, stage, tmp_path):
    """Nor does the process: every run above had another order."""
    files = json.loads((folder / "manifest.json").read_text())["sha256"]
    done = stage("rewrite", "fit", "--pairs", pairs, "--output", tmp_path / "words", PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "words" / "manifest.json").read_text())["sha256"] == files
