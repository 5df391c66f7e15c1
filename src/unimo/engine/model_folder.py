"""A folder that a model can be rebuilt from: config.json, model.safetensors, tokenizer.json; a checkpoint is one."""

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from paddle import nn

from unimo.config import Config, dump, read, validate
from unimo.console import say
from unimo.engine import checkpoint
from unimo.errors import CheckpointError
from unimo.models.systems import SYSTEMS, skeleton, system_of
from unimo.readers.feature_store import made_by
from unimo.readers.tokenizer import FILE as TOKENIZER
from unimo.readers.tokenizer import Tokenizer, load_tokenizer
from unimo.storage.json_files import read_json

CONFIG, RECIPE, FEATURES, SEEN = "config.json", "recipe.yaml", "features.json", "seen.json"


def write_description(
    folder: Path,
    model: nn.Layer,
    tokenizer: Tokenizer | None,
    recipe: Config | None = None,
    features: Mapping[str, Any] | None = None,
    seen: Mapping[str, Any] | None = None,
) -> None:
    """Write what `read_model` needs besides the weights, and what they are trained by.

    Args:
        features: what made the features of the pictures that the model learns from, if they have any.
        seen: as `seen.Seen` says it.
    """
    describe(folder, system_of(model), model.config, model.heads, tokenizer)
    if recipe is not None:
        (folder / RECIPE).write_text(dump(recipe), encoding="utf-8")
    if features:
        (folder / FEATURES).write_text(json.dumps(dict(features), indent=1), encoding="utf-8")
    if seen is not None:
        (folder / SEEN).write_text(json.dumps(dict(seen), indent=1, ensure_ascii=False), encoding="utf-8")


def other_features(folder: Path, features: Mapping[str, Any]) -> str | None:
    """What to say where a model learnt from other features than these; None where none differ, or nobody knows."""
    learnt = made_by(read_json(folder / FEATURES, CheckpointError)) if (folder / FEATURES).is_file() else {}
    differing = [key for key in {**learnt, **features} if learnt.get(key) != features.get(key)]
    if not learnt or not features or not differing:
        return None
    shown = "; ".join(f"{key} {learnt.get(key)} there, {features.get(key)} here" for key in differing)
    return f"warning: {folder} learnt from other features than these, so its scores mean little: {shown}"


def read_recipe(folder: Path) -> dict[str, Any]:
    """The values of the recipe that a model was trained by: its own, else those of the run that it is a checkpoint of
    (earlier versions kept no recipe beside a fine-tuned model); empty where neither says."""
    for path in (folder / RECIPE, folder.parent.parent / "config.yaml"):
        if path.is_file() and (path.parent == folder or folder.parent.name == "checkpoints"):
            return read(path)
    return {}


def describe(folder: Path, system: str, config: Any, heads: Iterable[str], tokenizer: Tokenizer | None) -> None:
    """`write_description` of a model that is not in memory."""
    values = {"system": system, "heads": tuple(heads), **config.model_dump()}
    (folder / CONFIG).write_text(json.dumps(values, indent=1), encoding="utf-8")
    if tokenizer is not None:
        tokenizer.save(folder)


def write_model(
    folder: Path, model: nn.Layer, tokenizer: Tokenizer | None, seen: Mapping[str, Any] | None = None
) -> None:
    """Write a whole model folder, atomically; an earlier model folder of that name is replaced.

    Raises:
        CheckpointError: `folder` exists and is something else.
    """
    folder = folder.resolve()
    check_replaceable(folder)
    with checkpoint.whole_folder(folder) as temporary:
        checkpoint.write_model(temporary, model)
        write_description(temporary, model, tokenizer, seen=seen)


def check_replaceable(folder: Path) -> None:
    """Raise a CheckpointError if `folder` holds anything but what this toolkit wrote whole."""
    if folder.exists() and checkpoint.torn(folder, contents=False) and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists and is not a model folder; name a new one")


def locate(path: str | Path) -> Path:
    """The model folder that a user means: the folder itself, or a run's best checkpoint, else its newest whole one.

    Raises:
        CheckpointError: it is neither.
    """
    path = Path(path)
    if (path / CONFIG).is_file():
        return path
    if (best := checkpoint.find_best(path)) is not None:
        return best
    newest = checkpoint.find_latest(path)
    if newest is None:
        raise CheckpointError(f"{path} holds neither a model ({CONFIG}) nor a whole checkpoint of a run")
    known = checkpoint.read_trainer_state(newest).get("best") if (newest / checkpoint.TRAINER).is_file() else None
    if known:
        say(f"warning: taking {newest}; its run found step {known['step']} best, but there is no {checkpoint.BEST}")
    return newest


def read_description(folder: Path) -> tuple[str, Any, tuple[str, ...]]:
    """System, config and heads of a model folder; raises as below, and a CheckpointError where it is not what was
    written. A folder without the marker is taken as it is: somebody changed it on purpose."""
    problem = checkpoint.torn(folder) if (folder / checkpoint.MARKER).exists() else None
    if problem:
        hint = f"use another checkpoint, or delete its file {checkpoint.MARKER} if you changed it yourself"
        raise CheckpointError(f"{folder} is torn: {problem}; {hint}")
    return parse_description(folder / CONFIG)


def parse_description(path: Path) -> tuple[str, Any, tuple[str, ...]]:
    """System, config and heads that a model's config.json names.

    Raises:
        CheckpointError: it is not such a file, or of a system that is not ours.
        ConfigError: wrong values.
    """
    values = read_json(path, CheckpointError, "it should be a model's config")
    try:
        system, heads = values.pop("system"), tuple(values.pop("heads"))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not a model's config ({error!r})") from error
    if not isinstance(system, str) or system not in SYSTEMS:
        raise CheckpointError(f"{path} is of a model of system {system!r}, expected one of {', '.join(SYSTEMS)}")
    if not all(isinstance(head, str) for head in heads):
        raise CheckpointError(f"{path}: heads are {str(heads)[:100]}, expected names")
    return system, validate(SYSTEMS[system].config, values, source=str(path)), heads


def read_sizes(folder: Path, systems: Collection[str] = ("unimo",)) -> tuple[Any, tuple[str, ...]]:
    """Config and heads of a model folder by its config.json alone: what data is opened by, before weights are read.

    Raises:
        CheckpointError, ConfigError: as `parse_description`, or of another system than those that the caller can use.
    """
    system, config, heads = parse_description(folder / CONFIG)
    _check_system(folder, system, systems)
    return config, heads


def _check_system(folder: Path, system: str, systems: Collection[str]) -> None:
    if system not in systems:
        raise CheckpointError(f"{folder} holds a model of system {system!r}, expected {' or '.join(systems)}")


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer, or None where it was written without one."""
    return load_tokenizer(folder) if (folder / TOKENIZER).is_file() else None


def read_model(folder: str | Path, systems: Collection[str] = ("unimo",)) -> tuple[nn.Layer, Tokenizer]:
    """`read_network` and the folder's tokenizer; raises a DataError, too: no tokenizer, or a damaged one."""
    return read_network(folder, systems), load_tokenizer(folder)


def read_network(folder: str | Path, systems: Collection[str] = ("unimo",)) -> nn.Layer:
    """Rebuild the model from a folder that `locate` gave.

    Args:
        systems: those that the caller can use.

    Raises:
        CheckpointError: torn or damaged folder, of another system, or weights that do not fit its config.
        ConfigError: a config.json of wrong values.
    """
    folder = Path(folder)
    system, config, heads = read_description(folder)
    _check_system(folder, system, systems)
    model = skeleton(system, config, heads)
    checkpoint.load_model(folder, model)
    return model
