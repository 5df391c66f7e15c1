"""The hub of all conversions: a checkpoint in our terms, whatever it was read from and will be written as."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
