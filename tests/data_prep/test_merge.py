"""--shard i/n and merge: the parts together are what one run makes, whatever n."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from data_prep.merge import merge
from data_prep.regions.commands import regions
from data_prep.rewrite.build import build as rewrite
from data_prep.stage import Shard, Work, read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import write_jsonl
from unimo.readers.feature_store import FeatureStore, RegionRecord, StoreWriter


@given(st.integers(0, 60), st.integers(1, 9))
def test_parts_in_order_are_the_list(length: int, count: int):
    items = list(range(length))
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", "1/2/3", "²/3"])
def test_other_parts_are_refused(text: str):
    shown = CliRunner().invoke(regions, ["extract", "--out", "x", "--shard", text])
    assert shown.exit_code == 2 and "is no part such as 2/8" in shown.output


@pytest.mark.parametrize("count", [2, 3])
def test_merged_rewrites_are_those_of_one_run(count: int, write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path, shipped[:20], ("train", "train", "dev"))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "rewrites.jsonl"
    rewrite(pairs, whole)
    for number in range(1, count + 1):
        rewrite(pairs, out, shard=Shard(number, count))
    merge(out)
    assert out.read_bytes() == whole.read_bytes()
    one, all_parts = read_manifest(whole), read_manifest(out)
    assert all_parts["counts"] == one["counts"] and all_parts["inputs"] == one["inputs"]
    assert all_parts["shard"] == "1/1"


def part_of_store(out: Path, shard: Shard, ids: list[str]) -> None:
    place = shard.place(out)
    work = Work("test", place, {"dim": 4}, [], shard)
    rng = np.random.default_rng(0)
    with StoreWriter(place, feature_dim=4, class_names=["x"], extractor={"name": "n", "version": "1"}) as writer:
        for image_id in shard.of(ids):
            boxes, features = rng.random((2, 4)), rng.random((2, 4))
            writer.add(RegionRecord(image_id, 9, 9, features, boxes, np.zeros(2, np.int64), np.ones(2)))
        work.reject(f"bad {shard}", "broken")
        work.finish({"images": len(writer)}, "images")


def test_merged_stores_hold_all_rows_in_order(tmp_path):
    out, ids = tmp_path / "regions", list("abcde")
    for number in (3, 1, 2):
        part_of_store(out, Shard(number, 3), ids)
    assert "3 parts, 5 images" in merge(out)
    assert "3 parts, 5 images" in merge(out)  # again, over its own result
    store = FeatureStore(out)
    assert store.ids == ids
    parts = [FeatureStore(Shard(number, 3).place(out)) for number in (1, 2, 3)]
    for image_id in ids:
        part = next(part for part in parts if image_id in part)
        assert np.array_equal(store.read(image_id).features, part.read(image_id).features)
    rejects = [json.loads(line)["id"] for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert rejects == ["bad 1/3", "bad 2/3", "bad 3/3"] and read_manifest(out)["rejects"] == {"broken": 3}


def test_parts_that_do_not_go_together_are_refused(tmp_path):
    out = tmp_path / "list.jsonl"

    def write(number: int, count: int, **settings: int) -> None:
        place = Shard(number, count).place(out)
        work = Work("test", place, settings, [], Shard(number, count))
        work.finish({"lines": write_jsonl(place, [{"n": number}])}, "lines")

    with pytest.raises(DataError, match="no part beside it"):
        merge(out)
    write(1, 2, seed=1)
    with pytest.raises(DataError, match=r"of 2 parts list\.2-of-2\.jsonl are missing"):
        merge(out)
    write(2, 2, seed=2)
    with pytest.raises(DataError, match="was made with other settings"):
        merge(out)
    write(1, 3, seed=2)
    with pytest.raises(DataError, match="parts of 2 and parts of 3"):
        merge(out)
    (tmp_path / "list.1-of-3.jsonl").unlink()
    (tmp_path / "list.1-of-2.manifest.json").unlink()
    with pytest.raises(DataError, match="is not a stage's manifest"):
        merge(out)


def test_a_run_in_which_nothing_is_usable_fails(tmp_path):
    work = Work("test", tmp_path / "out.jsonl", {}, [])
    work.reject("a", "broken", "byte 9")
    with pytest.raises(DataError, match="nothing usable, 1 records left out: a: broken .byte 9."):
        work.finish({"lines": 0}, "lines")
