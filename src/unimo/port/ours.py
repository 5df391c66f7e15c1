"""Our own forms of a checkpoint: the model folder, and one file of our parameter names (safetensors or .pdparams)."""

import json
import pickle
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from unimo.engine import checkpoint as folders
from unimo.engine.model_folder import (
    CONFIG,
    check_replaceable,
    describe,
    locate,
    parse_description,
    read_description,
    read_tokenizer,
)
from unimo.errors import CheckpointError, ConfigError
from unimo.models.systems import skeleton
from unimo.port.files.tensor_files import open_tensors
from unimo.port.interchange import Checkpoint, Options
from unimo.port.weights import Stored, gather, problems, refuse, shapes_of
from unimo.readers.tokenizer import Tokenizer
from unimo.storage.atomic import atomic_write
from unimo.storage.safetensors_writer import write_safetensors, write_safetensors_to


def read_folder(path: Path, options: Options) -> Checkpoint:
    """A model folder or the best checkpoint of a run."""
    folder = locate(path)
    system, config, heads = read_description(folder)
    tokenizer = read_tokenizer(folder)
    found = _of_our_names(folder, open_tensors(folder / folders.MODEL), system, config, heads, tokenizer)
    if not options.optimizer:
        return found
    if not (folder / folders.OPTIMIZER).is_file():
        raise CheckpointError(f"{folder} holds no {folders.OPTIMIZER}: it is no training checkpoint; omit --optimizer")
    step = folders.read_trainer_state(folder)["step"]
    return replace(found, optimizer=open_tensors(folder / folders.OPTIMIZER), step=step)


def write_folder(path: Path, checkpoint: Checkpoint, seed: int = 1) -> list[str]:
    """Write a model folder; parameters that the checkpoint lacks get a random start by `seed`.

    Returns:
        What was made up, for the report.

    Raises:
        CheckpointError: `path` exists and is something else.
    """
    path = path.resolve()
    check_replaceable(path)
    model = skeleton(checkpoint.system, checkpoint.config, checkpoint.heads)
    shapes, parameters, tensors = shapes_of(model), dict(model.named_parameters()), checkpoint.tensors
    paddle.seed(seed)

    def values() -> Iterator[np.ndarray]:
        for name in shapes:
            if name in tensors:
                yield tensors[name].read()
            else:
                parameters[name].initialize()
                yield parameters[name].numpy()

    with folders.whole_folder(path) as temporary:
        write_safetensors(temporary / folders.MODEL, _float32(shapes), values())
        describe(temporary, checkpoint.system, checkpoint.config, checkpoint.heads, checkpoint.tokenizer)
        if checkpoint.optimizer is not None:
            moments = {name: moment.shape for name, moment in checkpoint.optimizer.items()}
            arrays = (moment.read() for moment in checkpoint.optimizer.values())
            write_safetensors(temporary / folders.OPTIMIZER, _float32(moments), arrays)
            (temporary / folders.TRAINER).write_text(json.dumps({"step": checkpoint.step}), encoding="utf-8")
    random = parts_without(tensors, shapes)
    return [f"not in the checkpoint, starting at random (seed {seed}): {', '.join(random)}"] if random else []


def parts_without(tensors: Container[str], names: Iterable[str]) -> list[str]:
    """The parts of a model, by the starts of its parameters' `names`, that `tensors` does not hold whole."""
    lacking = [name for name in names if name not in tensors]
    partly = {name.split(".")[0] for name in names if name in tensors}
    return sorted({".".join(n.split(".")[: 2 if n.split(".")[0] in partly else 1]) for n in lacking})


def _float32(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[str, list[int]]]:
    return {name: ("float32", list(shape)) for name, shape in shapes.items()}


def read_file(path: Path, options: Options) -> Checkpoint:
    """One file of our parameter names; the sizes are in the file `--config`, or in NAME.config.json or config.json
    beside it. A config that is no file names no heads and is not used."""
    beside = [path.with_name(f"{path.stem}.{CONFIG}"), path.with_name(CONFIG)]
    given = options.config if isinstance(options.config, Path) else None
    description = given or next((p for p in beside if p.is_file()), None)
    if description is None:
        raise ConfigError(
            f"{path.name} holds weights alone and neither {beside[0].name} nor {CONFIG} is beside it; name the "
            "config.json of a model folder (system, heads, sizes) by --config"
        )
    system, config, heads = parse_description(description)
    return _of_our_names(path, open_tensors(path), system, config, heads, None)


def write_safetensors_file(path: Path, checkpoint: Checkpoint) -> list[str]:
    """Write the tensors that there are, and the sizes beside them."""
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    with atomic_write(path) as file:
        write_safetensors_to(file, _float32(shapes), (t.read() for t in checkpoint.tensors.values()))
    return _write_config(path, checkpoint)


def write_pdparams_file(path: Path, checkpoint: Checkpoint) -> list[str]:
    """Write what `paddle.load` and `set_state_dict` take, and the sizes beside it."""
    write_pdparams(path, checkpoint.tensors)
    return _write_config(path, checkpoint)


def write_pdparams(path: Path, tensors: Mapping[str, Stored]) -> None:
    """Write a state dict as `paddle.save` does: a pickle of name -> numpy array. The format holds all in memory."""
    with atomic_write(path) as file:
        pickle.dump({name: np.array(tensor.read()) for name, tensor in tensors.items()}, file, protocol=4)


def _write_config(path: Path, checkpoint: Checkpoint) -> list[str]:
    description = path.with_name(f"{path.stem}.{CONFIG}")
    values = {"system": checkpoint.system, "heads": checkpoint.heads, **checkpoint.config.model_dump()}
    with atomic_write(description) as file:
        file.write(json.dumps(values, indent=1).encode())
    return [f"sizes: {description}"]


def _of_our_names(
    source: Path,
    tensors: dict[str, Stored],
    system: str,
    config: Any,
    heads: tuple[str, ...],
    tokenizer: Tokenizer | None,
) -> Checkpoint:
    """Check tensors against the model that the config describes, and name the rest."""
    shapes = shapes_of(skeleton(system, config, heads))
    table = {name: (name,) for name in shapes}
    refuse(source, problems(table, tensors, shapes))
    unused = tuple(name for name in tensors if name not in shapes)
    return Checkpoint(system, config, heads, gather(table, tensors, shapes), tokenizer, unused)
