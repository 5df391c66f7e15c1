"""Pictures in folders of classes, and ImageNet's flat val with the development kit: examples, pictures, each error."""

from pathlib import Path

import numpy as np
import pytest
from converted import lines
from scipy.io import savemat

from data_prep.benchmarks.class_folders import convert
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import read_images

FISH, KIT_FOX = "n01440764", "n02119789"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def train(tmp_path):
    root = tmp_path / "ILSVRC2012"
    touch(*(root / "train" / wnid / f"{wnid}_{k}.JPEG" for wnid in (KIT_FOX, FISH) for k in (10026, 10027)))
    return root


@pytest.fixture
def flat(train, tmp_path):
    touch(*(train / "val" / f"ILSVRC2012_val_0000000{k}.JPEG" for k in (2, 1, 3)))
    (tmp_path / "truth.txt").write_text("1\n2\n1\n")
    return train


@pytest.fixture
def meta(tmp_path):
    """The development kit's table of synsets, with one that is above the classes."""
    rows = [(1, KIT_FOX, 0), (2, FISH, 0)]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
    savemat(tmp_path / "meta.mat", {"synsets": np.array(rows, kinds).reshape(-1, 1)})
    return tmp_path / "meta.mat"


def test_folders_of_classes(train, tmp_path, capsys):
    touch(train / "val" / FISH / "ILSVRC2012_val_00000293.JPEG", train / "val" / FISH / "notes.txt")
    said = convert("imagenet", train, tmp_path / "out")
    assert "5 examples, 4 train, 1 dev, 5 images" in said and "1 left out" in said and "2 classes" in said
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], r["target"]) for r in records] == [
        (f"train/{FISH}/{FISH}_10026", FISH),
        (f"train/{FISH}/{FISH}_10027", FISH),
        (f"train/{KIT_FOX}/{KIT_FOX}_10026", KIT_FOX),
        (f"train/{KIT_FOX}/{KIT_FOX}_10027", KIT_FOX),
        (f"val/{FISH}/ILSVRC2012_val_00000293", FISH),
    ]
    assert all(r["source"] == [] and r["image_id"] == r["id"] for r in records) and records[-1]["split"] == "dev"
    images = read_images(tmp_path / "out" / "images.jsonl", pictures=True)
    assert [image.image_id for image in images] == [r["id"] for r in records]
    assert lines(tmp_path / "out" / "rejects.jsonl")[0]["reason"] == "no picture by its suffix"
    assert "train 4 (published: 1,281,167), dev 1 (published: 50,000); all of it is at image-net.org" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("form", ["mat", "txt"])
def test_a_flat_val_with_the_development_kit(flat, meta, tmp_path, form):
    synsets = meta
    if form == "txt":
        synsets = tmp_path / "synsets.txt"
        synsets.write_text(f"{KIT_FOX} kit fox\n{FISH} tench\n")
    convert("imagenet", flat, tmp_path / "out", ["dev"], tmp_path / "truth.txt", synsets)
    assert [(r["id"], r["target"]) for r in lines(tmp_path / "out" / "examples.jsonl")] == [
        ("val/ILSVRC2012_val_00000001", KIT_FOX),
        ("val/ILSVRC2012_val_00000002", FISH),
        ("val/ILSVRC2012_val_00000003", KIT_FOX),
    ]


def test_a_flat_val_that_does_not_fit(flat, meta, tmp_path):
    out, truth = tmp_path / "out", tmp_path / "truth.txt"
    with pytest.raises(
        DataError, match="lie in no folders of classes; give --ground-truth.*ImageNet .* is published at"
    ):
        convert("imagenet", flat, out)
    with pytest.raises(ConfigError, match="belong together"):
        convert("imagenet", flat, out, (), truth)
    truth.write_text("1\n2\n")
    with pytest.raises(DataError, match="2 lines, but .* has 3 pictures"):
        convert("imagenet", flat, out, (), truth, meta)
    truth.write_text("1\n2\n3\n")
    with pytest.raises(DataError, match="truth.txt:3: class number '3', expected 1 to 2"):
        convert("imagenet", flat, out, (), truth, meta)
    truth.write_text("1\n2\n1\n")
    other = tmp_path / "other.txt"
    other.write_text(f"{KIT_FOX}\nn99999999\n")
    with pytest.raises(DataError, match="class 'n99999999' is not one of the 2 of train; check that --synsets"):
        convert("imagenet", flat, out, (), truth, other)
    other.write_text("".join(f"n{k:08}\n" for k in range(1000)))
    with pytest.raises(DataError, match="in the order of the names, while the ground truth counts in another"):
        convert("imagenet", flat, out, (), truth, other)
    other.with_suffix(".mat").write_text("none")
    with pytest.raises(DataError, match="holds no synsets"):
        convert("imagenet", flat, out, (), truth, other.with_suffix(".mat"))


def test_val_in_folders_needs_no_kit(train, meta, tmp_path):
    touch(train / "val" / FISH / "a.JPEG")
    (tmp_path / "truth.txt").write_text("1\n")
    with pytest.raises(ConfigError, match="--ground-truth is not used"):
        convert("imagenet", train, tmp_path / "out", (), tmp_path / "truth.txt", meta)


def test_a_class_that_train_has_not_and_missing_folders(train, tmp_path):
    with pytest.raises(DataError, match="lacks val or dev/; .*--split"):
        convert("imagenet", train, tmp_path / "out")
    touch(train / "val" / "n00000001" / "a.JPEG")
    with pytest.raises(DataError, match="class 'n00000001' is not one of the 2 of train; rename"):
        convert("imagenet", train, tmp_path / "out")


def test_own_folders(tmp_path, capsys):
    root = tmp_path / "flowers"
    touch(root / "train" / "rose" / "1.jpg", root / "train" / "rose" / "1.png", root / "train" / "daisy" / "1.png")
    touch(root / "test" / "rose" / "x.webp")
    said = convert("folders", root, tmp_path / "out")
    assert "3 examples, 2 train, 1 test" in said
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], r["target"]) for r in records] == [
        ("train/daisy/1", "daisy"),
        ("train/rose/1", "rose"),
        ("test/rose/x", "rose"),
    ]
    assert [(r["id"], r["reason"]) for r in lines(tmp_path / "out" / "rejects.jsonl")] == [("train/rose/1", "id twice")]
    images = read_images(tmp_path / "out" / "images.jsonl", pictures=True)
    assert [Path(image.image).name for image in images] == ["1.png", "1.jpg", "x.webp"]
    assert "published" not in capsys.readouterr().err
    with pytest.raises(DataError, match="dev"):
        convert("folders", root, tmp_path / "other", ["dev"])


def test_the_commands(stage, train, tmp_path):
    done = stage("benchmarks", "imagenet", train, tmp_path / "out", "--split", "train")
    assert done.returncode == 0 and "4 examples, 4 train, 4 images" in done.stdout, done.stderr
    done = stage("benchmarks", "folders", train, tmp_path / "own")
    assert done.returncode == 0 and "4 examples, 4 train" in done.stdout, done.stderr
