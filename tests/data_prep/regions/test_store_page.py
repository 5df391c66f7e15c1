import re

import numpy as np
import pytest

from data_prep.demo.contents import SHIPPED
from data_prep.regions.store_page import inspect
from unimo.errors import DataError
from unimo.readers.feature_store import FeatureStore, RegionRecord, StoreWriter
from unimo.readers.pictures import read_picture

CLASSES = ["background", "tiger <b>", "car"]


@pytest.fixture
def store(shipped, tmp_path):
    """Three drawings with two boxes each; width and height of the third are swapped, so that a box leaves it."""
    with StoreWriter(
        tmp_path / "store", feature_dim=4, class_names=CLASSES, extractor={"name": "x", "version": "1"}
    ) as writer:
        wide = [r for r in shipped if np.subtract(*read_picture(SHIPPED / r["image"]).shape[:2]) < -60][:3]
        for i, record in enumerate(wide):
            height, width = read_picture(SHIPPED / record["image"]).shape[:2]
            boxes = np.float32([[0, 0, width, height], [10, 20, height / 2, height / 2]])
            size = (height, width) if i == 2 else (width, height)
            more = (np.full((2, 4), 3), boxes, np.array([1, 2]), np.float32([0.9, 0.25]))
            writer.add(RegionRecord(record["image_id"], *size, *more))
    return FeatureStore(tmp_path / "store"), wide


def boxes_of(html: str) -> list[tuple[float, ...]]:
    numbers = re.findall(r'<rect x="([\d.-]+)" y="([\d.-]+)" width="([\d.]+)" height="([\d.]+)"', html)
    return [tuple(map(float, n)) for n in numbers]


def test_the_page_draws_boxes_and_labels_over_the_pictures(store, write_pairs, tmp_path):
    store, records = store
    pairs = write_pairs(tmp_path / "in", records)
    said = inspect(store.path, pairs, None, tmp_path / "page.html", count=24, seed=0)
    html = (tmp_path / "page.html").read_text()
    assert html.count("<svg") == html.count("data:image/jpeg;base64,") == 3
    assert html.count("tiger &lt;b&gt; 0.90") == html.count("car 0.25") == 3 and "tiger <b>" not in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    for image_id in store.ids:
        record = store.read(image_id)
        scale = 360 / max(record.width, record.height)
        for x1, y1, x2, y2 in (record.boxes * scale).tolist():
            drawn = np.array(boxes_of(html))
            assert (np.abs(drawn - [x1, y1, x2 - x1, y2 - y1]) < 0.11).all(axis=1).any()
    shown = "\n".join(said)
    assert "images: 3" in shown and "boxes an image: 2 to 2, median 2" in shown
    assert "boxes outside their image: 1 (16.7%), in 1 images" in shown and html.count("1 outside") == 1
    assert "mean norm of features: 6.00" in shown and "tiger <b> (3), car (3)" in shown


def test_without_pictures_the_canvas_is_empty(stage, store):
    store, _ = store
    done = stage("regions", "inspect", store.path, "--count", 2)
    html = store.path.with_name("store.html").read_text()
    assert done.returncode == 0 and "2 images drawn" in done.stdout
    assert html.count("<svg") == html.count("(no picture)") == 2 and "<image" not in html and len(boxes_of(html)) == 4


def test_a_missing_picture_leaves_its_canvas_empty(store, write_pairs, tmp_path):
    store, records = store
    pairs = write_pairs(tmp_path / "in", records)
    (tmp_path / "in" / records[0]["image"]).unlink()
    inspect(store.path, pairs, None, tmp_path / "page.html", count=24, seed=0)
    html = (tmp_path / "page.html").read_text()
    assert html.count("<svg") == 3 and html.count("<image") == 2 and html.count("(no picture)") == 1


def test_the_seed_decides_which_images_are_drawn(store, tmp_path):
    def drawn(seed: int) -> list[str]:
        inspect(store[0].path, None, None, tmp_path / "page.html", count=1, seed=seed)
        return re.findall(r'aria-label="([^"]+)"', (tmp_path / "page.html").read_text())

    assert drawn(3) == drawn(3) and len({drawn(seed)[0] for seed in range(20)}) == 3


def test_no_store_is_one_clear_error(tmp_path):
    with pytest.raises(DataError, match="no feature store"):
        inspect(tmp_path / "none", None, None, tmp_path / "page.html", count=1, seed=0)


def test_verify_names_what_changed(store, stage):
    store, _ = store
    done = stage("regions", "verify", store.path)
    assert done.returncode == 0 and "3 images in 1 shards, all as they were written" in done.stdout
    shard = store.path / "shard_00000.safetensors"
    *content, last = shard.read_bytes()
    shard.write_bytes(bytes([*content, last ^ 1]))
    done = stage("regions", "verify", store.path)
    assert done.returncode == 2 and "shard_00000.safetensors: content changed since it was written" in done.stderr
