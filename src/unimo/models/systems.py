"""The one registry of systems, by the name that a model folder's config.json and a recipe's key `system` carry."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import paddle
from paddle import nn

from unimo.config import Config
from unimo.errors import ConfigError
from unimo.models import oner, unimo, unimo2
from unimo.models.faster_rcnn import FasterRCNN, FasterRCNNConfig
from unimo.models.streams import FIRST_POSITION


class System(NamedTuple):
    """One system: its sizes, its network, and what a reader has to know of either."""

    config: type[Config]
    model: Callable[..., nn.Layer]  # (config, heads)
    heads: tuple[str, ...] = ()  # that the network can be built with
    images: Literal["regions", "pixels"] | None = None  # the stream that a picture is to it, beside text
    vocabulary: str = ""  # config key: rows of the word table
    positions: str = ""  # config key: rows of the text's position table


SYSTEMS = {
    "unimo": System(unimo.UnimoConfig, unimo.Unimo, unimo.HEADS, "regions", "vocab_size", "max_position_embeddings"),
    "unimo-2": System(
        unimo2.Unimo2Config, unimo2.Unimo2, unimo2.HEADS, "pixels", "text_vocab_size", "text_max_position_embeddings"
    ),
    "oner": System(oner.OnerConfig, oner.Oner, oner.HEADS, "pixels", "vocab_size", "max_position_embeddings"),
    "bottom-up-attention": System(FasterRCNNConfig, FasterRCNN),
}


def system_of(model: nn.Layer) -> str:
    """The name of a model's system; raises a ConfigError for another network."""
    for name, system in SYSTEMS.items():
        if isinstance(system.model, type) and isinstance(model, system.model):
            return name
    raise ConfigError(f"a {type(model).__name__} is no model of {', '.join(SYSTEMS)}")


def described(config: Config) -> System:
    """The system whose sizes these are; raises a ConfigError for another config."""
    for system in SYSTEMS.values():
        if type(config) is system.config:
            return system
    raise ConfigError(f"a {type(config).__name__} is no size of {', '.join(SYSTEMS)}")


def longest_text(config: Config) -> int:
    """Tokens of the longest text that a model of these sizes has positions for, [CLS] and [SEP] included."""
    return getattr(config, described(config).positions) - FIRST_POSITION


def check_length(max_tokens: int, config: Config) -> None:
    """Raise a ValueError if texts of `max_tokens` do not fit the model's position table."""
    if max_tokens > longest_text(config):
        raise ValueError(f"max_tokens is {max_tokens}, the model has positions for {longest_text(config)}")


def check_vocabulary(tokens: int, config: Config, source: object) -> None:
    """Raise a ConfigError if the vocabulary `source` has more tokens than the model's word table has rows."""
    key = described(config).vocabulary
    if tokens > getattr(config, key):
        raise ConfigError(
            f"the tokenizer {source} has {tokens} tokens, model.{key} is {getattr(config, key)}; "
            f"set model.{key}={tokens}"
        )


def skeleton(system: str, config: Any, heads: Iterable[str]) -> nn.Layer:
    """A model with names and shapes but no values: even the large one takes milliseconds and no memory.

    A parameter gets values by `set_value`, or its random start by `initialize()`.
    """
    with paddle.LazyGuard():
        return SYSTEMS[system].model(config, heads)


def with_heads(model: nn.Layer, heads: Iterable[str], config: Config | None = None) -> tuple[nn.Layer, list[str]]:
    """A model with exactly these heads, and the names of the parts that start at random.

    Args:
        config: sizes that differ from the model's in what only heads have (labels); None: the model's.
    """
    fresh = described(model.config).model(config or model.config, heads)
    there, ours = model.state_dict(), fresh.state_dict()
    fitting = {name for name, tensor in ours.items() if name in there and there[name].shape == tensor.shape}
    random = {name.split(".")[0] for name in ours.keys() - fitting}  # a head of other labels, too: all of it
    for name in ours:
        if name.split(".")[0] not in random:
            ours[name].set_value(there[name])
    return fresh, sorted(random)
