"""Run the parts of an export folder with Paddle's inference engine; needs nothing of the model's code.

manifest.json of the folder says which parts there are, their inputs and outputs in order, with dtype and shape.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, inference

from unimo.errors import CheckpointError, DataError
from unimo.inference import predictor_config
from unimo.storage.json_files import read_json

MANIFEST = "manifest.json"
_FEW_ROWS = "decode_step"

Run = Callable[[Mapping[str, np.ndarray | Tensor]], dict[str, Tensor]]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export folder.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    hint = f"{folder} is not an export folder; `unimo export` writes one"
    manifest = read_json(folder / MANIFEST, CheckpointError, hint)
    if not isinstance(manifest.get("parts"), dict):
        raise CheckpointError(f"{folder / MANIFEST} lists no parts; {hint}")
    return manifest


def open_part(folder: Path, name: str) -> Run:
    """A part of an export folder as a function of its named inputs, run on the CPU with oneDNN.

    Tensors that one call returns can be given to the next one, as decoding does with its keys and values.

    Raises:
        CheckpointError: no such folder or part, or a damaged graph.
    """
    parts = read_manifest(folder)["parts"]
    if name not in parts:
        raise CheckpointError(f"{folder} holds no part {name!r}; it has {', '.join(parts)}")
    return run_graph(folder / name, parts[name])


def run_graph(folder: Path, part: dict[str, Any]) -> Run:
    """`open_part` of one part's folder, described by `part` as in the manifest."""
    inputs = {given["name"]: given for given in part["inputs"]}
    outputs = [output["name"] for output in part["outputs"]]
    try:
        predictor = inference.create_predictor(predictor_config(folder, few_rows=folder.name == _FEW_ROWS))
    except (RuntimeError, ValueError, OSError) as error:  # what Paddle's C++ throws
        raise CheckpointError(
            f"{folder} holds no readable graph ({str(error).strip()[-200:]}); export again"
        ) from error
    order = predictor.get_input_names()

    def run(given: Mapping[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
        problems = [f"unknown: {name}" for name in given if name not in inputs]
        found = [_problem(expected, given.get(name)) for name, expected in inputs.items()]
        problems += [problem for problem in found if problem]
        if problems:
            raise DataError(f"wrong inputs of {folder.name}\n  - " + "\n  - ".join(problems))
        tensors = [g if isinstance(g, Tensor) else paddle.to_tensor(g) for g in (given[name] for name in order)]
        return dict(zip(outputs, predictor.run(tensors), strict=True))

    return run


def _problem(expected: dict[str, Any], given: np.ndarray | Tensor | None) -> str | None:
    name, dtype, shape = expected["name"], expected["dtype"], expected["shape"]
    if given is None:
        return f"missing: {name} {dtype} {shape}"
    found = str(given.dtype).removeprefix("paddle.")
    fits = len(given.shape) == len(shape) and all(isinstance(d, str) or d == n for d, n in zip(shape, given.shape))
    return None if found == dtype and fits else f"{name}: {found} {list(given.shape)}, expected {dtype} {shape}"
