"""`unimo port convert`: read one format, write another; nothing is written before everything was checked."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from unimo.config import Config
from unimo.errors import ConfigError
from unimo.models.systems import skeleton
from unimo.port import ours
from unimo.port.formats import FORMATS, check_names, check_options, detect
from unimo.port.interchange import Checkpoint, Options
from unimo.port.weights import Stored, finite, problems, refuse, shapes_of
from unimo.readers.tokenizer import Tokenizer, load_tokenizer

OWN = ("unimo", "safetensors", "pdparams")  # formats that name their sizes as we do
MOMENTS = tuple(name for name, form in FORMATS.items() if "optimizer" in form.takes)
# start of our parameter names -> the config keys that change what they compute and that no shape shows
UNSEEN = {
    "layers.": ("num_attention_heads", "hidden_act", "type_vocab_size"),
    "text.": ("text_num_attention_heads",),
    "vit.": ("vit_num_attention_heads",),
    "grounded.layers.": ("num_attention_heads",),
    "tower.": ("num_attention_heads",),
}
# heads that a task or detector sizes
TASK_SIZES = {"classify.": "num_labels", "entail.": "num_labels", "region_class.": "image_class_size"}


def convert(
    source: Path,
    target: Path,
    source_format: str | None = None,
    target_format: str = "unimo",
    options: Options | None = None,
    base: Path | None = None,
    tokenizer: Path | None = None,
    seed: int = 1,
) -> list[str]:
    """Convert a checkpoint. Returns what a person should know, one fact a line.

    Args:
        source_format: a key of FORMATS; None tells it from the contents.
        base: a model folder that the source's parameters are laid over, read by its sizes unless the options name
            some; without one, what the source lacks starts at random by `seed`.
        tokenizer: folder of the vocabulary to put into a model folder instead of the source's.

    Raises:
        CheckpointError: the source is damaged, hostile or does not fit (all problems are listed), or holds a value
            that is not finite.
        ConfigError: formats, options or vocabulary that do not go together.
    """
    check_names(source_format, target_format)
    source_format, options = source_format or detect(source), options or Options()
    check_options(source_format, options)
    if options.optimizer:
        _check_optimizer((source_format, target_format), base)
    asked, below = options.system, base and ours.read_folder(base, Options())
    if below:
        sizes = None if source_format in OWN else below.config
        options = replace(options, system=asked or below.system, config=options.config or sizes)
    checkpoint = FORMATS[source_format].read(source, options)
    if asked and checkpoint.system != asked:
        raise ConfigError(f"{source} is of {checkpoint.system}, not of {asked}")
    if below:
        checkpoint = overlay(checkpoint, below, str(source))
    if tokenizer is not None:
        checkpoint = replace(checkpoint, tokenizer=_fitting_tokenizer(tokenizer, checkpoint))
    checkpoint = replace(checkpoint, tensors=finite(checkpoint.tensors))
    lines = [f"{source}: {source_format}, {checkpoint.system}, {len(checkpoint.tensors)} parameters"]
    lines += checkpoint.facts()
    if checkpoint.tokenizer is not None and not FORMATS[target_format].tokenizer:
        lines.append(f"the vocabulary is not carried, {target_format} has no place for it")
    if target_format == "unimo":
        lines += ours.write_folder(target, checkpoint, seed)
    else:
        lines += FORMATS[target_format].write(target, checkpoint)
    return [*lines, f"wrote {target}: {target_format}"]


def _check_optimizer(formats: tuple[str, str], base: Path | None) -> None:
    lacking = [name for name in formats if name not in MOMENTS]
    if lacking:
        raise ConfigError(f"--optimizer: {' and '.join(lacking)} cannot hold moments; {', '.join(MOMENTS)} can")
    if base:
        raise ConfigError("--optimizer and --base do not go together: the base model's parameters have no moments")


def _fitting_tokenizer(folder: Path, checkpoint: Checkpoint) -> Tokenizer:
    if checkpoint.system == "bottom-up-attention":
        raise ConfigError("--tokenizer: a detector reads no text; leave it out")
    tokenizer, config = load_tokenizer(folder), checkpoint.config
    rows = config.text_vocab_size if checkpoint.system == "unimo-2" else config.vocab_size
    if tokenizer.vocab_size > rows:
        raise ConfigError(f"the vocabulary of {folder} has {tokenizer.vocab_size} tokens, the word table {rows} rows")
    return tokenizer


def overlay(checkpoint: Checkpoint, base: Checkpoint, source: str) -> Checkpoint:
    """The base model with the parameters of `checkpoint` in place of its own; sizes and heads are the base's.

    Raises:
        ConfigError, CheckpointError: as of `fitting`.
    """
    shapes = shapes_of(skeleton(base.system, base.config, base.heads))
    carried, notes = fitting(checkpoint, base.system, base.config, shapes, source)
    kept = {name.split(".")[0] for name in shapes if name not in carried}
    left = {name.split(".")[0] for name in checkpoint.tensors if name not in carried}
    if kept:
        notes.append(f"from the base model: {', '.join(sorted(kept))}")
    if left:
        notes.append(f"the base model has no place for: {', '.join(sorted(left))}")
    return replace(
        checkpoint,
        config=base.config,
        heads=base.heads,
        tensors={**base.tensors, **carried},
        tokenizer=checkpoint.tokenizer or base.tokenizer,
        notes=(*checkpoint.notes, *notes),
    )


def fitting(
    checkpoint: Checkpoint, system: str, config: Config, shapes: Mapping[str, tuple[int, ...]], source: str
) -> tuple[dict[str, Stored], list[str]]:
    """What of a checkpoint has a place in a model: its parameters by name, and notes for people.

    Heads that a task sizes otherwise are left out, and a note names them. Stacks of more layers give their first ones.

    Args:
        shapes: of all parameters of the model, which is of `system` and has these sizes.

    Raises:
        ConfigError: the checkpoint is of another system.
        CheckpointError: the parameters do not fit, or are of a model that computes otherwise; all problems are listed.
    """
    if checkpoint.system != system:
        raise ConfigError(f"{source} is of {checkpoint.system}; it cannot be laid over a model of {system}")
    theirs, notes = checkpoint.config, []
    carried = {name: tensor for name, tensor in checkpoint.tensors.items() if name in shapes}
    for head, key in TASK_SIZES.items():
        held = [name for name in carried if name.startswith(head)]
        if held and getattr(theirs, key) != getattr(config, key):
            notes.append(
                f"{head[:-1]} is not taken: {key} is {getattr(theirs, key)} there, {getattr(config, key)} here"
            )
            carried = {name: tensor for name, tensor in carried.items() if name not in held}
    wrong = problems({name: (name,) for name in carried}, carried, shapes)
    for start, keys in UNSEEN.items():
        for key in keys if any(name.startswith(start) for name in carried) else ():
            there, here = getattr(theirs, key), getattr(config, key)
            if there != here:
                wrong.append(f"{key}: {there}, expected {here}")
    found, wanted = _depths(carried), _depths(shapes)
    wrong += [
        f"{stack}: {n} layers, expected {wanted[stack]} or more" for stack, n in found.items() if n < wanted[stack]
    ]
    refuse(source, wrong)
    for key in (key for key in type(config).model_fields if key.endswith("layer_norm_eps")):
        there, here = getattr(theirs, key), getattr(config, key)
        if there != here:
            notes.append(f"{key} is {here} here, {there} in {source}")
    return carried, notes


def _depths(names: Iterable[str]) -> dict[str, int]:
    """How many layers the stacks of blocks have that parameters of these names belong to."""
    layers = {match[0] for match in (re.match(r"(?:\w+\.)?layers\.\d+\.", name) for name in names) if match}
    stacks = [layer.rstrip(".").rpartition(".")[0] for layer in layers]
    return {stack: stacks.count(stack) for stack in sorted({*stacks})}
