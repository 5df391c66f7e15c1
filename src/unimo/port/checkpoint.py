"""The hub of all conversions: a checkpoint in our terms, whatever it was read from and will be written as."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimo.config import Config, load, validate
from unimo.errors import ConfigError
from unimo.models.systems import SYSTEMS
from unimo.port.golden import read_json
from unimo.port.weights import Stored
from unimo.readers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Options:
    """What a foreign format may not say of itself and the user does."""

    system: str | None = None  # which of our systems a general encoder (BERT, ViT) is to start; None: the natural one
    config: Path | None = None  # sizes: the release's json, or a config.json of ours
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


def given_config(path: Path, system: str) -> Config:
    """The sizes that the user names: a YAML file, a config.json of ours, or a release's json, which knows fewer keys.

    Raises:
        ConfigError: it is none, or of another system.
    """
    schema = SYSTEMS[system].config
    if path.suffix == ".yaml":
        return load(schema, path)
    values = read_json(path)
    if values.get("system", system) != system:
        raise ConfigError(f"{path} is a config of {values['system']}, expected one of {system}")
    if "system" in values or not hasattr(schema, "from_release"):
        return validate(schema, {k: v for k, v in values.items() if k not in ("system", "heads")}, str(path))
    return schema.from_release(values, source=str(path))
