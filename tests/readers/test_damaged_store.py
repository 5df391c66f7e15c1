"""Whatever of a feature store was damaged, lost or changed is one error, also where an earlier version wrote it."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash
from small_stores import DIM, RECORDS, record, writer

from unimo.errors import DataError
from unimo.readers.feature_store import IMAGES_SUM, FeatureStore
from unimo.storage.mapped_shards import FAST, without_checksums, write_index


def edit(path: Path, **changes) -> None:
    """Change what an index says, as if a program had written it so."""
    header, images = json.loads(path.read_text()) | changes, path.with_name("images.jsonl").read_bytes()
    del header[FAST]
    write_index(path.parent, header | {IMAGES_SUM: xxhash.xxh3_128_hexdigest(images[: header["images_bytes"]])})


def rewrite_shard(store: Path, **tensors: np.ndarray) -> None:
    """Replace arrays of a shard and tell the index its new size, so that only the content is wrong."""
    from safetensors.numpy import load_file, save_file

    file = store / "shard_00001.safetensors"
    save_file(load_file(file) | tensors, file)
    shards = json.loads((store / "index.json").read_text())["shards"]
    shards[1]["bytes"] = file.stat().st_size
    edit(store / "index.json", shards=shards)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: (s / "index.json").unlink(), "no feature store at .*it has no index.json"),
        (lambda s: (s / "index.json").write_text("{"), "is not the index of a feature store"),
        (lambda s: (s / "index.json").write_text("[]"), "is not the index of a feature store"),
        (
            lambda s: edit(s / "index.json", version=2),
            "'unimo-features' version 2 .* expected 'unimo-features' up to version 1",
        ),
        (lambda s: edit(s / "index.json", format="lmdb"), "is 'lmdb' version 1"),
        (
            lambda s: (s / "index.json").write_text('{"format": "unimo-features", "version": 1}'),
            "with the keys format, version",
        ),
        (lambda s: edit(s / "index.json", shards=[3]), "an entry of its shards is none"),
        (lambda s: edit(s / "index.json", shards=[{"file": "x", "bytes": 1, "sha256": ""}]), "an entry of its shards"),
        (lambda s: (s / "images.jsonl").unlink(), "images.jsonl is missing or damaged"),
        (lambda s: os.truncate(s / "images.jsonl", 100), "images.jsonl is missing or damaged"),
        (lambda s: (s / "images.jsonl").write_text(""), "holds 0 images, index.json says 8"),
        (lambda s: (s / "shard_00001.safetensors").unlink(), "shard_00001.safetensors is missing"),
        (lambda s: os.truncate(s / "shard_00001.safetensors", 50), "has 50 bytes, the index says"),
        (
            lambda s: rewrite_shard(s, boxes=np.zeros((2, 4), np.float32)),
            r"boxes is F32 \[2, 4\], the index says float32 \[17, 4\]",
        ),
        (lambda s: rewrite_shard(s, features=np.zeros((17, DIM), np.float32)), "features is F32 .* says float16"),
    ],
)
def test_a_damaged_store_is_one_error(store: Path, damage, message: str):
    assert FeatureStore(store).header["shards"][1]["rows"] == 17
    damage(store)
    with pytest.raises(DataError, match=message):
        opened = FeatureStore(store)
        for image_id in opened.ids:
            opened.read(image_id)


def test_a_shard_with_a_damaged_head(store: Path):
    file = store / "shard_00001.safetensors"
    content = bytearray(file.read_bytes())
    for bad in (b"\xff" * 8, bytes(8), b"\x10" + bytes(7)):
        content[:8] = bad
        file.write_bytes(content)
        with pytest.raises(DataError, match="is not a shard of this store"):
            FeatureStore(store).read("image 6")


def test_index_rows_outside_a_shard(store: Path):
    lines = (store / "images.jsonl").read_text()
    for old, new in (('"count": 9', '"count": 10'), ('"shard": 1', '"shard": 9')):
        changed = lines.replace(old, new)
        (store / "images.jsonl").write_text(changed)
        edit(store / "index.json", images_bytes=len(changed))
        with pytest.raises(DataError, match="points to"):
            FeatureStore(store)


def replace_in(file: Path, old: str, new: str) -> None:
    content = file.read_text()
    assert old in content
    file.write_text(content.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("index.json", '"dog"', '"dig"'),  # a class
        ("index.json", '"hand"', '"hanf"'),  # the extractor
        ("index.json", '"xxh3_128": "', '"xxh3_128": "0'),
        ("index.json", '"images_xxh3_128"', '"images_xxh3_129"'),
        ("images.jsonl", '"width": 640', '"width": 641'),
        ("images.jsonl", '"id": "image 3"', '"id": "image 9"'),
    ],
)
def test_a_letter_or_digit_that_changed_is_found_when_the_store_is_opened(store: Path, file: str, old: str, new: str):
    replace_in(store / file, old, new)
    for opening in (FeatureStore, writer):
        with pytest.raises(DataError, match=f"{file}: content changed since it was written .*; restore it from a copy"):
            opening(store)


def test_a_checksum_whose_key_was_damaged_is_missed(store: Path):
    header = json.loads((store / "index.json").read_text())
    (store / "index.json").write_text(json.dumps(header | {"xxh3_129": header.pop(FAST), "class_names": ["a"] * 3}))
    with pytest.raises(DataError, match="index.json: content changed since it was written"):
        FeatureStore(store)


def test_images_that_lost_the_end_of_their_last_line(store: Path):
    os.truncate(store / "images.jsonl", (store / "images.jsonl").stat().st_size - 1)
    with pytest.raises(DataError, match=r"images.jsonl has \d+ bytes, index.json says \d+"):
        FeatureStore(store)


def as_before(store: Path) -> Path:
    """The store as versions without fast checksums wrote it."""
    header = without_checksums(json.loads((store / "index.json").read_text()))
    (store / "index.json").write_text(json.dumps(header, indent=1))
    return store


def test_a_store_of_an_earlier_version(store: Path, tmp_path: Path):
    """It opens, has the fingerprint of an equal store of today, its shards are verified, and more can be added."""
    before = as_before(Path(shutil.copytree(store, tmp_path / "before")))
    assert "xxh3" not in (before / "index.json").read_text()
    old, new = FeatureStore(before), FeatureStore(store)
    shown = json.dumps([json.loads((before / "index.json").read_text()), old.ids, old._table.tolist()], sort_keys=True)
    assert old.fingerprint == new.fingerprint == hashlib.sha256(shown.encode()).hexdigest()
    old.verify()
    with writer(before) as more:
        more.add(record("new", 2))
    grown = FeatureStore(before)
    grown.verify()
    assert [FAST in shard for shard in grown.header["shards"]] == [False] * len(old.header["shards"]) + [True]
    replace_in(before / "images.jsonl", '"width": 640', '"width": 641')
    with pytest.raises(DataError, match="images.jsonl: content changed"):
        FeatureStore(before)
    flip_last_byte(store / "shard_00001.safetensors")
    with pytest.raises(DataError, match="shard_00001.safetensors: content changed since it was written"):
        FeatureStore(as_before(store)).verify()


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_shard_is_verified_when_it_is_first_read(store: Path):
    flip_last_byte(store / "shard_00001.safetensors")
    opened = FeatureStore(store)
    shards = [opened._table[opened._row(r.image_id), 2] for r in RECORDS]
    assert opened.read(RECORDS[shards.index(0)].image_id).width == 640
    for _ in range(2):
        with pytest.raises(DataError, match="shard_00001.safetensors: content changed since it was written"):
            opened.read(RECORDS[shards.index(1)].image_id)


def test_a_shard_that_is_cut_while_it_is_read_is_an_error_and_no_signal(store: Path):
    opened = FeatureStore(store)
    first = RECORDS[0].image_id
    assert opened.read(first).features.shape == (3, DIM)
    os.truncate(store / "shard_00000.safetensors", 0)
    with pytest.raises(DataError, match="shard_00000.safetensors has 0 bytes, the index says"):
        opened.read(first)


def test_verify_lists_every_bad_shard(store: Path, tmp_path: Path):
    shutil.copytree(store, tmp_path / "copy")
    store = tmp_path / "copy"
    (store / "shard_00000.safetensors").unlink()
    flip_last_byte(store / "shard_00001.safetensors")
    with pytest.raises(DataError) as error:
        FeatureStore(store).verify()
    assert "2 bad shard(s)" in str(error.value)
    assert "shard_00000.safetensors is missing" in str(error.value)
    assert "shard_00001.safetensors: content changed since it was written" in str(error.value)
