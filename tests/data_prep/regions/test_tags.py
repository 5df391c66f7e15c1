import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.regions.tags import write_tags
from unimo.errors import DataError
from unimo.readers.feature_store import RegionRecord, StoreWriter
from unimo.readers.tokenizer import load_tokenizer

BPE = Path(__file__).parents[2] / "fixtures" / "bpe"
CLASSES = ["background", "dog", "traffic light", "tree"]


def make_store(path: Path, images: dict[str, list[tuple[int, float]]]) -> Path:
    """Image id -> class and score of each region."""
    extractor = {"name": "x", "version": "1"}
    with StoreWriter(path, feature_dim=2, class_names=CLASSES, extractor=extractor) as writer:
        for image_id, regions in images.items():
            n = len(regions)
            classes, scores = np.array(regions, np.float32).T
            writer.add(RegionRecord(image_id, 9, 9, np.zeros((n, 2)), np.zeros((n, 4)), classes, scores))
    return path


def test_a_line_is_id_tokens_zeros_and_positions_from_two(tmp_path):
    """Four columns between semicolons, numbers between blanks, COCO's images by number."""
    images = {"COCO_val2014_000000391895": [(1, 0.5), (0, 0.9), (2, 0.8), (3, 0.1), (1, 0.4)], "7": [(3, 0.35)]}
    store, out = make_store(tmp_path / "store", images), tmp_path / "coco_object_0.35_tot.ids"
    write_tags(store, out, BPE, threshold=0.35)
    encode = load_tokenizer(BPE).encode
    first, second = encode("traffic light dog"), encode("tree")
    expected = ""
    for image, ids in (("391895", first), ("7", second)):
        columns = (ids, [0] * len(ids), list(range(2, 2 + len(ids))))
        expected += ";".join([image, *(" ".join(map(str, column)) for column in columns)]) + "\n"
    assert out.read_bytes() == expected.encode()


def test_the_bytes_of_a_line(tmp_path):
    write_tags(make_store(tmp_path / "store", {"7": [(3, 0.9)]}), tmp_path / "x.ids", BPE, threshold=0.35)
    assert (tmp_path / "x.ids").read_bytes() == b"7;566 332;0 0;2 3\n"


def test_an_image_without_an_object_above_the_threshold_keeps_its_best(tmp_path):
    store = make_store(tmp_path / "store", {"a": [(0, 0.9), (3, 0.1), (1, 0.2)]})
    write_tags(store, tmp_path / "x.ids", BPE, threshold=0.5)
    tokens = (tmp_path / "x.ids").read_text().split(";")[1]
    assert load_tokenizer(BPE).decode([int(i) for i in tokens.split()]) == "dog"


def test_images_that_cannot_be_written_are_listed(tmp_path):
    images = {"a": [(1, 0.9)], "grid": [(0, 1.0)], "b;c": [(1, 0.9)], "d e": [(1, 0.9)]}
    images |= {"COCO_train2014_000000000005": [(1, 0.9)], "5": [(1, 0.9)]}
    write_tags(make_store(tmp_path / "store", images), tmp_path / "x.ids", BPE, threshold=0.35)
    assert [line.split(";")[0] for line in (tmp_path / "x.ids").read_text().splitlines()] == ["a", "5"]
    listed = [json.loads(line) for line in (tmp_path / "x.rejects.jsonl").read_text().splitlines()]
    assert [r["id"] for r in listed] == ["grid", "b;c", "d e", "5"]


def test_a_store_of_background_is_an_error(tmp_path):
    with pytest.raises(DataError, match="nothing usable"):
        write_tags(make_store(tmp_path / "store", {"a": [(0, 1.0)]}), tmp_path / "x.ids", BPE, threshold=0.35)


def test_the_command(stage, tmp_path):
    store = make_store(tmp_path / "store", {"a": [(1, 0.9)]})
    done = stage("regions", "tags", store, "--tokenizer", BPE, "--output", tmp_path / "x.ids")
    assert done.returncode == 0 and (tmp_path / "x.ids").read_text().startswith("a;"), done.stderr
    done = stage("regions", "tags", store, "--tokenizer", tmp_path, "--out", tmp_path / "y.ids")
    assert done.returncode == 2 and "no tokenizer" in done.stderr and not (tmp_path / "y.ids").exists()
