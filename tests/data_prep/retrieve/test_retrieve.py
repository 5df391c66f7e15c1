"""The stage `retrieve`, on real drawings and captions with made-up region features."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.merge import merge
from data_prep.retrieve.build import apply, fit
from unimo.errors import DataError
from unimo.readers.annotations import read_pairs, read_rewrites
from unimo.readers.feature_store import RegionRecord, StoreWriter

ROOT = Path(__file__).parents[3]
CLASSES, FEATURES = ["background", "thing", "animal", "food", "vehicle"], 16


def write_store(folder: Path, image_ids: list[str]) -> Path:
    """A store of random regions."""
    fixed = {"feature_dim": FEATURES, "class_names": CLASSES, "extractor": {"name": "made", "version": "1"}}
    with StoreWriter(folder, **fixed) as store:
        for image_id in image_ids:
            rng = np.random.default_rng(list(image_id.encode()))
            store.add(
                RegionRecord(
                    image_id,
                    width=100,
                    height=100,
                    features=rng.random((3, FEATURES)).astype(np.float16),
                    boxes=np.float32([[0, 0, 50, 50]] * 3),
                    classes=rng.integers(1, len(CLASSES), 3),
                    scores=np.sort(rng.uniform(0.2, 1, 3)).astype(np.float32)[::-1].copy(),
                )
            )
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory, write_pairs, shipped):
    """120 drawings, of which every sixth is dev and every sixth test; sentences, some of them held-out captions."""
    folder = tmp_path_factory.mktemp("retrieve")
    pairs = write_pairs(folder, shipped[:120], ("train", "train", "dev", "train", "train", "test"))
    records = read_pairs(pairs)
    held_out = [p for p in records if p.split != "train"]
    texts = [p.captions[0].upper() for p in held_out] + [f"Look at this: {r['captions'][0]}" for r in shipped[120:]]
    lines = [json.dumps({"id": f"t{i}", "text": text, "source": "made"}) for i, text in enumerate(texts)]
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    with Image.open(folder / held_out[0].image) as picture:  # saved as another format and size
        picture.convert("RGBA").resize((90, 90)).save(folder / "copy.webp", quality=80)
    images = [{"image_id": "copy", "image": "copy.webp"}, {k: getattr(held_out[1], k) for k in ("image_id", "image")}]
    (folder / "images.jsonl").write_text("".join(json.dumps(image | {"source": "made"}) + "\n" for image in images))
    write_store(folder / "regions", [p.image_id for p in records] + ["copy"])
    fit(pairs, folder / "texts.jsonl", folder / "images.jsonl", folder / "regions", folder / "index")
    return folder


def run(world: Path, out: Path, **options) -> Path:
    apply(world / "index", world / "pairs.jsonl", None, out, **{"text_threshold": 0.1, "image_threshold": 0} | options)
    return out


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_captions_get_neighbours_and_no_other_caption_does(world, tmp_path):
    records = read_pairs(world / "pairs.jsonl")
    found = read_rewrites(run(world, tmp_path / "out.jsonl"), records)
    assert list(found) == [key for p in records for key in p.captions_by_id()]
    split = {p.image_id: p.split for p in records}
    for rewrite in found.values():
        if split[rewrite.image_id] == "train":
            assert len(rewrite.similar_images) == 20 and rewrite.image_id not in rewrite.similar_images
            assert {split[i] for i in rewrite.similar_images} == {"train"}
        else:
            assert rewrite.similar_images == rewrite.similar_texts == []
    assert sum(bool(r.similar_texts) for r in found.values()) > 40


def test_held_out_records_are_left_out_and_listed(world):
    reasons = {r["id"]: r["reason"] for r in lines(world / "index" / "rejects.jsonl")}
    held_out = [p for p in read_pairs(world / "pairs.jsonl") if p.split != "train"]
    assert reasons["copy"] == "near-duplicate of an image in dev or test"
    assert reasons[held_out[1].image_id] == "image of dev or test"
    assert {reasons[f"t{i}"] for i in range(len(held_out))} == {"near-duplicate of a caption in dev or test"}


def test_pictures_must_be_there_only_where_images_are_compared(write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path, shipped[:6], ("train", "dev"))
    store = write_store(tmp_path / "regions", [r["image_id"] for r in shipped[:6]])
    picture = tmp_path / shipped[1]["image"]  # of dev: what looks like it could not be told
    picture.rename(tmp_path / "away")
    with pytest.raises(DataError, match="line 2: image file .*does not exist"):
        fit(pairs, None, None, store, tmp_path / "index")
    fit(pairs, None, None, None, tmp_path / "texts")
    (tmp_path / "away").rename(picture)
    fit(pairs, None, None, store, tmp_path / "index")
    picture.unlink()
    apply(tmp_path / "index", pairs, None, tmp_path / "out.jsonl")
    assert any(record["similar_images"] for record in lines(tmp_path / "out.jsonl"))


def test_neighbours_tell_scores_and_sources(world, tmp_path):
    out = run(world, tmp_path / "out.jsonl", similar_texts=3, similar_images=2)
    found = read_rewrites(out, read_pairs(world / "pairs.jsonl"))
    for record in lines(tmp_path / "out.neighbours.jsonl"):
        rewrite = found[record["caption_id"]]
        assert [t["text"] for t in record["texts"]] == rewrite.similar_texts
        assert [i["image_id"] for i in record["images"]] == rewrite.similar_images
        for hits in (record["texts"], record["images"]):
            scores = [hit["score"] for hit in hits]
            assert scores == sorted(scores, reverse=True)
        assert all(t["source"] in ("made", "openclipart") and t["score"] >= 0.1 for t in record["texts"])
    assert max(len(r.similar_texts) for r in found.values()) == 3


def test_parts_joined_are_what_one_run_writes(world, tmp_path, stage):
    run(world, tmp_path / "whole.jsonl")
    for part in ("1/3", "2/3", "3/3"):
        options = ["--text-threshold", 0.1, "--image-threshold", 0, "--shard", part, "--output", tmp_path / "out.jsonl"]
        done = stage("retrieve", "apply", "--index", world / "index", "--pairs", world / "pairs.jsonl", *options)
        assert done.returncode == 0, done.stderr
    merge(tmp_path / "out.jsonl")
    for name in ("{}.jsonl", "{}.neighbours.jsonl", "{}.rejects.jsonl"):
        assert (tmp_path / name.format("out")).read_bytes() == (tmp_path / name.format("whole")).read_bytes()


def test_rewrites_keep_what_else_they_hold(world, tmp_path):
    pair = read_pairs(world / "pairs.jsonl")[0]
    old = {
        "caption_id": f"{pair.image_id}#0",
        "image_id": pair.image_id,
        "caption": pair.captions[0],
        "graph": {"k": 1},
    }
    old |= {
        "positives": [{"text": "so", "engine": "hand", "similarity": 0.9}],
        "similar_images": [],
        "similar_texts": [],
    }
    old |= {"negatives": [{"text": "no", "kind": "several", "changes": [{"from": "so", "to": "no", "span": [0, 2]}]}]}
    (tmp_path / "old.jsonl").write_text(json.dumps(old) + "\n")
    apply(world / "index", world / "pairs.jsonl", tmp_path / "old.jsonl", tmp_path / "new.jsonl", image_threshold=0)
    new = lines(tmp_path / "new.jsonl")[0]
    assert new["similar_images"] and {**new, "similar_images": [], "similar_texts": []} == old


PROGRAM = """
import sys, pathlib
from data_prep.retrieve import build
build.BATCH = 5
find = build.Finder.find
def slow(self, captions):
    import time
    time.sleep(0.3)
    return find(self, captions)
build.Finder.find = slow
world, out = map(pathlib.Path, sys.argv[1:])
build.apply(world / "index", world / "pairs.jsonl", None, out, text_threshold=0.1, image_threshold=0)
"""


def test_a_killed_run_goes_on_and_ends_the_same(world, tmp_path):
    out, progress = tmp_path / "out.jsonl", tmp_path / "out.progress.jsonl"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, world, out], cwd=ROOT, env=os.environ)
    deadline = time.monotonic() + 60
    while not (progress.exists() and progress.read_bytes().count(b"\n") > 10) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    done = progress.read_bytes()
    progress.write_bytes(done + b'{"caption_id": "torn')
    before = done.count(b"\n") - 1
    said = apply(world / "index", world / "pairs.jsonl", None, out, text_threshold=0.1, image_threshold=0)
    assert f"({80 - before} captions now" in said
    assert out.read_bytes() == run(world, tmp_path / "whole.jsonl").read_bytes() and not progress.exists()


def test_other_pairs_than_the_index_was_made_from_are_refused(world, tmp_path, write_pairs, shipped):
    pairs = write_pairs(tmp_path, shipped[:8])
    with pytest.raises(DataError, match="was not made from"):
        apply(world / "index", pairs, None, tmp_path / "out.jsonl")


def test_an_unfinished_and_a_damaged_index_are_refused(world, tmp_path):
    with pytest.raises(DataError, match="not a stage's manifest"):
        apply(tmp_path, world / "pairs.jsonl", None, tmp_path / "out.jsonl")
    (tmp_path / "manifest.json").write_bytes((world / "index" / "manifest.json").read_bytes())
    for name in ("texts.jsonl", "images.json"):
        with pytest.raises(DataError, match="is damaged"):
            apply(tmp_path, world / "pairs.jsonl", None, tmp_path / "out.jsonl")
        (tmp_path / name).write_bytes((world / "index" / name).read_bytes())
    (tmp_path / "images.faiss").write_bytes((world / "index" / "images.faiss").read_bytes()[:99])
    with pytest.raises(DataError, match="is damaged"):
        apply(tmp_path, world / "pairs.jsonl", None, tmp_path / "out.jsonl")


def test_nothing_to_retrieve_is_an_error(tmp_path, write_pairs, shipped):
    pairs = write_pairs(tmp_path, shipped[:4], ("dev", "test"))
    with pytest.raises(DataError, match="nothing usable"):
        fit(pairs, None, None, None, tmp_path / "index")


def test_the_order_of_hashes_does_not_matter(world, stage, tmp_path):
    lists = ("--pairs", world / "pairs.jsonl", "--texts", world / "texts.jsonl")
    found = []
    for seed in ("1", "2"):
        done = stage("retrieve", "fit", *lists, "--output", tmp_path / seed, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        files = {p.relative_to(tmp_path / seed): p.read_bytes() for p in (tmp_path / seed).rglob("*") if p.is_file()}
        found.append({name: content for name, content in files.items() if name.name != "manifest.json"})  # has seconds
    assert found[0] == found[1] and len(found[0]) >= 8
