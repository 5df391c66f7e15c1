"""Public features and a list made by `corpora pairs` call a picture the same."""

import base64
import json
from pathlib import Path

import cv2
import lmdb
import msgpack
import msgpack_numpy
import numpy as np
import pytest

from data_prep.corpora.pairs import build
from data_prep.regions.importers.import_store import Choices, import_features
from data_prep.regions.importers.listed_ids import listed_id
from data_prep.stage import WHOLE
from unimo.errors import DataError
from unimo.readers.annotations import read_pairs
from unimo.readers.feature_store import FeatureStore

NUMBERS = [391, 5005]
FEATURES = np.ones((2, 4), np.float32)
SHARES = np.array([[0.1, 0.2, 0.9, 0.8], [0, 0, 0.5, 0.5]], np.float32)
PIXELS = SHARES * 100
LOCATIONS = np.hstack([SHARES, SHARES[:, 2:] - SHARES[:, :2]])


def b64(array: np.ndarray) -> str:
    return base64.b64encode(array.astype(np.float32).tobytes()).decode()


def write(form: str, folder: Path) -> Path:
    """The two pictures as the authors of the format spell their ids."""
    folder.mkdir()
    if form == "butd":
        (folder / "x.tsv").write_text("".join(f"{n}\t100\t100\t2\t{b64(PIXELS)}\t{b64(FEATURES)}\n" for n in NUMBERS))
        return folder / "x.tsv"
    if form == "uniter":
        with lmdb.open(str(folder), map_size=1 << 20) as database, database.begin(write=True) as transaction:
            for n in NUMBERS:
                record = msgpack.packb({"features": FEATURES, "norm_bb": LOCATIONS}, default=msgpack_numpy.encode)
                transaction.put(f"coco_val2014_{n:012}.npz".encode(), record)
    if form == "npz":
        for n in NUMBERS:
            name = folder / f"COCO_val2014_{n:012}.npz"
            np.savez(name, x=FEATURES, bbox=PIXELS, image_w=100, image_h=100)
    if form == "vinvl":
        rows = b64(np.hstack([FEATURES, LOCATIONS]))
        (folder / "features.tsv").write_text("".join(f"{n}\t2\t{rows}\n" for n in NUMBERS))
        things = [{"class": "hut", "conf": 0.5, "rect": rect.tolist()} for rect in PIXELS]
        whole = json.dumps({"image_w": 100, "image_h": 100, "objects": things})
        damaged = "7\t" + "[" * 200_000  # deep JSON costs only its own picture
        (folder / "predictions.tsv").write_text("".join(f"{n}\t{whole}\n" for n in NUMBERS) + damaged + "\n")
    return folder


@pytest.mark.parametrize("form", ["butd", "uniter", "npz", "vinvl"])
def test_a_public_list_and_public_features_join(form, tmp_path):
    names = [f"COCO_val2014_{n:012}.jpg" for n in NUMBERS]
    (tmp_path / "img").mkdir()
    for place, name in enumerate(names):
        cv2.imwrite(str(tmp_path / "img" / name), np.full((40, 40, 3), 90 * place, np.uint8))
    content = {
        "images": [{"id": n, "file_name": name} for n, name in zip(NUMBERS, names)],
        "annotations": [{"id": n, "image_id": n, "caption": f"A hut by road {n}."} for n in NUMBERS],
    }
    (tmp_path / "captions_val2014.json").write_text(json.dumps(content))
    build("coco", [tmp_path / "captions_val2014.json"], tmp_path / "coco", images=tmp_path / "img")
    source = write(form, tmp_path / "source")
    import_features(form, source, tmp_path / "store", Choices(feature_dim=4, ids="coco"), WHOLE)
    pairs = read_pairs(tmp_path / "coco" / "pairs.jsonl")
    assert {pair.image_id for pair in pairs} == set(FeatureStore(tmp_path / "store").ids) == {"coco-391", "coco-5005"}


@pytest.mark.parametrize(
    ("spelt", "name", "expected"),
    [
        ("coco-17", "coco", "coco-17"),
        ("val/COCO_train2014_000000000017", "coco", "coco-17"),
        ("coco_test2015_000000000017.npz", "coco", "coco-17"),
        ("000000000017", "coco", "coco-17"),
        ("1007129816", "flickr30k", "flickr30k-1007129816"),
        ("flickr30k_001007129816.npz", "flickr30k", "flickr30k-1007129816"),
        ("1007129816.jpg", "flickr30k", "flickr30k-1007129816"),
    ],
)
def test_spellings(spelt, name, expected):
    assert listed_id(spelt, name) == expected


@pytest.mark.parametrize("spelt", ["", "coco", "flickr30k-17", "genome_17", "17 b"])
def test_an_id_that_is_spelt_otherwise_is_refused(spelt):
    with pytest.raises(DataError, match="none of coco, expected"):
        listed_id(spelt, "coco")
