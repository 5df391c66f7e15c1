"""`unimo port convert`: read one format, write another; nothing is written before everything was checked."""

from dataclasses import replace
from pathlib import Path

from unimo.errors import ConfigError
from unimo.models.systems import skeleton
from unimo.port import ours
from unimo.port.checkpoint import Checkpoint, Options
from unimo.port.formats import FORMATS, check_names, detect
from unimo.port.weights import problems, refuse, shapes_of
from unimo.readers.tokenizer import load_tokenizer

# start of our parameter names -> the config key of its attention heads, which no shape shows
ATTENTION_HEADS = {"vit.": "vit_num_attention_heads", "text.": "text_num_attention_heads"}
ATTENTION_HEADS |= dict.fromkeys(("layers.", "grounded.layers.", "tower."), "num_attention_heads")


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
        base: a model folder that the source's parameters are laid over; without one, what the source lacks starts at
            random by `seed`.
        tokenizer: folder of the vocabulary to put into a model folder, where the source has none.

    Raises:
        CheckpointError: the source is damaged, hostile or does not fit; all problems are listed.
        ConfigError: the two formats do not go together.
    """
    check_names(source_format, target_format)
    source_format, options = source_format or detect(source), options or Options()
    below = base and ours.read_folder(base, Options())
    if below and options.system is None:
        options = replace(options, system=below.system)
    checkpoint = FORMATS[source_format].read(source, options)
    if below:
        checkpoint = overlay(checkpoint, below)
    if tokenizer is not None:
        checkpoint = replace(checkpoint, tokenizer=load_tokenizer(tokenizer))
    lines = [f"{source}: {source_format}, {checkpoint.system}, {len(checkpoint.tensors)} parameters"]
    if checkpoint.unused:
        lines.append(f"not used ({len(checkpoint.unused)}): {', '.join(checkpoint.unused)}")
    lines += checkpoint.notes
    if target_format == "unimo":
        lines += ours.write_folder(target, checkpoint, seed)
    else:
        lines += FORMATS[target_format].write(target, checkpoint)
    return [*lines, f"wrote {target}: {target_format}"]


def overlay(checkpoint: Checkpoint, base: Checkpoint) -> Checkpoint:
    """The base model with the parameters of `checkpoint` in place of its own; sizes and heads are the base's.

    Raises:
        CheckpointError: the parameters do not fit; all problems are listed.
    """
    if checkpoint.system != base.system:
        raise ConfigError(f"a checkpoint of {checkpoint.system} cannot be laid over a base model of {base.system}")
    shapes = shapes_of(skeleton(base.system, base.config, base.heads))
    carried = {name: tensor for name, tensor in checkpoint.tensors.items() if name in shapes}
    wrong = problems({name: (name,) for name in carried}, carried, shapes)
    for stack, key in ATTENTION_HEADS.items():
        if any(name.startswith(stack) for name in carried) and hasattr(base.config, key):
            theirs, there = getattr(checkpoint.config, key), getattr(base.config, key)
            wrong += [f"{key}: {theirs}, expected {there}"] * (theirs != there)
    refuse("what was read", wrong)
    kept = {name.split(".")[0] for name in shapes if name not in carried}
    left = {name.split(".")[0] for name in checkpoint.tensors if name not in carried}
    notes = [f"from the base model: {', '.join(sorted(kept))}"] * bool(kept)
    notes += [f"the base model has no place for: {', '.join(sorted(left))}"] * bool(left)
    return replace(
        checkpoint,
        config=base.config,
        heads=base.heads,
        tensors={**base.tensors, **carried},
        tokenizer=checkpoint.tokenizer or base.tokenizer,
        notes=(*checkpoint.notes, *notes),
    )
