"""Exported parts of a UNIMO-2 beside the model: other lengths than traced, all dictionaries, ONNX, a ranking."""

import importlib.util
from pathlib import Path

import numpy as np
import paddle
import pytest

from unimo.engine.distributed import World
from unimo.engine.model_folder import write_model
from unimo.errors import ConfigError
from unimo.evaluate.scoring import score_matrix
from unimo.evaluate.shortlist import alone_scores
from unimo.export.inference_graphs import TOLERANCE, export, random_inputs
from unimo.export.runner import open_part, read_manifest
from unimo.export.unimo2_parts import PARTS
from unimo.models.streams import Pixels, Text
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.tokenizer import load_tokenizer

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnxruntime"))
TINY = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    text_num_hidden_layers=1,
    text_num_attention_heads=2,
    vit_num_hidden_layers=1,
    vit_num_attention_heads=4,
    text_vocab_size=40,
    text_max_position_embeddings=30,
    image_size=16,
    resolution=4,
    num_codebook=20,
    topk_value=5,
    initializer_range=0.2,
)
OTHER = {"batch": 4, "tokens": 9, "texts": 4, "images": 2, "pairs": 7}  # lengths that the command did not check
KINDS = {
    "release": {},
    "without pads": {"padding_votes": False},
    "one to one": {"grounding_method": "normal"},
    "baseline": {"grounding_method": "none", "with_cmcl_projection": True},
    "projected": {"with_grounding_projection": True, "with_grounding_pos": True, "open_bridge": True},
}


def written(folder: Path, vocabulary: Path, **changes: object) -> Unimo2:
    paddle.seed(5)
    model = Unimo2(Unimo2Config(**TINY | changes), ("pool", "match", "cmcl"))
    if model.config.grounding_method != "none":
        model.dictionary.codes.set_value(paddle.randn(model.dictionary.codes.shape))
        model.dictionary.temperature.set_value(paddle.to_tensor([2.0]))
    model.eval()
    write_model(folder, model, load_tokenizer(vocabulary))
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_parts_equal_the_model(kind, small_world, tmp_path):
    model = written(tmp_path / "model", small_world / "vocabulary", **KINDS[kind])
    lines = list(export(tmp_path / "model", tmp_path / "export"))
    assert [line.split()[0] for line in lines] == list(PARTS)
    manifest = read_manifest(tmp_path / "export")
    assert manifest["system"] == "unimo-2" and manifest["config"]["topk_value"] == 5
    for name, part in PARTS.items():
        given = random_inputs(part, model.config, OTHER, seed=3)
        found = open_part(tmp_path / "export", name)(given)
        wanted = part.compute(model, {key: paddle.to_tensor(array) for key, array in given.items()})
        assert found.keys() == wanted.keys()
        for key, tensor in wanted.items():
            a, b = np.asarray(found[key]), tensor.numpy()
            assert a.shape == b.shape and np.abs(a - b).max() <= TOLERANCE * np.abs(b).max(), (name, key)


def test_the_three_parts_rank_as_an_evaluation_does(small_world, tmp_path):
    """Encode each once, shortlist by the products, score pairings: what an application does with the folder."""
    model = written(tmp_path / "model", small_world / "vocabulary", padding_votes=False)
    list(export(tmp_path / "model", tmp_path / "export"))
    run = {name: open_part(tmp_path / "export", name) for name in PARTS}
    rng = np.random.default_rng(2)
    pixels = rng.standard_normal([3, 3, 16, 16]).astype("float32")
    lengths, ids = [4, 7, 5], rng.integers(5, 40, [3, 7])
    mask = (np.arange(7) < np.array(lengths)[:, None]).astype("float32")
    texts = run["text_encoder"]({"ids": ids, "positions": np.arange(2, 9) * np.ones([3, 1], int), "text_mask": mask})
    images = run["image_encoder"]({"pixels": pixels})
    rows, columns = (side.ravel() for side in np.indices([3, 3]))
    pairs = {"text": texts["states"], "text_mask": mask, "image": images["states"]}
    scores = run["grounded_score"](pairs | {"text_rows": rows, "image_rows": columns})["scores"].numpy().reshape(3, 3)
    alone = np.asarray(texts["contrasted"]) @ np.asarray(images["contrasted"]).T
    captions = [
        Text(*(paddle.to_tensor(x) for x in (ids[i : i + 1, :n], np.arange(2, 2 + n)[None], mask[i : i + 1, :n])))
        for i, n in enumerate(lengths)
    ]
    pictures = [Pixels(paddle.to_tensor(pixels[i : i + 1])) for i in range(3)]
    assert np.abs(scores - score_matrix(model, captions, pictures)).max() < 1e-4
    assert np.abs(alone - alone_scores(model, captions, pictures, World())).max() < 1e-5


@pytest.mark.skipif(not HAS_ONNX, reason="needs paddle2onnx and onnxruntime: pip install -e '.[export]'")
def test_onnx_equals_the_model(small_world, tmp_path):
    written(tmp_path / "model", small_world / "vocabulary")
    lines = list(export(tmp_path / "model", tmp_path / "export", onnx=True))  # it compares, and raises
    assert all("ONNX" in line for line in lines)


def test_a_model_without_the_heads_keeps_its_encoders(small_world, tmp_path):
    model = Unimo2(Unimo2Config(**TINY), ())
    write_model(tmp_path / "model", model, load_tokenizer(small_world / "vocabulary"))
    lines = list(export(tmp_path / "model", tmp_path / "export"))
    assert lines[0] == "skipped: grounded_score needs the heads ['pool', 'match']" and len(lines) == 3
    with pytest.raises(ConfigError, match="match_score: no such part"):
        list(export(tmp_path / "model", tmp_path / "other", ["match_score"]))
