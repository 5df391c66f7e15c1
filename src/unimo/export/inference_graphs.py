"""`unimo export`: a UNIMO as inference graphs for Paddle's engine and ONNX, each checked against the model.

    manifest.json       parts, inputs and outputs with dtype and shape, config, digest of the weights, versions
    tokenizer.json
    text_encoder/       model.json + model.pdiparams (`paddle.jit.save`), model.onnx where asked for
    image_encoder/ match_score/ prefix/ decode_step/    the same

`prefix` turns what a text is generated from into the first keys and values, `decode_step` extends them by new tokens.
A name in a shape is a length that each call chooses. A stream that a caller lacks is one slot of mask 0.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.static import InputSpec

from unimo import zoo
from unimo.engine import checkpoint
from unimo.engine.model_folder import check_replaceable, read_model, read_sizes
from unimo.errors import CheckpointError, ConfigError, MissingDependencyError
from unimo.export.runner import MANIFEST, run_graph
from unimo.inference import GRAPH, WEIGHTS, write_graph
from unimo.models.layers import Cache, KeyValue, attention_bias
from unimo.models.streams import Regions, Text
from unimo.models.unimo import Encoded, Unimo, UnimoConfig
from unimo.storage.locks import check_writable

ONNX, OPSET = "model.onnx", 17
TOLERANCE = 1e-5  # of the largest activation
Tensors = dict[str, Tensor]
Dtype = Literal["float32", "int64"]
Shapes = dict[str, tuple[Dtype, tuple[str | int, ...]]]  # name -> dtype, lengths or their names ("a+b" is a sum)


# ---- what each part computes


def _text(given: Tensors, mask: str = "text_mask") -> Text:
    return Text(given["ids"], given["positions"], given[mask], given.get("types"))


def _regions(given: Tensors) -> Regions:
    return Regions(given["features"], given["boxes"], given["region_mask"])


def _encode_text(model: Unimo, given: Tensors) -> Tensors:
    bias = attention_bias(given["text_mask"])
    states, _ = model.encode(model.embed_text(_text(given)), bias, keep_cache=False)
    pooled = {"pooled": model.pooled_text(Encoded(None, None, states, Cache()))} if "pool" in model.heads else {}
    return {"states": states} | pooled


def _encode_image(model: Unimo, given: Tensors) -> Tensors:
    bias = attention_bias(given["region_mask"])
    states, _ = model.encode(model.embed_regions(_regions(given)), bias, keep_cache=False)
    pooled = {"pooled": model.pooled_image(Encoded(states, None, None, Cache()))} if "pool" in model.heads else {}
    return {"states": states} | pooled


def _score_pairs(model: Unimo, given: Tensors) -> Tensors:
    encoded = model(_text(given), _regions(given))
    return {"scores": model.match_score(encoded).squeeze(1)}


def _start_decoding(model: Unimo, given: Tensors) -> Tensors:
    return _named(model(_text(given), _regions(given)).cache)


def _decode(model: Unimo, given: Tensors) -> Tensors:
    layers = range(model.config.num_hidden_layers)
    cache = Cache(KeyValue(given[f"keys.{i}"], given[f"values.{i}"]) for i in layers)
    words = _text(given, "attention_mask")  # embedding asks for none
    states, cache = model.encode(model.embed_text(words), attention_bias(given["attention_mask"]), cache)
    batch, new, size = states.shape
    states = states.reshape([-1, size])  # a matrix: in 3-D, oneDNN would read the whole table for each row
    if "output_table" in given:
        logits = F.linear(model.lm.features(states), given["output_table"], model.lm.bias)
    else:
        logits = model.lm_logits(states)
    return {"logits": logits.reshape([batch, new, -1])} | _named(cache)


def _output_table(model: Unimo) -> Tensors:
    """The word table as [H, V]: oneDNN packs an affine map's weight once, a transposed table at every call."""
    return {"output_table": model.word_embedding.weight.t()}


def _named(cache: Cache) -> Tensors:
    return {f"{kind}.{i}": getattr(kept, kind) for kind in ("keys", "values") for i, kept in enumerate(cache)}


# ---- their inputs and outputs


def _text_shapes(config: UnimoConfig, length: str = "tokens") -> Shapes:
    names = ("ids", "positions", "types") if config.type_vocab_size else ("ids", "positions")
    return {name: ("int64", ("batch", length)) for name in names}


def _text_inputs(config: UnimoConfig) -> Shapes:
    return _text_shapes(config) | {"text_mask": ("float32", ("batch", "tokens"))}


def _region_inputs(config: UnimoConfig) -> Shapes:
    return {
        "features": ("float32", ("batch", "regions", config.image_embedding_size)),
        "boxes": ("float32", ("batch", "regions", 5)),
        "region_mask": ("float32", ("batch", "regions")),
    }


def _pair_inputs(config: UnimoConfig) -> Shapes:
    return _text_inputs(config) | _region_inputs(config)


def _cache_shapes(config: UnimoConfig, length: str) -> Shapes:
    heads = config.num_attention_heads
    shape = ("batch", heads, length, config.hidden_size // heads)
    return {f"{kind}.{i}": ("float32", shape) for kind in ("keys", "values") for i in range(config.num_hidden_layers)}


def _decode_inputs(config: UnimoConfig) -> Shapes:
    mask: Shapes = {"attention_mask": ("float32", ("batch", "new", "cached+new"))}
    return _text_shapes(config, "new") | mask | _cache_shapes(config, "cached")


def _states(length: str, config: UnimoConfig, heads: Sequence[str]) -> Shapes:
    pooled: Shapes = {"pooled": ("float32", ("batch", config.hidden_size))} if "pool" in heads else {}
    states: Shapes = {"states": ("float32", ("batch", length, config.hidden_size))}
    return states | pooled


@dataclass(frozen=True)
class Part:
    """One graph: what it computes of its named inputs, and their shapes."""

    heads: tuple[str, ...]  # without which it cannot be
    compute: Callable[[Unimo, Tensors], Tensors]
    inputs: Callable[[UnimoConfig], Shapes]
    outputs: Callable[[UnimoConfig, Sequence[str]], Shapes]
    constants: Callable[[Unimo], Tensors] = lambda model: {}  # further weights that the graph keeps beside the model's


PARTS = {
    "text_encoder": Part((), _encode_text, _text_inputs, lambda c, heads: _states("tokens", c, heads)),
    "image_encoder": Part((), _encode_image, _region_inputs, lambda c, heads: _states("regions", c, heads)),
    "match_score": Part(
        ("pool", "match"), _score_pairs, _pair_inputs, lambda c, heads: {"scores": ("float32", ("batch",))}
    ),
    "prefix": Part(("lm",), _start_decoding, _pair_inputs, lambda c, heads: _cache_shapes(c, "regions+tokens")),
    "decode_step": Part(
        ("lm",),
        _decode,
        _decode_inputs,
        lambda c, heads: {"logits": ("float32", ("batch", "new", c.vocab_size)), **_cache_shapes(c, "cached+new")},
        _output_table,
    ),
}


# ---- writing


def choose_parts(asked: Sequence[str], heads: Sequence[str]) -> tuple[list[str], list[str]]:
    """The parts to write, all that are possible unless some are asked for, and a line about each one left out.

    Raises:
        ConfigError: a part is unknown, or asked for and the model lacks its heads; all are listed.
    """
    lacking = {name: [h for h in part.heads if h not in heads] for name, part in PARTS.items()}
    lines = {name: f"{name} needs the heads {missing}" for name, missing in lacking.items() if missing}
    problems = [f"{name}: no such part" for name in asked if name not in PARTS]
    problems += [lines[name] for name in asked if name in lines]
    if problems:
        raise ConfigError(
            f"cannot export: {'; '.join(problems)}. Parts are {', '.join(PARTS)}; the model has the heads {list(heads)}"
        )
    chosen = [name for name in PARTS if (name in asked if asked else name not in lines)]
    return chosen, [f"skipped: {line}" for line in lines.values() if not asked]


def export(source: str | Path, output: Path, parts: Sequence[str] = (), onnx: bool = False) -> Iterator[str]:
    """Write the export folder of a model, atomically, and check each part; yields one line about each.

    Args:
        source: a run, a model folder or a name of the zoo, which is fetched if need be.

    Raises:
        CheckpointError: the model cannot be read, `output` is in the way, or a part differs from the model.
        ConfigError: parts that are unknown or that the model lacks the heads for.
        MissingDependencyError: ONNX without its packages.
    """
    if onnx:
        require_onnx()
    output = output.resolve()
    check_replaceable(output)
    check_writable(output)
    source = zoo.locate(source)
    _, heads = read_sizes(source)
    chosen, skipped = choose_parts(parts, heads)
    model, tokenizer = read_model(source)
    assert isinstance(model, Unimo)  # no other system was asked for
    model.eval()
    yield from skipped
    manifest: dict[str, Any] = {
        "system": "unimo",
        "heads": list(model.heads),
        "config": model.config.model_dump(),
        "weights_sha256": checkpoint.digest(source),
        "tokenizer": tokenizer.fingerprint,
        "paddle": paddle.__version__,
        "unimo": version("unimo-paddle"),
        "parts": {name: _describe(name, model) for name in chosen},
    }
    with checkpoint.whole_folder(output) as temporary:
        for name in chosen:
            described = manifest["parts"][name]
            write_part(model, name, temporary / name, onnx)
            described["largest_difference"] = differences = check_part(model, name, temporary / name, described)
            yield f"{name:<14}" + "".join(f"  {engine} {value:.1e}" for engine, value in differences.items())
        tokenizer.save(temporary)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _describe(name: str, model: Unimo) -> dict[str, Any]:
    part, config = PARTS[name], model.config
    sides = {"inputs": part.inputs(config), "outputs": part.outputs(config, model.heads)}
    return {
        side: [{"name": k, "dtype": dtype, "shape": list(shape)} for k, (dtype, shape) in shapes.items()]
        for side, shapes in sides.items()
    }


class _Graph(nn.Layer):
    """A part as a layer that `paddle.jit` can trace: a list of tensors -> a list of tensors."""

    def __init__(self, model: Unimo, name: str):
        super().__init__()
        self.model, self.part = model, PARTS[name]
        self.names = list(self.part.inputs(model.config))
        self.constants = {}
        for key, value in self.part.constants(model).items():
            self.constants[key] = self.add_parameter(key, self.create_parameter(value.shape))
            self.constants[key].set_value(value)

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        given = dict(zip(self.names, tensors)) | self.constants
        return list(self.part.compute(self.model, given).values())


def write_part(model: Unimo, name: str, folder: Path, onnx: bool) -> None:
    """Trace a part with open lengths and write its files into a new folder."""
    specs = [
        InputSpec([None if isinstance(length, str) else length for length in shape], dtype, key)
        for key, (dtype, shape) in PARTS[name].inputs(model.config).items()
    ]
    write_graph(_Graph(model, name), specs, folder)
    if onnx:
        _write_onnx(folder)


def require_onnx() -> None:
    """Raise a MissingDependencyError unless ONNX can be written and run."""
    try:
        import onnxruntime  # noqa: F401
        import paddle2onnx  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(f"ONNX needs {error.name}; install it with: pip install -e '.[export]'") from error


def _write_onnx(folder: Path) -> None:
    """Convert a part's graph. paddle2onnx's default optimizer would run pip; onnxruntime folds constants itself."""
    import paddle2onnx

    files = [str(folder / name) for name in (GRAPH, WEIGHTS, ONNX)]
    try:
        paddle2onnx.export(*files, opset_version=OPSET, optimize_tool="none")
    except Exception as error:  # after a failure inside, it ends in a NameError
        raise CheckpointError(f"paddle2onnx cannot convert {folder.name} ({error}); its messages are above") from error


# ---- checking


def check_part(model: Unimo, name: str, folder: Path, described: dict[str, Any]) -> dict[str, float]:
    """Largest difference from the model, relative to its largest activation, of each engine on two padded batches.

    Raises:
        CheckpointError: a difference above TOLERANCE, or a shape other than described.
    """
    engines: dict[str, Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray | Tensor]]] = {}
    engines["oneDNN"] = run_graph(folder, described)
    if (folder / ONNX).exists():
        engines["ONNX"] = _run_onnx(folder, described)
    worst = dict.fromkeys(engines, 0.0)
    for seed, lengths in enumerate(_BATCHES):
        given = random_inputs(name, model.config, lengths, seed)
        with paddle.no_grad():
            computed = PARTS[name].compute(model, {key: paddle.to_tensor(array) for key, array in given.items()})
        wanted = {key: tensor.numpy() for key, tensor in computed.items()}
        for output in described["outputs"]:
            shape = _lengths(output["shape"], lengths)
            if list(wanted[output["name"]].shape) != shape:
                raise CheckpointError(f"{name}: {output['name']} is {wanted[output['name']].shape}, expected {shape}")
        for engine, run in engines.items():
            worst[engine] = max(worst[engine], *_differences(run(given), wanted).values())
    bad = [f"{engine} {value:.1e}" for engine, value in worst.items() if not value <= TOLERANCE]
    if bad:
        raise CheckpointError(
            f"{name} differs from the model by more than {TOLERANCE:g} of its largest activation: {', '.join(bad)}; "
            "nothing was written"
        )
    return worst


def _differences(found: Mapping[str, Any], wanted: dict[str, np.ndarray]) -> dict[str, float]:
    """By output; infinite where a shape differs, not a number where a value is none."""
    return {
        key: float(np.abs(np.asarray(found[key]) - array).max() / np.abs(array).max())
        if tuple(found[key].shape) == array.shape
        else float("inf")
        for key, array in wanted.items()
    }


# Two batches of unlike lengths; every length differs from the others, so that none can stand for another.
_BATCHES = (
    {"batch": 2, "tokens": 7, "regions": 5, "cached": 6, "new": 1},
    {"batch": 3, "tokens": 11, "regions": 8, "cached": 9, "new": 2},
)


def _lengths(shape: Sequence[str | int], lengths: dict[str, int]) -> list[int]:
    return [d if isinstance(d, int) else sum(lengths[part] for part in d.split("+")) for d in shape]


def random_inputs(name: str, config: UnimoConfig, lengths: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Valid random inputs of a part: rows of different real lengths, the first one full."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    tables = {"ids": config.vocab_size, "positions": config.max_position_embeddings, "types": config.type_vocab_size}
    for key, (dtype, symbols) in PARTS[name].inputs(config).items():
        shape = _lengths(symbols, lengths)
        if key in tables:
            found[key] = rng.integers(0, tables[key], shape)
        elif key.endswith("mask"):
            real = np.append(shape[-1], rng.integers(1, shape[-1] + 1, shape[0] - 1)).reshape(
                [-1] + [1] * (len(shape) - 1)
            )
            found[key] = (np.arange(shape[-1]) < real).astype(dtype) * np.ones(shape, dtype)
        else:
            found[key] = rng.standard_normal(shape, np.float32)
    if "attention_mask" in found:  # pads lie between the cached positions and the new ones, which see their own past
        new = lengths["new"]
        found["attention_mask"][..., lengths["cached"] :] = np.tril(np.ones([new, new], "float32"))
    return found


def _run_onnx(folder: Path, described: dict[str, Any]) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about constants that it removes
    session = onnxruntime.InferenceSession(str(folder / ONNX), options, providers=["CPUExecutionProvider"])
    outputs = [output["name"] for output in described["outputs"]]
    return lambda given: dict(zip(outputs, session.run(None, given), strict=True))
