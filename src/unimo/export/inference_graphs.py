"""`unimo export`: a model as inference graphs for Paddle's engine and ONNX, each checked against the model.

    manifest.json       parts, inputs and outputs with dtype and shape, config, digest of the weights, versions
    tokenizer.json
    PART/               model.json + model.pdiparams (`paddle.jit.save`), model.onnx where asked for

A name in a shape is a length that each call chooses. A stream that a caller lacks is one slot of mask 0.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from unimo import zoo
from unimo.engine import checkpoint
from unimo.engine.model_folder import CONFIG, check_replaceable, parse_description, read_model, read_recipe, read_sizes
from unimo.errors import CheckpointError, ConfigError, MissingDependencyError
from unimo.export import unimo2_parts, unimo_parts
from unimo.export.parts import Part
from unimo.export.runner import MANIFEST, run_graph
from unimo.inference import GRAPH, WEIGHTS, write_graph
from unimo.models.systems import described, system_of
from unimo.storage.locks import check_writable

ONNX, OPSET = "model.onnx", 17
TOLERANCE = 1e-5  # of the largest activation
PARTS: Mapping[str, Mapping[str, Part]] = {"unimo": unimo_parts.PARTS, "unimo-2": unimo2_parts.PARTS}  # by system


# ---- writing


def choose_parts(parts: Mapping[str, Part], asked: Sequence[str], heads: Sequence[str]) -> tuple[list[str], list[str]]:
    """The parts to write, all that are possible unless some are asked for, and a line about each one left out.

    Raises:
        ConfigError: a part is unknown, or asked for and the model lacks its heads; all are listed.
    """
    lacking = {name: [h for h in part.heads if h not in heads] for name, part in parts.items()}
    lines = {name: f"{name} needs the heads {missing}" for name, missing in lacking.items() if missing}
    problems = [f"{name}: no such part" for name in asked if name not in parts]
    problems += [lines[name] for name in asked if name in lines]
    if problems:
        raise ConfigError(
            f"cannot export: {'; '.join(problems)}. Parts are {', '.join(parts)}; the model has the heads {list(heads)}"
        )
    chosen = [name for name in parts if (name in asked if asked else name not in lines)]
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
    _, heads = read_sizes(source, tuple(PARTS))
    of_system = PARTS[parse_description(source / CONFIG)[0]]  # before any weights are read
    chosen, skipped = choose_parts(of_system, parts, heads)
    network, tokenizer = read_model(source, tuple(PARTS))
    model: Any = network  # of one of these systems
    model.eval()
    yield from skipped
    side, own = (read_recipe(source).get("pixels") or {}).get("side"), getattr(model.config, "image_size", None)
    if side not in (None, own):
        yield f"notice: pictures of {own} pixels a side; the model was trained last on pictures of {side}"
    manifest: dict[str, Any] = {
        "system": system_of(model),
        "heads": list(model.heads),
        "config": model.config.model_dump(),
        "weights_sha256": checkpoint.digest(source),
        "tokenizer": tokenizer.fingerprint,
        "paddle": paddle.__version__,
        "unimo": version("unimo-paddle"),
        "parts": {name: _describe(of_system[name], model) for name in chosen},
    }
    with checkpoint.whole_folder(output) as temporary:
        for name in chosen:
            part, shown = of_system[name], manifest["parts"][name]
            write_part(model, part, temporary / name, onnx)
            shown["largest_difference"] = differences = check_part(model, part, temporary / name, shown)
            yield f"{name:<14}" + "".join(f"  {engine} {value:.1e}" for engine, value in differences.items())
        tokenizer.save(temporary)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _describe(part: Part, model: Any) -> dict[str, Any]:
    config = model.config
    sides = {"inputs": part.inputs(config), "outputs": part.outputs(config, model.heads)}
    return {
        side: [{"name": k, "dtype": dtype, "shape": list(shape)} for k, (dtype, shape) in shapes.items()]
        for side, shapes in sides.items()
    }


class _Graph(nn.Layer):
    """A part as a layer that `paddle.jit` can trace: a list of tensors -> a list of tensors."""

    def __init__(self, model: Any, part: Part):
        super().__init__()
        self.model, self.part = model, part
        self.names = list(self.part.inputs(model.config))
        self.constants = {}
        for key, value in self.part.constants(model).items():
            self.constants[key] = self.add_parameter(key, self.create_parameter(value.shape))
            self.constants[key].set_value(value)

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        given = dict(zip(self.names, tensors)) | self.constants
        return list(self.part.compute(self.model, given).values())


def write_part(model: Any, part: Part, folder: Path, onnx: bool) -> None:
    """Trace a part with open lengths and write its files into a new folder."""
    specs = [
        InputSpec([None if isinstance(length, str) else length for length in shape], dtype, key)
        for key, (dtype, shape) in part.inputs(model.config).items()
    ]
    write_graph(_Graph(model, part), specs, folder)
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


def check_part(model: Any, part: Part, folder: Path, described: dict[str, Any]) -> dict[str, float]:
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
        given = random_inputs(part, model.config, lengths, seed)
        with paddle.no_grad():
            computed = part.compute(model, {key: paddle.to_tensor(array) for key, array in given.items()})
        wanted = {key: tensor.numpy() for key, tensor in computed.items()}
        for output in described["outputs"]:
            shape = _lengths(output["shape"], lengths)
            if list(wanted[output["name"]].shape) != shape:
                raise CheckpointError(
                    f"{folder.name}: {output['name']} is {wanted[output['name']].shape}, expected {shape}"
                )
        for engine, run in engines.items():
            worst[engine] = max(worst[engine], *_differences(run(given), wanted).values())
    bad = [f"{engine} {value:.1e}" for engine, value in worst.items() if not value <= TOLERANCE]
    if bad:
        raise CheckpointError(
            f"{folder.name} differs from the model by more than {TOLERANCE:g} of its largest activation: "
            f"{', '.join(bad)}; nothing was written"
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
    {"batch": 2, "tokens": 7, "regions": 5, "cached": 6, "new": 1, "texts": 3, "images": 4, "pairs": 10},
    {"batch": 3, "tokens": 11, "regions": 8, "cached": 9, "new": 2, "texts": 5, "images": 4, "pairs": 6},
)


def _lengths(shape: Sequence[str | int], lengths: dict[str, int]) -> list[int]:
    return [d if isinstance(d, int) else sum(lengths[part] for part in d.split("+")) for d in shape]


def random_inputs(part: Part, config: Any, lengths: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Valid random inputs of a part: rows of different real lengths, the first one full."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    system = described(config)
    tables = {"ids": getattr(config, system.vocabulary), "positions": getattr(config, system.positions)}
    tables |= {"types": getattr(config, "type_vocab_size", 0)}
    rows = {"text_rows": "texts", "image_rows": "images"}
    for key, (dtype, symbols) in part.inputs(config).items():
        shape = _lengths(symbols, lengths)
        if key in tables:
            found[key] = rng.integers(0, tables[key], shape)
        elif key in rows:
            found[key] = rng.integers(0, lengths[rows[key]], shape)
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
