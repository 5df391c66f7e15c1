"""A model from a name of the zoo or from any folder or file that holds one, and back into a folder."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from paddle import nn

from unimo.engine import model_folder
from unimo.errors import CheckpointError
from unimo.models.systems import system_of
from unimo.port.convert import fitting
from unimo.port.formats import FORMATS, detect
from unimo.port.interchange import Checkpoint, Options, build
from unimo.port.ours import parts_without, read_folder
from unimo.port.weights import fill, finite, shapes_of
from unimo.readers.tokenizer import Tokenizer
from unimo.zoo.catalogue import PORT_RECORD, named, read_record
from unimo.zoo.released import fetch, part_names


def from_pretrained(
    name_or_path: str | Path, heads: Iterable[str] | None = None, system: str | None = None
) -> nn.Layer:
    """A model in eval mode with its weights; `model.tokenizer` is its Tokenizer, or None where it has none.

    Args:
        name_or_path: a name of the zoo, fetched if need be; a model folder or run folder of this toolkit; or a
            checkpoint of any format that tells itself (port.formats), which is ported on the fly.
        heads: those to build; default: those of the checkpoint. One that the checkpoint lacks starts at random, and a
            warning names it.
        system: unimo, unimo-2 or oner; what an encoder of another library is to be a part of.

    Raises:
        ConfigError: no such name, or heads that the system does not have.
        CheckpointError, DataError: it could not be fetched, or is torn, damaged or hostile.
    """
    path = Path(name_or_path)
    form = _format_of(path) if path.exists() else "unimo"
    if form != "unimo":
        warnings.warn(
            f"{path} is a checkpoint of format {form}, ported on the fly; once and for all: "
            f"{_convert_command(path, form)}",
            stacklevel=2,
        )
    checkpoint, random = read_any(name_or_path, Options(system=system))
    model, lacking = build(checkpoint, heads)
    random = sorted({*random, *part_names(lacking)} & {*part_names(shapes_of(model))})
    if random:
        warnings.warn(f"{name_or_path} does not hold {', '.join(random)}, which start at random", stacklevel=2)
    model.tokenizer = checkpoint.tokenizer
    return model


def read_any(name_or_path: str | Path, options: Options | None = None) -> tuple[Checkpoint, list[str]]:
    """What lies at a name of the zoo (fetched if need be) or a path, of any format that tells itself.

    Returns:
        The checkpoint, and the parts of it that were at random when it was ported.

    Raises:
        ConfigError: neither a path nor a name, or options that do not go with what is there.
        CheckpointError, DataError: nothing usable there, or it could not be fetched.
    """
    path, options = Path(name_or_path), options or Options()
    form = _format_of(path) if path.exists() else "unimo"
    if form != "unimo":
        return FORMATS[form].read(path, options), []
    folder = locate(name_or_path)
    return read_folder(folder, options), read_record(folder / PORT_RECORD).get("random", [])


def start(model: nn.Layer, *names_or_paths: str | Path) -> list[str]:
    """Set all parameters of a model that a checkpoint holds, or one of several; the others keep their values.

    What does not fit is found before any is set, a value that is not finite only when its turn comes.
    An encoder of another library, which starts a part of the model, is read by the model's sizes: of more layers or
    positions than the model has it gives the first ones. So is a release, whose variables must have these sizes.

    Args:
        names_or_paths: each as of `from_pretrained`; a later one wins where two hold the same.

    Returns:
        What a person should know, one fact a line.

    Raises:
        ConfigError: neither a path nor a name, or a checkpoint of another system.
        CheckpointError: damaged, a value that is not finite, or all that does not fit the model.
        DataError: it could not be fetched.
    """
    system, shapes = system_of(model), shapes_of(model)
    loaded, facts, lacking = [], [], []
    for source in names_or_paths:
        checkpoint, random = read_any(source, Options(system=system, config=model.config))
        carried, notes = fitting(checkpoint, system, model.config, shapes, str(source))
        try:
            fill(model, finite(carried))
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from error
        loaded.append(f"loaded {len(carried)} of {len(shapes)} parameters from {source}")
        lacking.append({*parts_without(carried, shapes), *({*random} & {*part_names(shapes)})})
        unused = (*checkpoint.unused, *(name for name in checkpoint.tensors if name not in carried))
        facts += replace(checkpoint, unused=unused, notes=(*checkpoint.notes, *notes)).facts()
    if random := sorted(set.intersection(*lacking)) if lacking else []:
        where = "the checkpoint" if len(lacking) == 1 else f"any of the {len(lacking)} checkpoints"
        loaded.append(f"not in {where}, starting at random: {', '.join(random)}")
    return loaded + facts


def save_pretrained(model: nn.Layer, path: str | Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model folder that `from_pretrained` and every command takes; an earlier one there is replaced.

    Args:
        tokenizer: default: the one that `from_pretrained` gave to the model.

    Raises:
        CheckpointError: `path` exists and is no model folder, or cannot be written.
    """
    model_folder.write_model(Path(path), model, tokenizer or getattr(model, "tokenizer", None))


def locate(name_or_path: str | Path) -> Path:
    """The model folder that a name of the zoo (fetched if need be) or a path means. A path that exists comes first.

    Raises:
        ConfigError: neither a path nor a name.
        CheckpointError, DataError: nothing usable there, or it could not be fetched.
    """
    path = Path(name_or_path)
    entry = named(name_or_path)
    if entry:
        return fetch(entry)
    form = _format_of(path)
    if form != "unimo":
        raise CheckpointError(f"{path} is a checkpoint of format {form}; convert it: {_convert_command(path, form)}")
    return model_folder.locate(path)


def _format_of(path: Path) -> str:
    """The format of what is there; a folder that tells none is left to `model_folder.locate`, which says what it lacks.

    Raises:
        CheckpointError: a file that is damaged or tells none.
    """
    try:
        return detect(path)
    except CheckpointError:
        if path.is_file():
            raise
        return "unimo"


def _convert_command(path: Path, form: str) -> str:
    vocabulary = " --tokenizer model_files/dict" if form.startswith("release") else ""
    return f"unimo port convert {path} FOLDER{vocabulary}"
