"""Exported parts beside the model itself: other lengths than traced, padding, a decode loop, ONNX, wrong input."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from click.testing import CliRunner

from unimo.cli import main
from unimo.engine import checkpoint
from unimo.engine.model_folder import write_model
from unimo.errors import CheckpointError, ConfigError, DataError, MissingDependencyError
from unimo.export import inference_graphs as exporting
from unimo.export.inference_graphs import TOLERANCE, export, random_inputs
from unimo.export.runner import open_part, read_manifest
from unimo.export.unimo_parts import PARTS
from unimo.models.layers import captioning_mask
from unimo.models.unimo import Regions, Tags, Text, Unimo, UnimoConfig
from unimo.readers.tokenizer import load_tokenizer

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnxruntime"))
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 24,
    "max_position_embeddings": 40,
    "image_embedding_size": 16,
    "image_class_size": 9,
    "initializer_range": 0.2,  # large enough for every position to matter
}
OTHER = {"batch": 4, "tokens": 9, "regions": 3, "cached": 13, "new": 3}  # lengths that the command did not check


def write_tiny(folder: Path, vocabulary: Path, heads: tuple[str, ...], **changes: object) -> Unimo:
    paddle.seed(5)
    model = Unimo(UnimoConfig(**TINY | changes), heads)
    model.eval()
    write_model(folder, model, load_tokenizer(vocabulary))
    return model


@pytest.fixture(scope="module")
def exported(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Unimo, Path]:
    """A model with every needed head and its export folder, with ONNX where that is installed."""
    folder = tmp_path_factory.mktemp("exported")
    model = write_tiny(folder / "model", small_world / "vocabulary", ("pool", "match", "lm"))
    lines = list(export(folder / "model", folder / "export", onnx=HAS_ONNX))
    assert [line.split()[0] for line in lines] == list(PARTS)
    return model, folder / "export"


def text_of(given: dict[str, np.ndarray]) -> Text:
    return Text(*(paddle.to_tensor(given[key]) for key in ("ids", "positions", "text_mask")))


def regions_of(given: dict[str, np.ndarray]) -> Regions:
    return Regions(*(paddle.to_tensor(given[key]) for key in ("features", "boxes", "region_mask")))


def assert_close(found: object, wanted: paddle.Tensor) -> None:
    found, wanted = np.asarray(found), wanted.numpy()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


# ---- equality


def test_encoders_equal_the_model(exported):
    model, folder = exported
    given = random_inputs(PARTS["text_encoder"], model.config, OTHER, seed=7)
    found, encoded = open_part(folder, "text_encoder")(given), model(text_of(given))
    assert_close(found["states"], encoded.text)
    assert_close(found["pooled"], model.pooled_text(encoded))
    given = random_inputs(PARTS["image_encoder"], model.config, OTHER, seed=7)
    found, encoded = open_part(folder, "image_encoder")(given), model(regions=regions_of(given))
    assert_close(found["states"], encoded.regions)
    assert_close(found["pooled"], model.pooled_image(encoded))


def test_match_score_equals_the_model_and_ignores_padding(exported):
    model, folder = exported
    score = open_part(folder, "match_score")
    given = random_inputs(PARTS["match_score"], model.config, OTHER, seed=8)
    wanted = model.match_score(model(text_of(given), regions_of(given))).squeeze(1)
    assert_close(score(given)["scores"], wanted)
    padded = {key: np.pad(a, [(0, 0), (0, 4)] + [(0, 0)] * (a.ndim - 2)) for key, a in given.items()}
    assert_close(score(padded)["scores"], wanted)


def test_jit_load_takes_the_same_files(exported):
    model, folder = exported
    given = random_inputs(PARTS["match_score"], model.config, OTHER, seed=8)
    loaded = paddle.jit.load(str(folder / "match_score" / "model"))
    scores = loaded(*map(paddle.to_tensor, given.values()))
    assert_close(scores, model.match_score(model(text_of(given), regions_of(given))).squeeze(1))


def test_token_types_are_an_input_where_the_model_has_them(small_world, tmp_path):
    model = write_tiny(tmp_path / "m", small_world / "vocabulary", ("lm",), type_vocab_size=3, hidden_act="relu")
    lines = list(export(tmp_path / "m", tmp_path / "x", ["text_encoder"]))
    assert len(lines) == 1
    given = random_inputs(PARTS["text_encoder"], model.config, OTHER, seed=1)
    text = text_of(given)
    text.types = paddle.to_tensor(given["types"])
    assert given["types"].max() > 0
    found = open_part(tmp_path / "x", "text_encoder")(given)
    assert_close(found["states"], model(text).text)
    assert found.keys() == {"states"}  # no pool head


# ---- decoding

STEPS = 8


def pictures(model: Unimo) -> tuple[Text, Regions, dict[str, np.ndarray]]:
    given = random_inputs(PARTS["prefix"], model.config, {"batch": 3, "tokens": 4, "regions": 6}, seed=2)
    return text_of(given), regions_of(given), given


def greedy_without_cache(model: Unimo, first: int) -> np.ndarray:
    """Each step encodes image, tags and the whole text so far again. [B, STEPS]"""
    tags, regions, _ = pictures(model)
    tags = Tags(tags.ids, tags.positions, tags.mask)
    context = paddle.concat([regions.mask, tags.mask], axis=1)
    ids = paddle.full([3, 1], first, "int64")
    for _ in range(STEPS):
        size = ids.shape[1]
        positions = paddle.arange(2, 2 + size).expand([3, size])
        text = Text(ids, positions, paddle.ones([3, size]))
        encoded = model(text, regions, tags, attention_mask=captioning_mask(context, text.mask))
        ids = paddle.concat([ids, model.lm_logits(encoded.text[:, -1]).argmax(-1, keepdim=True)], axis=1)
    return ids[:, 1:].numpy()


def greedy_with_cache(folder: Path, model: Unimo, first: int) -> np.ndarray:
    """The same through `prefix` and `decode_step`, one token a call. [B, STEPS]"""
    given = pictures(model)[2]
    cache = open_part(folder, "prefix")(given)
    step = open_part(folder, "decode_step")
    mask = np.concatenate([given["region_mask"], given["text_mask"]], axis=1)
    ids = [np.full([3, 1], first, np.int64)]
    for i in range(STEPS):
        mask = np.concatenate([mask, np.ones([3, 1], np.float32)], axis=1)
        token = {"ids": ids[-1], "positions": np.full([3, 1], 2 + i), "attention_mask": mask[:, None]}
        cache = step(token | cache)
        ids.append(cache.pop("logits").numpy().argmax(-1))
    return np.concatenate(ids[1:], axis=1)


@pytest.mark.parametrize("first", [2, 9, 17])
def test_decoding_with_the_cache_gives_the_ids_of_decoding_without(exported, first):
    model, folder = exported
    with paddle.no_grad():
        wanted = greedy_without_cache(model, first)
    found = greedy_with_cache(folder, model, first)
    assert found.tolist() == wanted.tolist()
    assert len(np.unique(wanted)) > 2


# ---- ONNX


@pytest.mark.skipif(not HAS_ONNX, reason="needs paddle2onnx and onnxruntime: pip install -e '.[export]'")
@pytest.mark.parametrize("name", PARTS)
def test_onnx_equals_the_model(exported, name):
    import onnxruntime

    model, folder = exported
    given = random_inputs(PARTS[name], model.config, OTHER, seed=3)
    session = onnxruntime.InferenceSession(str(folder / name / "model.onnx"))
    wanted = PARTS[name].compute(model, {key: paddle.to_tensor(a) for key, a in given.items()})
    found = session.run(None, given)
    assert len(found) == len(wanted)
    for array, tensor in zip(found, wanted.values()):
        assert_close(array, tensor)


def test_onnx_without_its_packages_names_the_command(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)  # as if it were not installed
    with pytest.raises(MissingDependencyError, match=r"onnxruntime.*pip install -e '\.\[export\]'"):
        list(export(exported[1].parent / "model", tmp_path / "x", onnx=True))


# ---- the folder


def test_the_folder_describes_itself(exported, small_world):
    model, folder = exported
    manifest = read_manifest(folder)
    assert checkpoint.torn(folder) is None
    assert manifest["weights_sha256"] == checkpoint.digest(folder.parent / "model")
    assert UnimoConfig(**manifest["config"]) == model.config
    assert load_tokenizer(folder).fingerprint == load_tokenizer(small_world / "vocabulary").fingerprint
    step = manifest["parts"]["decode_step"]
    assert step["inputs"][2] == {"name": "attention_mask", "dtype": "float32", "shape": ["batch", "new", "cached+new"]}
    assert step["outputs"][-1] == {"name": "values.1", "dtype": "float32", "shape": ["batch", 4, "cached+new", 8]}
    assert all(0 <= d <= TOLERANCE for part in manifest["parts"].values() for d in part["largest_difference"].values())


def test_a_model_without_heads_loses_the_parts_that_need_them(small_world, tmp_path):
    write_tiny(tmp_path / "m", small_world / "vocabulary", ())
    result = CliRunner().invoke(main, ["export", str(tmp_path / "m"), str(tmp_path / "x")])
    assert result.exit_code == 0, result.output
    for name, heads in (("match_score", "['pool', 'match']"), ("prefix", "['lm']"), ("decode_step", "['lm']")):
        assert f"skipped: {name} needs the heads {heads}" in result.output
    assert list(read_manifest(tmp_path / "x")["parts"]) == ["text_encoder", "image_encoder"]
    again = CliRunner().invoke(main, ["export", str(tmp_path / "m"), str(tmp_path / "x"), "--parts", "text_encoder"])
    assert again.exit_code == 0, again.output
    assert list(read_manifest(tmp_path / "x")["parts"]) == ["text_encoder"]  # an earlier export is replaced whole


def test_wrong_parts_are_one_error_that_lists_all(small_world, tmp_path):
    write_tiny(tmp_path / "m", small_world / "vocabulary", ())
    with pytest.raises(
        ConfigError, match=r"textencoder: no such part; match_score needs the heads \['pool', 'match'\]"
    ):
        list(export(tmp_path / "m", tmp_path / "x", ["textencoder", "match_score", "text_encoder"]))
    assert not (tmp_path / "x").exists()


def test_a_folder_of_something_else_is_not_replaced(exported, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="exists and is not"):
        list(export(exported[1].parent / "model", tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_part_that_differs_is_not_written(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", 1e-12)
    with pytest.raises(CheckpointError, match="text_encoder differs from the model by more than 1e-12"):
        list(export(exported[1].parent / "model", tmp_path / "x", ["text_encoder"]))
    assert not list(tmp_path.iterdir())


# ---- wrong use of a folder


def test_wrong_inputs_are_one_error_that_lists_all(exported):
    model, folder = exported
    given = random_inputs(PARTS["match_score"], model.config, OTHER, seed=0)
    del given["boxes"]
    given["ids"] = given["ids"].astype(np.int32)
    given["features"] = given["features"][..., :5]
    given["token_mask"] = given["text_mask"]
    with pytest.raises(DataError) as error:
        open_part(folder, "match_score")(given)
    for problem in ("missing: boxes", "ids: int32", "features: float32 [4, 3, 5]", "unknown: token_mask"):
        assert problem in str(error.value)


def test_what_is_no_export_folder(exported, tmp_path):
    with pytest.raises(CheckpointError, match="is not an export folder"):
        open_part(tmp_path, "text_encoder")
    for text in ("{", "[]", json.dumps({"parts": 3})):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(CheckpointError, match="is not an export folder"):
            open_part(tmp_path, "text_encoder")
    with pytest.raises(CheckpointError, match="holds no part 'classify'; it has text_encoder"):
        open_part(exported[1], "classify")
