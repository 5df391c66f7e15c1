"""The systems by the name that a model folder's config.json carries."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import paddle
from paddle import nn

from unimo.config import Config
from unimo.errors import ConfigError
from unimo.models.detector import FasterRCNN, FasterRCNNConfig
from unimo.models.oner import Oner, OnerConfig
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config


class System(NamedTuple):
    """Size config and network of one system."""

    config: type[Config]
    model: Callable[..., nn.Layer]  # (config, heads)


SYSTEMS = {
    "unimo": System(UnimoConfig, Unimo),
    "unimo-2": System(Unimo2Config, Unimo2),
    "oner": System(OnerConfig, Oner),
    "bottom-up-attention": System(FasterRCNNConfig, FasterRCNN),
}


def system_of(model: nn.Layer) -> str:
    """The name of a model's system; raises a ConfigError for another network."""
    for name, system in SYSTEMS.items():
        if isinstance(model, system.model):
            return name
    raise ConfigError(f"a {type(model).__name__} is no model of {', '.join(SYSTEMS)}")


def skeleton(system: str, config: Any, heads: Iterable[str]) -> nn.Layer:
    """A model with names and shapes but no values: even the large one takes milliseconds and no memory.

    A parameter gets values by `set_value`, or its random start by `initialize()`.
    """
    with paddle.LazyGuard():
        return SYSTEMS[system].model(config, heads)
