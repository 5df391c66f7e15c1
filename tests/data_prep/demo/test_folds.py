"""Folds for cross-validation: what is tested in one is never learnt from there."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.demo.contents import SHIPPED
from data_prep.demo.folds import build, deal
from data_prep.stage import read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import read_images, read_pairs, read_rewrites, write_jsonl
from unimo.readers.pictures import read_picture


@st.composite
def items(draw):
    """Ids, which have captions, and group numbers of a set in any order; at least 6 groups have captions."""
    group = draw(st.lists(st.integers(0, 30), min_size=6, max_size=80)) + list(range(40, 46))
    captioned = draw(st.lists(st.booleans(), min_size=len(group), max_size=len(group)))
    captioned[-6:] = [True] * 6
    return [f"image-{n}" for n in draw(st.permutations(range(len(group))))], captioned, np.array(group)


@settings(deadline=None)
@given(items(), st.sampled_from([2, 3]), st.randoms(use_true_random=False))
def test_every_group_is_tested_once_and_never_crosses_splits(given_items, folds, random):
    ids, captioned, group = given_items
    dealt = deal(ids, captioned, group, folds)
    tested = [group[i] for uses in dealt for i, use in enumerate(uses) if use == "test"]
    assert sorted(tested) == sorted({g for g, has in zip(group, captioned) if has})
    for uses in dealt:
        for number in set(group):
            kinds = [use for use, g in zip(uses, group) if g == number]
            assert {*kinds} <= {"train", "unpaired"} or kinds.count("test") + kinds.count("dev") == 1
            assert not {*kinds} & {"test", "dev"} or {*kinds} <= {"test", "dev", "duplicate"}
        assert {"train", "dev", "test"} <= {*uses}
        assert all(has == (use in ("train", "dev", "test")) or use == "duplicate" for has, use in zip(captioned, uses))
    places = list(range(len(ids)))
    random.shuffle(places)
    again = deal([ids[i] for i in places], [captioned[i] for i in places], group[places], folds)
    assert [dict(zip(ids, uses)) for uses in dealt] == [dict(zip([ids[i] for i in places], uses)) for uses in again]


def test_galleries_are_alike_in_size_and_dev_is_bounded():
    dealt = deal([f"i{n}" for n in range(919)], [True] * 919, np.arange(919))
    assert [uses.count("test") for uses in dealt] == [115] * 7 + [114]
    assert {uses.count("dev") for uses in dealt} == {50}


@pytest.mark.parametrize("groups, folds", [(15, 8), (5, 3), (10, 1)])
def test_too_few_groups_are_one_error(groups, folds):
    with pytest.raises(DataError, match=f"{groups} groups of pictures with captions for {folds} folds; expected"):
        deal([f"i{n}" for n in range(groups)], [True] * groups, np.arange(groups), folds)


@pytest.fixture
def small(shipped, write_pairs, tmp_path):
    """24 drawings; the first is there once more, on more white and under other words, and without in images.jsonl."""
    pairs = write_pairs(tmp_path / "set", shipped[:24], ("train", "dev", "test"))
    folder, first = pairs.parent, shipped[0]
    copy = Image.new("RGB", (200, 160), "white")
    copy.paste(Image.fromarray(read_picture(folder / first["image"])), (60, 10))
    copy.save(folder / "copy.png")
    shutil.copy(SHIPPED / shipped[30]["image"], folder / "other.png")
    again = {"image_id": "copy", "image": "copy.png", "captions": ["Something else."], "split": "dev", "source": "copy"}
    write_jsonl(pairs, [*(p.model_dump() for p in read_pairs(pairs)), again])
    plain = [{"image_id": i, "image": f"{i}.png", "source": "x"} for i in ("copy", "other")]
    write_jsonl(folder / "images.jsonl", [{**record, "image_id": f"{record['image_id']}-plain"} for record in plain])
    return pairs, folder / "images.jsonl", first["image_id"]


def test_the_folds_of_real_pictures(stage, small, tmp_path):
    pairs, images, first = small
    done = stage("folds", "--pairs", pairs, "--images", images, "--folds", 4, "--output", tmp_path / "folds")
    assert done.returncode == 0, done.stderr
    tested = []
    for fold in range(4):
        folder = tmp_path / "folds" / str(fold)
        own = read_pairs(folder / "pairs.jsonl", pictures=True)
        assert read_picture(folder / own[0].image).ndim == 3
        split = {pair.image_id: pair.split for pair in own}
        plain = {image.image_id for image in read_images(folder / "images.jsonl", pictures=True)}
        tested += [image_id for image_id, name in split.items() if name == "test"]
        held_out = {split.get(first), split.get("copy")} & {"dev", "test"}
        assert split.keys() & {first, "copy"} == ({"copy"} if held_out else {first, "copy"})  # the first id of both
        assert plain == ({"other-plain"} if held_out else {"other-plain", "copy-plain"})
        assert read_manifest(folder)["rejects"] == (
            {"near-duplicate of a picture or caption in dev or test": 2} if held_out else {}
        )
    assert len(tested) == len(set(tested)) == 24


def test_rewrites_show_nothing_of_a_folds_dev_and_test(small, tmp_path):
    pairs, images, _ = small
    every = [(p.image_id, key, text) for p in read_pairs(pairs) for key, text in p.captions_by_id().items()]
    records = []
    for image_id, key, text in every:
        others = [{"kind": "tfidf", "text": t, "image_id": i, "caption_id": k} for i, k, t in every if i != image_id]
        swapped = {"kind": "object", "text": f"{text} Not.", "node": "x"}
        record = {"caption_id": key, "image_id": image_id, "caption": text, "graph": {}, "positives": []}
        record |= {"negatives": [*others, swapped], "similar_texts": [t for i, _, t in every if i != image_id]}
        record["similar_texts"].append("Quite another sentence.")
        records.append(record | {"similar_images": [*[i for i, *_ in every if i != image_id], "other-plain"]})
    write_jsonl(pairs.parent / "rewrites.jsonl", records)
    build(pairs, images, pairs.parent / "rewrites.jsonl", tmp_path / "folds", 4)
    for fold in "0123":
        own = read_pairs(tmp_path / "folds" / fold / "pairs.jsonl")
        found = read_rewrites(tmp_path / "folds" / fold / "rewrites.jsonl", own)
        whole = read_rewrites(pairs.parent / "rewrites.jsonl", own)  # it may be used as it is, for what it shows
        assert {*found} == {*whole} == {key for pair in own for key in pair.captions_by_id()}
        same = {name: {p.image_id for p in own if p.split == name} for name in ("train", "dev", "test")}
        trained = {text for p in own if p.split == "train" for text in p.captions}
        for pair in own:
            rewrite = found[f"{pair.image_id}#0"]
            kinds = [n.kind for n in rewrite.negatives]
            assert kinds.count("tfidf") == len(same[pair.split]) - 1 and kinds.count("object") == 1
            named = {n.model_extra["image_id"] for n in rewrite.negatives if n.kind == "tfidf"}
            assert named == same[pair.split] - {pair.image_id}
            if pair.split == "train":
                assert {*rewrite.similar_images} == same["train"] - {pair.image_id} | {"other-plain"}
                assert {*rewrite.similar_texts} == trained - {*pair.captions} | {"Quite another sentence."}
            else:
                assert rewrite.similar_images == rewrite.similar_texts == []


def test_a_second_run_and_another_order_give_the_same_splits(small, tmp_path):
    pairs, images, _ = small
    build(pairs, images, None, tmp_path / "a", 4)
    write_jsonl(pairs, read_pairs(pairs)[::-1])
    build(pairs, images, None, tmp_path / "b", 4)
    for fold in "0123":
        one, other = (read_pairs(tmp_path / run / fold / "pairs.jsonl") for run in "ab")
        assert one == other[::-1]


def test_pictures_that_cannot_be_decoded_are_left_out_of_every_fold(small, tmp_path):
    pairs, _, first = small
    (pairs.parent / "copy.png").write_bytes(b"no picture")
    build(pairs, None, None, tmp_path / "folds", 4)
    for fold in "0123":
        assert read_manifest(tmp_path / "folds" / fold)["rejects"] == {"picture cannot be decoded": 1}
        assert first in {pair.image_id for pair in read_pairs(tmp_path / "folds" / fold / "pairs.jsonl")}


def test_a_fold_is_not_written_over_what_is_read(small):
    pairs, _, _ = small
    inside = pairs.parent / "0" / "pairs.jsonl"
    inside.parent.mkdir()
    write_jsonl(inside, [p.model_copy(update={"image": f"../{p.image}"}) for p in read_pairs(pairs)])
    with pytest.raises(DataError, match="is what is read and what would be written"):
        build(inside, None, None, pairs.parent, 4)
