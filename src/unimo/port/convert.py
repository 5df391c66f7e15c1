"""`unimo port convert`: read one format, write another; nothing is written before everything was checked."""

from dataclasses import replace
from pathlib import Path

from unimo.errors import ConfigError
from unimo.port import ours
from unimo.port.checkpoint import Options
from unimo.port.formats import FORMATS, detect
from unimo.readers.tokenizer import load_tokenizer


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
        base: a model folder that gives the parameters which the source lacks; else they start at random by `seed`.
        tokenizer: folder of the vocabulary to put into a model folder, where the source has none.

    Raises:
        CheckpointError: the source is damaged, hostile or does not fit; all problems are listed.
        ConfigError: the two formats do not go together.
    """
    source_format = source_format or detect(source)
    write = FORMATS[target_format].write
    if write is None:
        raise ConfigError(f"{target_format} can be read and not written")
    checkpoint = FORMATS[source_format].read(source, options or Options())
    if tokenizer is not None:
        checkpoint = replace(checkpoint, tokenizer=load_tokenizer(tokenizer))
    lines = [f"{source}: {source_format}, {checkpoint.system}, {len(checkpoint.tensors)} parameters"]
    if checkpoint.unused:
        lines.append(f"not used ({len(checkpoint.unused)}): {', '.join(checkpoint.unused)}")
    lines += checkpoint.notes
    if target_format == "unimo":
        lines += ours.write_folder(target, checkpoint, base and ours.read_folder(base, Options()), seed)
    else:
        lines += write(target, checkpoint)
    return [*lines, f"wrote {target}: {target_format}"]
