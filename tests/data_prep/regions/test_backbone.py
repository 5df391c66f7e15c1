"""Backbones in Paddle's inference engine: values of dygraph, in one thread, kept from one picture to the next."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from data_prep.regions import backbone, resnet
from data_prep.regions.backbone import Backbone
from data_prep.regions.build import build
from data_prep.regions.grid import ResNetGrid
from data_prep.regions.registry import make
from data_prep.sources.packages import Package
from unimo import inference, zoo
from unimo.errors import ConfigError, DataError
from unimo.hardware import has_bfloat16
from unimo.models.faster_rcnn import FasterRCNN
from unimo.models.vision import ResNet50
from unimo.readers.feature_store import FeatureStore
from unimo.readers.pictures import read_picture, write_picture

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="the processor has no avx512_bf16")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    lines = []
    for name in ("one", "two", "three"):
        write_picture(rng.integers(256, size=(90, 120, 3), dtype=np.uint8), folder / f"{name}.png")
        pair = {"image_id": name, "image": f"{name}.png", "captions": ["x"], "split": "train", "source": "made"}
        lines.append(json.dumps(pair) + "\n")
    (folder / "pairs.jsonl").write_text("".join(lines))
    return folder / "pairs.jsonl"


@pytest.fixture
def grid(monkeypatch) -> ResNetGrid:
    """The extractor `grid` with weights drawn by chance."""
    paddle.seed(0)
    state = {name: value.numpy() for name, value in ResNet50().state_dict().items()}
    state |= {name: 0.1 * value for name, value in state.items() if name.endswith("expand.norm.weight")}  # else inf
    monkeypatch.setattr(resnet, "fetch", lambda *_: Package("made", "1", "0", "none", Path()))
    monkeypatch.setattr(resnet, "_read_tfjs", lambda *_: {})
    monkeypatch.setattr(resnet, "_names", lambda _: state)
    return ResNetGrid(None)


def pooled(folder: Path, precision: inference.Precision) -> tuple[np.ndarray, np.ndarray]:
    """Features of 40 boxes, so of two calls of stage 5, in dygraph and in the engine."""
    network, rng = zoo.from_pretrained(folder), np.random.default_rng(1)
    assert isinstance(network, FasterRCNN)
    config = network.config
    feature_map = paddle.to_tensor(rng.random((1, 16 * config.width, 20, 30), np.float32))
    corners = np.sort(rng.random((40, 2, 2), np.float32), axis=1).reshape(40, 4) * np.float32([480, 320, 480, 320])
    with paddle.no_grad():
        boxes = paddle.to_tensor(corners)
        plain = network.pool(feature_map, boxes)
        return plain.numpy(), network.pool(
            feature_map, boxes, Backbone(network.res5, network.pooled_shape, precision)
        ).numpy()


@pytest.mark.parametrize("name", ["published", "other"])
def test_stage5_in_the_engine_is_that_of_dygraph(folders, name):
    plain, found = pooled(folders / name, "float32")
    assert plain.shape == found.shape and np.ptp(plain) > 0
    assert np.abs(found - plain).max() <= 1e-6 * np.abs(plain).max()


@needs_bfloat16
def test_bfloat16_rounds_stage5(folders):
    plain, found = pooled(folders / "published", "bfloat16")
    assert 1e-5 < np.abs(found - plain).max() / np.abs(plain).max() < 2e-2


def test_resnet50_in_the_engine_is_that_of_dygraph_and_outlives_the_next_picture(grid):
    one, other = np.random.default_rng(0).integers(256, size=(2, 50, 60, 3), dtype=np.uint8)
    first = grid(one).features
    kept = first.copy()
    grid(other)
    assert (first == kept).all(), "records wait for the writer while the next picture is read"
    assert (grid(one).features == kept).all()
    grid._resnet._run = grid._resnet.model
    plain = grid(one).features
    assert np.ptp(plain) > 0 and np.abs(kept - plain).max() <= 5e-6 * np.abs(plain).max()


def test_a_store_of_cells_holds_the_cells(grid, pairs, tmp_path):
    build(pairs, None, tmp_path, "grid")
    store = FeatureStore(tmp_path)
    for image_id in store.ids:
        features = grid(read_picture(pairs.parent / f"{image_id}.png")).features
        assert np.array_equal(store.read(image_id).features, features.astype(np.float16)) and np.ptp(features) > 0


def test_the_engine_meets_one_shape_only(monkeypatch):
    """For each other number of maps it would keep a copy of the weights: 60 MB each in the published stage 5."""
    met = []

    def traced(layer, inputs, *_, **__):
        return lambda tensors: met.append(tensors[0].shape) or layer([tensors[0]])

    monkeypatch.setattr(backbone, "traced", traced)
    layer = paddle.nn.Conv2D(2, 3, 1)
    run = Backbone(layer, [5, 2, 4, 4])
    for count in (5, 1, 3):
        maps = paddle.rand([count, 2, 4, 4])
        assert np.allclose(run(maps).numpy(), layer(maps).numpy(), atol=1e-6)
    assert met == [[5, 2, 4, 4]] * 3


def test_regions_of_a_picture_outlive_the_next_one(folders):
    extract = make("butd", {"model_dir": folders / "published"})
    one, other = np.random.default_rng(0).integers(256, size=(2, 90, 120, 3), dtype=np.uint8)
    first = extract(one)
    kept = first.features.copy()
    assert not np.array_equal(extract(other).features, kept) and (first.features == kept).all()


def test_nothing_is_traced_before_the_first_picture_nor_off_the_cpu(folders, monkeypatch):
    monkeypatch.setattr(backbone, "traced", lambda *_, **__: pytest.fail("traced"))
    make("butd", {"model_dir": folders / "published"})
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    pooled(folders / "published", "float32")
    with pytest.raises(ConfigError, match="precision bfloat16 is of a CPU, this process computes on gpu:0"):
        make("butd", {"model_dir": folders / "published", "precision": "bfloat16"})


def test_the_number_of_threads_and_of_workers_decides_nothing(folders, pairs, stage, tmp_path):
    found = []
    for threads, workers in (("1", 1), ("4", 1), ("4", 2)):
        out = tmp_path / f"{threads}-{workers}"
        options = ("--extractor", "butd", "--model-dir", folders / "published", "--pairs", pairs, "--workers", workers)
        done = stage("regions", "extract", *options, "--output", out, OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
        assert json.loads((out / "manifest.json").read_text())["threads"] == 1
        found.append(np.concatenate([FeatureStore(out).read(i).features for i in ("one", "two")]))
    assert all(np.array_equal(found[0], other) for other in found[1:]) and np.ptp(found[0]) > 0


def test_the_engine_computes_in_one_thread_whatever_is_set(folders, monkeypatch):
    made = []
    config = inference.predictor_config
    monkeypatch.setattr(inference, "predictor_config", lambda *a, **k: made.append(config(*a, **k)) or made[-1])
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    pooled(folders / "published", "float32")
    assert [m.cpu_math_library_num_threads() for m in made] == [1]


# ---- precision


@needs_bfloat16
def test_a_store_says_its_precision_and_holds_no_other(folders, pairs, tmp_path):
    options = {"extractor": "butd", "model_dir": folders / "published"}
    build(pairs, None, tmp_path / "rounded", **options, precision="bfloat16")
    build(pairs, None, tmp_path / "plain", **options)
    rounded, plain = FeatureStore(tmp_path / "rounded"), FeatureStore(tmp_path / "plain")
    assert rounded.extractor == plain.extractor | {"precision": "bfloat16"}
    assert not np.array_equal(rounded.read("one").features, plain.read("one").features)
    for name, precision in (("rounded", "float32"), ("plain", "bfloat16")):
        with pytest.raises(DataError, match="another extractor"):
            build(pairs, None, tmp_path / name, **options, precision=precision)


def test_bfloat16_is_refused_where_it_cannot_be_had(folders, monkeypatch):
    monkeypatch.setattr(inference, "has_bfloat16", lambda: False)
    with pytest.raises(ConfigError, match="precision bfloat16 needs a processor with avx512_bf16, this one has none"):
        make("butd", {"model_dir": folders / "published", "precision": "bfloat16"})
    make("butd", {"model_dir": folders / "published", "precision": "float32"})
    with pytest.raises(ConfigError, match="--extractor grid: --precision does nothing with it"):
        make("grid", {"precision": "bfloat16"})
