"""The extractor of bottom-up attention: pictures in, a store out, beside recordings of Hugging Face's extractor."""

import json
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.merge import merge
from data_prep.regions.build import build
from data_prep.regions.butd import picture_size, prepare
from data_prep.regions.registry import make
from unimo import zoo
from unimo.config import load
from unimo.errors import CheckpointError, ConfigError
from unimo.models.faster_rcnn import FasterRCNNConfig, choose
from unimo.models.oner import Oner, OnerConfig
from unimo.readers.feature_store import FeatureStore
from unimo.readers.pictures import write_picture

FIXTURES = Path(__file__).parents[2] / "fixtures" / "detector"


def recording(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / name / "record.npz") as record:
        return dict(record)


def pictures_of(record: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Red first, as we read files; the recordings give them blue first."""
    return [record[name][:, :, ::-1] for name in sorted(record) if name.startswith("picture_")]


# ---- the picture as read


@pytest.mark.parametrize("name", ["published", "other"])
def test_pictures_are_scaled_and_normalised_as_in_the_recordings(folders, name):
    record, config = recording(name), zoo.from_pretrained(folders / name).config
    for i, picture in enumerate(pictures_of(record)):
        pixels, (height, width) = prepare(picture, config)
        assert [height, width] == record["sizes"][i].tolist()
        theirs = record["pixels"][i, :, :height, :width]
        assert pixels.shape == [1, 3, height, width]
        assert np.abs(pixels.numpy()[0] - theirs).max() <= 1e-5 * np.abs(theirs).max()


@given(st.integers(1, 4000), st.integers(1, 4000))
@settings(deadline=None)
def test_sides_stay_in_proportion_and_within_bounds(height, width):
    new = picture_size(height, width, FasterRCNNConfig())
    assert min(new) <= 600 and max(new) <= 1000 and (min(new) == 600 or max(new) == 1000)
    scale = min(600 / min(height, width), 1000 / max(height, width))
    assert all(abs(side - max(1, scale * old)) <= 0.5 + 1e-6 for side, old in zip(new, (height, width)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 2), (5, 5)])
def test_the_thinnest_pictures_have_regions_within_them(folders, shape):
    picture = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    found = make("butd", {"model_dir": folders / "published", "min_boxes": 1})(picture)
    assert np.isfinite(found.features).all() and len(found.boxes) > 0
    assert (found.boxes >= 0).all() and (found.boxes <= np.float32([shape[1], shape[0]] * 2)).all()


# ---- regions


def test_lxmerts_choice_gives_the_recorded_regions(folders):
    """From the picture to the end; one picture alone, which the recording did not pad."""
    record = recording("other")
    (picture,) = pictures_of(record)
    options = {"model_dir": folders / "other", "selection": "lxmert", "min_boxes": 5, "max_boxes": 12}
    found = make("butd", options)(picture)
    for ours, name in ((found.boxes, "boxes"), (found.scores, "scores"), (found.features, "features")):
        theirs = record[f"final_{name}"]
        assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), name
    assert (found.classes == 1 + record["final_classes"]).all()
    assert (found.attributes == 1 + record["final_attributes"]).all()


@paddle.no_grad()
def test_the_original_choice_in_pixels_of_the_picture(folders):
    extract = make("butd", {"model_dir": folders / "published", "min_boxes": 3, "max_boxes": 30, "threshold": 0.3})
    model = zoo.from_pretrained(folders / "published")
    picture = pictures_of(recording("published"))[1]
    found = extract(picture)
    pixels, (height, width) = prepare(picture, model.config)
    states = model(pixels, [(height, width)])
    probs = F.softmax(states.class_logits, -1).numpy()
    chosen = choose(states.proposals[0].numpy(), probs, 3, 30, 0.3)
    assert 3 < len(chosen.rows) < 30 and (found.scores >= 0.3).all() and (np.diff(found.scores) <= 0).all()
    scale = np.array([picture.shape[1] / width, picture.shape[0] / height] * 2)
    assert np.allclose(found.boxes, chosen.boxes * scale, rtol=1e-5)
    plain = states.features.numpy()[chosen.rows]  # in dygraph; the extractor's stage 5 runs in the engine
    assert np.abs(found.features - plain).max() <= 1e-6 * np.abs(plain).max()
    assert np.allclose(found.class_probs[:, 0], probs[chosen.rows, -1])  # background goes from last to first
    assert np.allclose(found.class_probs[np.arange(len(chosen.rows)), found.classes], found.scores)
    assert found.classes.min() >= 1 and found.attributes.min() >= 1 and found.attributes.max() <= 10


def test_equal_pictures_give_equal_regions_whatever_came_before(folders):
    extract = make("butd", {"model_dir": folders / "published"})
    one, other = pictures_of(recording("published"))
    first = extract(one)
    extract(other)
    again = extract(one)
    for name in ("boxes", "classes", "scores", "features", "class_probs", "attributes"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name


# ---- the store


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    lines = []
    for name in ("published", "other"):
        for i, picture in enumerate(pictures_of(recording(name))):
            write_picture(picture, folder / f"{name}{i}.png")
            pair = {"image_id": f"{name}{i}", "image": f"{name}{i}.png", "captions": ["x"], "split": "train"}
            lines.append(json.dumps(pair | {"source": "made"}))
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "pairs.jsonl"


def test_from_the_public_files_to_a_store_by_two_commands(stage, pairs, tmp_path):
    from click.testing import CliRunner

    from unimo.cli import main

    command = ["port", "convert", str(FIXTURES / "published"), str(tmp_path / "butd"), "--from", "frcnn-lxmert"]
    assert CliRunner().invoke(main, command).exit_code == 0
    names = tmp_path / "objects_vocab.txt"
    names.write_text("".join(f"thing {i}\n" for i in range(20)))
    options = ("--extractor", "butd", "--model-dir", tmp_path / "butd", "--class-names", names, "--max-boxes", 15)
    done = stage("regions", "extract", *options, "--pairs", pairs, "--out", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    store = FeatureStore(tmp_path / "store")
    assert store.ids == ["published0", "published1", "other0"] and store.header["attributes"] is True
    assert (store.feature_dim, store.num_classes, store.class_names[:2]) == (128, 21, ["background", "thing 0"])
    assert store.extractor["name"] == "bottom-up-attention" and store.extractor["selection"] == "original"
    for image_id in store.ids:
        record = store.read(image_id)
        assert 10 <= len(record.boxes) <= 15 and record.attributes.dtype == np.int64
        assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()
        assert np.allclose(record.class_probs.astype(np.float32).sum(1), 1, atol=5e-3)


def test_parts_merge_with_their_attributes(folders, pairs, tmp_path):
    from data_prep.stage import Shard

    options = {"extractor": "butd", "model_dir": folders / "published"}
    build(pairs, None, tmp_path / "whole", **options)
    for number in (1, 2):
        build(pairs, None, tmp_path / "parts", shard=Shard(number, 2), **options)
    merge(tmp_path / "parts")
    whole, merged = FeatureStore(tmp_path / "whole"), FeatureStore(tmp_path / "parts")
    for image_id in whole.ids:
        for name in ("features", "boxes", "classes", "scores", "class_probs", "attributes"):
            assert np.array_equal(getattr(whole.read(image_id), name), getattr(merged.read(image_id), name))


# ---- refusals


def test_what_does_not_fit_is_refused(folders, tmp_path):
    paddle.seed(0)
    zoo.save_pretrained(Oner(load(OnerConfig, "model_configs/models/oner_tiny.yaml")), tmp_path / "oner")
    with pytest.raises(ConfigError, match="is no detector"):
        make("butd", {"model_dir": tmp_path / "oner"})
    with pytest.raises(ConfigError, match="reads no pixels; grid"):
        make("grid", {"model_dir": folders / "published"})
    with pytest.raises(CheckpointError, match="convert it: unimo port convert .*published FOLDER"):
        make("butd", {"model_dir": FIXTURES / "published"})
    with pytest.raises(ConfigError, match="--model-dir is missing"):
        make("butd", {})
    with pytest.raises(ConfigError, match="--threshold does nothing with --selection lxmert"):
        make("butd", {"model_dir": folders / "published", "selection": "lxmert", "threshold": 0.2})
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(ConfigError, match="names 2 classes, the detector has 20"):
        make("butd", {"model_dir": folders / "published", "class_names": tmp_path / "names.txt"})


def test_a_cut_model_folder_is_one_clear_error(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "published", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="is torn: model.safetensors"):
        make("butd", {"model_dir": tmp_path / "cut"})
