"""The hub of all conversions: a checkpoint in our terms, whatever it was read from and will be written as."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddle import nn

from unimo.config import Config, load, validate
from unimo.errors import ConfigError
from unimo.models.systems import SYSTEMS, skeleton
from unimo.port.weights import Stored, fill, finite
from unimo.readers.tokenizer import Tokenizer
from unimo.storage.json_files import read_json


@dataclass(frozen=True)
class Options:
    """What a foreign format may not say of itself and the user does."""

    system: str | None = None  # which of our systems a general encoder (BERT, ViT) is to start; None: the natural one
    config: Path | Config | None = None  # sizes: the release's json, a config.json or YAML file of ours, or a config
    names: Path | None = None  # variable names of a combined file, one a line
    optimizer: bool = False  # take moments and step too


@dataclass(frozen=True)
class Checkpoint:
    """A model by our names, of which nothing is in memory yet.

    `tensors` may lack parameters of the model: an encoder of another library starts only a part of it.
    """

    system: str  # key of models.systems.SYSTEMS
    config: Any
    heads: tuple[str, ...]
    tensors: Mapping[str, Stored]
    tokenizer: Tokenizer | None = None
    unused: tuple[str, ...] = ()  # tensors of the source that the model has no place for
    notes: tuple[str, ...] = ()  # what a person should know of this conversion, one fact each
    optimizer: Mapping[str, Stored] | None = None  # moments and beta powers as engine.optimizer names them
    step: int = 0  # updates that the moments come from

    def facts(self) -> list[str]:
        """What a person should know of how it was read, one fact a line."""
        unused = [f"not used ({len(self.unused)}): {', '.join(self.unused)}"] if self.unused else []
        return [*unused, *self.notes]


def given_config(given: Path | Config, system: str, source: Path) -> Any:
    """Sizes of `system` for a checkpoint at `source`: a config as it is, or what a file says.

    Args:
        given: a config; or a YAML file, a config.json of ours, or a release's json, which knows fewer keys.

    Raises:
        ConfigError: a file that is none of these, or sizes of another system than the checkpoint's.
    """
    schema = SYSTEMS[system].config
    if isinstance(given, Config):
        if isinstance(given, schema):
            return given
        other = next((name for name, known in SYSTEMS.items() if isinstance(given, known.config)), type(given).__name__)
        raise ConfigError(f"{source} is of {system}, the sizes given are those of {other}")
    if given.suffix == ".yaml":
        return load(schema, given)
    values = read_json(given, ConfigError)
    if values.get("system", system) != system:
        raise ConfigError(f"{given} is a config of {values['system']}, expected one of {system}")
    if "system" in values or not hasattr(schema, "from_release"):
        return validate(schema, {k: v for k, v in values.items() if k not in ("system", "heads")}, str(given))
    return schema.from_release(values, source=str(given))


def build(checkpoint: Checkpoint, heads: Iterable[str] | None = None) -> tuple[nn.Layer, list[str]]:
    """A model in eval mode with the checkpoint's weights, and the names of the parameters that start at random.

    Args:
        heads: those to build; default: those of the checkpoint.

    Raises:
        CheckpointError: a tensor is damaged or holds a value that is not finite.
        ConfigError: heads that the system does not have.
    """
    model = skeleton(checkpoint.system, checkpoint.config, checkpoint.heads if heads is None else heads)
    parameters = dict(model.named_parameters())
    fill(model, finite({name: tensor for name, tensor in checkpoint.tensors.items() if name in parameters}))
    lacking = [name for name in parameters if name not in checkpoint.tensors]
    for name in lacking:
        parameters[name].initialize()
    model.eval()
    return model, lacking
