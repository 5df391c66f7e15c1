"""Pictures as regions of one or several stores, and as pixels prepared as UNIMO-2's release prepares them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from unimo.errors import ConfigError, DataError
from unimo.models.oner import OnerConfig
from unimo.models.unimo import UnimoConfig
from unimo.models.unimo2 import Unimo2Config
from unimo.readers.annotations import Image, read_pairs
from unimo.readers.captions import Captions
from unimo.readers.feature_store import FeatureStore, RegionRecord, StoreWriter
from unimo.readers.images import PixelSettings, RegionImages, open_images, open_store, trainable
from unimo.readers.pixels import FolderPictures, PixelImages
from unimo.readers.tokenizer import load_tokenizer

SIZES = UnimoConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_embedding_size=4)
EXTRACTOR = {"name": "made", "version": "1"}


def record(image_id: str, n: int) -> RegionRecord:
    rng = np.random.default_rng([n, len(image_id)])
    features = rng.standard_normal((n, 4)).astype(np.float16)
    boxes = np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4).astype(np.float32) * 50
    return RegionRecord(image_id, 60, 50, features, boxes, np.zeros(n, np.int64), np.ones(n, np.float32))


def write(folder: Path, extractor: dict = EXTRACTOR, dim: int = 4, **counts: int) -> Path:
    with StoreWriter(folder, feature_dim=dim, class_names=["background", "x"], extractor=extractor) as store:
        for image_id, n in counts.items():
            made = record(image_id, n)
            store.add(made if dim == 4 else RegionRecord(**{**vars(made), "features": np.zeros((n, dim), np.float16)}))
    return folder


def test_several_stores_are_one_set_of_pictures(tmp_path):
    parts = [write(tmp_path / "a", one=3, two=1), write(tmp_path / "b", three=5)]
    whole = RegionImages([FeatureStore(write(tmp_path / "whole", one=3, two=1, three=5))], max_regions=4)
    both = RegionImages([FeatureStore(part) for part in parts], max_regions=4)
    asked = ["three", "one", "three", "two"]
    assert both.ids == whole.ids == ["one", "two", "three"]
    assert both.positions(asked).tolist() == whole.positions(asked).tolist() == [5, 4, 5, 2]
    for name, array in whole.collate(asked).items():
        np.testing.assert_array_equal(both.collate(asked)[name], array)
    assert both.key == "regions" and both.fingerprint != whole.fingerprint
    with pytest.raises(DataError, match="image 'four' is in none of the feature stores .*a, .*b; extract its regions"):
        both.read("four")
    with pytest.raises(DataError, match="image 'four' is not in feature store"):
        whole.positions(["four"])


def test_training_leaves_out_what_a_store_rejected(tmp_path, capsys):
    store = write(tmp_path / "a", one=3, two=1)
    images = RegionImages([FeatureStore(store)], max_regions=4)
    records = [Image(image_id=name, image=f"{name}.png", source="made") for name in ("one", "two", "three", "four")]
    assert trainable(records[:2], images) == records[:2]
    with pytest.raises(DataError, match="image 'three' is not in feature store .*a: 2 of 4 pictures have regions"):
        trainable(records, images)
    (store / "rejects.jsonl").write_text('{"id": "three", "reason": "picture cannot be decoded", "detail": ""}\n')
    with pytest.raises(DataError, match="image 'four' is not in feature store .*a: 2 of 3 pictures have regions"):
        trainable(records, images)
    assert capsys.readouterr().err == ""
    assert trainable(records[:3], images) == records[:2]
    assert f"notice: 2 of 3 pictures have regions in {store}; the others, which were" in capsys.readouterr().err
    with pytest.raises(DataError, match="image 'three' is not in feature store .*a: 0 of 1"):
        trainable(records[2:3], images)
    (store / "rejects.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match="rejects.jsonl is damaged"):
        trainable(records, images)


def test_stores_that_do_not_go_together(tmp_path):
    base = FeatureStore(write(tmp_path / "a", one=3, two=1))
    with pytest.raises(ConfigError, match="differ in extractor; the regions that a model reads"):
        RegionImages([base, FeatureStore(write(tmp_path / "b", {"name": "made", "version": "2"}, three=1))], 9)
    other_order = EXTRACTOR | {"size_order_swapped": True, "ids": "flickr30k"}  # the release's train and test files
    RegionImages([base, FeatureStore(write(tmp_path / "e", other_order, four=1))], 9)
    with pytest.raises(ConfigError, match="differ in feature size"):
        RegionImages([base, FeatureStore(write(tmp_path / "c", dim=6, three=1))], 9)
    with pytest.raises(DataError, match=r"1 image\(s\) are in two feature stores \('two' in .*a and .*d\)"):
        RegionImages([base, FeatureStore(write(tmp_path / "d", two=1, three=2))], 9)


def test_what_a_model_reads_decides_what_is_opened(tmp_path, small_world):
    pairs = read_pairs(small_world / "pairs.jsonl", "test")
    store = str(write(tmp_path / "a", **{pair.image_id.replace("-", "_"): 1 for pair in pairs}))
    assert open_images(pairs, small_world, (store,), SIZES, 5).key == "regions"
    with pytest.raises(ConfigError, match="reads regions: name the feature store"):
        open_images(pairs, small_world, (), SIZES, 5)
    with pytest.raises(ConfigError, match="has 4-d features, the model reads 8-d"):
        open_store(store, SIZES.model_copy(update={"image_embedding_size": 8}))
    for config, positions in ((Unimo2Config(image_size=64), 17), (OnerConfig(image_size=32, resolution=8), 17)):
        images = open_images(pairs, small_world, (), config, 5)
        assert images.key == "pixels" and images.positions(["a", "b"]).tolist() == [positions] * 2
        with pytest.raises(ConfigError, match="reads pixels, not the regions"):
            open_store(store, config)
        with pytest.raises(ConfigError, match="reads pixels, not regions: leave out the feature store"):
            open_images(pairs, small_world, (store,), config, 5)
    with pytest.raises(DataError, match=r"6 picture file\(s\) do not exist, such as .*red-dog.png"):
        open_images(pairs, tmp_path, (), OnerConfig(), 5)


@pytest.fixture
def drawn(tmp_path) -> dict[str, Path]:
    """Pictures of other modes and sizes, as files that keep every value."""
    rng = np.random.default_rng(3)
    grey, colour = rng.integers(0, 256, (40, 70), np.uint8), rng.integers(0, 256, (48, 30, 4), np.uint8)
    pictures = {"grey": Picture.fromarray(grey), "alpha": Picture.fromarray(colour, "RGBA")}
    pictures |= {"exact": Picture.fromarray(colour[:32, :, :3].repeat(2, 1)[:, :32])}
    pictures["palette"] = pictures["exact"].quantize(16)
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
    turned = pictures["exact"].resize((32, 20))
    exif = Picture.Exif()
    exif[0x0112] = 6  # orientation: rotate; the release does not look
    turned.save(tmp_path / "turned.png", exif=exif)
    return {name: tmp_path / f"{name}.png" for name in [*pictures, "turned"]}


def test_pixels_are_prepared_as_in_the_release(drawn):
    """RGB, alpha dropped without compositing, no turn by EXIF, squashed by Pillow's bicubic, then -1..1."""
    images = PixelImages(FolderPictures(drawn), side=32, patch=8)
    batch = images.collate(list(drawn))["images"]
    assert batch.shape == (5, 3, 32, 32) and batch.dtype == np.float32
    for name, got in zip(drawn, batch):
        with Picture.open(drawn[name]) as opened:
            wanted = opened.convert("RGB").resize((32, 32), Picture.BICUBIC)
        values = (np.asarray(wanted, np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)
        np.testing.assert_array_equal(got.transpose(1, 2, 0), values, err_msg=name)
    untouched = np.asarray(Picture.open(drawn["exact"]))
    np.testing.assert_array_equal(np.rint((batch[2].transpose(1, 2, 0) * 0.5 + 0.5) * 255), untouched)


def test_pictures_that_cannot_be_read_are_named(drawn, tmp_path):
    (tmp_path / "cut.png").write_bytes(drawn["alpha"].read_bytes()[:200])
    (tmp_path / "text.png").write_text("no picture")
    files = {"cut": tmp_path / "cut.png", "text": tmp_path / "text.png"}
    images = PixelImages(FolderPictures(files), side=32, patch=8)
    for image_id in files:
        with pytest.raises(DataError, match=f"image '{image_id}' cannot be decoded as a picture"):
            images.collate([image_id])
    with pytest.raises(DataError, match="image 'other' is not among the 2 pictures"):
        images.collate(["other"])


def test_a_side_of_its_own(small_world):
    """Other than the one that the model was pre-trained at; a model reads whole patches only."""
    pairs = read_pairs(small_world / "pairs.jsonl", "test")
    config = OnerConfig(image_size=32, resolution=8)
    images = open_images(pairs, small_world, (), config, 5, PixelSettings(side=48))
    ids = [pair.image_id for pair in pairs]
    assert images.collate(ids)["images"].shape == (len(ids), 3, 48, 48)
    assert images.positions(ids).tolist() == [37] * len(ids)
    with pytest.raises(ConfigError, match=r"side \(50\) is no multiple of a patch of this model, resolution \(8\)"):
        open_images(pairs, small_world, (), config, 5, PixelSettings(side=50))


def test_captions_are_flattened_in_order(small_world):
    pairs, tokenizer = read_pairs(small_world / "pairs.jsonl", "test"), load_tokenizer(small_world / "vocabulary")
    found, plain = Captions.of(pairs, tokenizer, max_tokens=6), Captions.of(pairs)
    assert found.ids == plain.ids == [f"{p.image_id}#{k}" for p in pairs for k in (0, 1)]
    assert found.texts == [text for pair in pairs for text in pair.captions] and plain.sequences == []
    assert found.image_ids == [pair.image_id for pair in found.pairs] and found.rows.tolist() == [
        row for row in range(len(pairs)) for _ in (0, 1)
    ]
    assert all(s[0] == tokenizer.cls_id and s[-1] == tokenizer.sep_id and len(s) <= 6 for s in found.sequences)
