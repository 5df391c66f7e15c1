"""BERT (Hugging Face safetensors) as the start of a UNIMO's text tables and encoder, at the same width.

The two text sides are the same function but for three things. BERT's first position is row 0, ours is row 2. BERT
adds row 0 of its token-type table to every token; here it goes into the position table, so that the word table, which
is the LM head's output table too, stays as it is. BERT's layer norm has epsilon 1e-12: for equal hidden states set
`layer_norm_eps` to that. BERT's pooler is a tanh, ours a ReLU, so it is not loaded.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open

from unimo.errors import CheckpointError
from unimo.models.unimo import Unimo
from unimo.port.weights import Lazy, Report, Stored, fill, gather, linear_weights, problems, refuse, shapes_of

POSITIONS, TOKEN_TYPES = "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"
EMBEDDINGS = {
    "word_embedding.weight": ("embeddings.word_embeddings.weight",),
    "text_norm.weight": ("embeddings.LayerNorm.weight",),
    "text_norm.bias": ("embeddings.LayerNorm.bias",),
}
# our sub-layer -> BERT's, joined along the output axis; each has a weight and a bias
LAYER = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "feed_forward.inner": ("intermediate.dense",),
    "feed_forward.outer": ("output.dense",),
    "feed_forward_norm": ("output.LayerNorm",),
}
_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


@dataclass(frozen=True)
class _Tensor:
    """A tensor of an open safetensors file."""

    file: Any  # safetensors' safe_open handle
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self) -> np.ndarray:
        return self.file.get_tensor(self.name)


def init_from_bert(model: Unimo, path: str | Path, layers: Literal["first", "spread"] = "first") -> Report:
    """Start a UNIMO of BERT's width and vocabulary from BERT's embeddings and layers.

    Args:
        path: `model.safetensors` of a BertModel or BertForMaskedLM; a `config.json` beside it is compared too.
        layers: which of BERT's layers a model of fewer takes: its `first` ones, or every k-th (`spread`).

    Raises:
        CheckpointError: no such file, damaged, not a BERT, or listing all that does not fit the model.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="np") as file:
            return _init(model, path, {_modern(n): _open(file, n) for n in file.keys()}, layers)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: expected a safetensors file of BERT, got: {error}") from error


def _init(model: Unimo, path: Path, stored: dict[str, Stored | CheckpointError], layers: str) -> Report:
    count = len({m[1] for m in (re.match(r"encoder\.layer\.(\d+)\.", name) for name in stored) if m})
    if not count:
        raise CheckpointError(f"{path}: no tensor named encoder.layer.*, so it is no BERT; it has {sorted(stored)[:3]}")
    table = EMBEDDINGS | {
        f"layers.{i}.{ours}.{kind}": tuple(f"encoder.layer.{source}.{their}.{kind}" for their in theirs)
        for i, source in enumerate(_chosen(layers, count, model.config.num_hidden_layers))
        for ours, theirs in LAYER.items()
        for kind in ("weight", "bias")
    }
    notes, wrong = _compare_configs(model, path.with_name("config.json"))
    rows, width = model.position_embedding.weight.shape
    for name, least in ((POSITIONS, rows - 2), (TOKEN_TYPES, 1)):
        got = getattr(stored.get(name), "shape", stored.get(name))  # an error or None where there is no such tensor
        if not isinstance(got, tuple) or len(got) != 2 or got[0] < least or got[1] != width:
            wrong.append(f"{name}: {got or 'missing'}, expected at least {least} rows of {width}")
    shapes, transposed = shapes_of(model), linear_weights(model)
    refuse(path, wrong + problems(table, stored, shapes, transposed))
    tensors = gather(table, stored, shapes, transposed)
    tensors["position_embedding.weight"] = Lazy((rows, width), lambda: _positions(stored, rows))
    fill(model, tensors)
    mapped = table | {"position_embedding.weight": (POSITIONS, TOKEN_TYPES)}
    used = {name for names in mapped.values() for name in names}
    random = dict.fromkeys(name.split(".")[0] for name, _ in model.named_parameters() if name not in mapped)
    return Report(mapped, tuple(name for name in stored if name not in used), tuple(random), tuple(notes))


def _open(file: Any, name: str) -> Stored | CheckpointError:
    view = file.get_slice(name)
    shape, code = tuple(view.get_shape()), view.get_dtype()
    if code not in _DTYPES:
        return CheckpointError(f"{name}: data type {code}, expected one of {', '.join(_DTYPES)}")
    return _Tensor(file, name, shape, np.dtype(_DTYPES[code]))


def _positions(stored: dict[str, Stored], rows: int) -> np.ndarray:
    """Our position table [rows, H]: two rows that no real token has, then BERT's with its first token type added."""
    taken = stored[POSITIONS].read()[: rows - 2].astype(np.float32) + stored[TOKEN_TYPES].read()[0]
    return np.concatenate([np.zeros_like(taken[:2]), taken])


def _modern(name: str) -> str:
    """Names as BertModel has them today: no `bert.` of BertForMaskedLM in front, no gamma and beta of TensorFlow."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _chosen(layers: str, count: int, wanted: int) -> range:
    """BERT's layers that become ours."""
    if wanted > count or (layers == "spread" and count % wanted):
        fitting = [n for n in range(1, count + 1) if layers == "first" or count % n == 0]
        raise CheckpointError(f"a BERT of {count} layers gives {fitting} layers as {layers!r}, not {wanted}")
    return range(wanted) if layers == "first" else range(0, count, count // wanted)


def _compare_configs(model: Unimo, path: Path) -> tuple[list[str], list[str]]:
    """What the config beside the weights says that their shapes cannot: (notes, problems)."""
    ours = model.config
    if not path.is_file():
        return [f"no {path.name} beside the weights: head count and activation of BERT were not compared"], []
    try:
        bert = json.loads(path.read_text(encoding="utf-8"))
        eps = bert.get("layer_norm_eps", 1e-12)
    except (ValueError, AttributeError) as error:
        return [], [f"{path} is not a json object: {error}"]
    expected = {
        "num_attention_heads": ours.num_attention_heads,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
    }
    found = [f"{k}: {bert[k]!r}, expected {v!r}" for k, v in expected.items() if bert.get(k, v) != v]
    differs = eps != ours.layer_norm_eps
    return [f"layer_norm_eps is {ours.layer_norm_eps}, BERT's is {eps}"] * differs, found
