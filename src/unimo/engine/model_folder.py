"""A folder that a UNIMO can be rebuilt from: config.json, model.safetensors, tokenizer.json; a checkpoint is one."""

import json
from collections.abc import Iterable
from pathlib import Path

from unimo.config import validate
from unimo.engine import checkpoint
from unimo.errors import CheckpointError
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.readers.tokenizer import Tokenizer, load_tokenizer

CONFIG = "config.json"


def write_description(folder: Path, model: Unimo, tokenizer: Tokenizer) -> None:
    """Write what `read_model` needs besides the weights."""
    values = {"system": "unimo", "heads": model.heads, **model.config.model_dump()}
    (folder / CONFIG).write_text(json.dumps(values, indent=1), encoding="utf-8")
    tokenizer.save(folder)


def write_model(folder: Path, model: Unimo, tokenizer: Tokenizer) -> None:
    """Write a whole model folder, atomically; an earlier model folder of that name is replaced.

    Raises:
        CheckpointError: `folder` exists and is something else.
    """
    folder = folder.resolve()
    if folder.exists() and checkpoint.torn(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists and is not a model folder; name a new one")
    with checkpoint.whole_folder(folder) as temporary:
        checkpoint.write_model(temporary, model)
        write_description(temporary, model, tokenizer)


def locate(path: str | Path) -> Path:
    """The model folder that a user means: the folder itself, or a run's best checkpoint, else its newest whole one.

    Raises:
        CheckpointError: it is neither.
    """
    path = Path(path)
    if (path / CONFIG).is_file():
        return path
    found = checkpoint.find_best(path) or checkpoint.find_latest(path)
    if found is None:
        raise CheckpointError(f"{path} holds neither a model ({CONFIG}) nor a whole checkpoint of a run")
    return found


def with_heads(model: Unimo, heads: Iterable[str]) -> tuple[Unimo, list[str]]:
    """A model of the same config with exactly these heads, and the names of the heads that start at random."""
    fresh = Unimo(model.config, heads)
    there = model.state_dict()
    ours = fresh.state_dict()
    for name, tensor in ours.items():
        if name in there:
            tensor.set_value(there[name])
    return fresh, sorted({name.split(".")[0] for name in ours.keys() - there.keys()})


def read_model(folder: str | Path) -> tuple[Unimo, Tokenizer]:
    """Rebuild model and tokenizer from a folder that `locate` gave.

    Raises:
        CheckpointError: torn or damaged folder, or weights that do not fit its config.
        ConfigError: a config.json of another system or of wrong values.
    """
    folder = Path(folder)
    problem = checkpoint.torn(folder)
    if problem:
        raise CheckpointError(f"{folder} is torn: {problem}; use another checkpoint")
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        system, heads = values.pop("system"), values.pop("heads")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{folder / CONFIG} is not a model's config ({error!r})") from error
    if system != "unimo":
        raise CheckpointError(f"{folder} holds a model of system {system!r}, expected 'unimo'")
    model = Unimo(validate(UnimoConfig, values, source=str(folder / CONFIG)), heads)
    checkpoint.load_model(folder, model)
    return model, load_tokenizer(folder)
