"""The systems by the name that a model folder's config.json carries."""

from collections.abc import Callable
from typing import Any, NamedTuple

from paddle import nn

from unimo.config import Config
from unimo.models.unimo import Unimo, UnimoConfig


class System(NamedTuple):
    """Size config and network of one system."""

    config: type[Config]
    model: Callable[[Any, Any], nn.Layer]  # (config, heads)


SYSTEMS = {"unimo": System(UnimoConfig, Unimo)}
