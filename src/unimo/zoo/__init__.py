"""Models by name: fetched, unpacked, ported and cached on first use; read from any folder that holds one.

    model = unimo.zoo.from_pretrained("unimo-base-en", heads=["pool", "match"])
    lines = unimo.zoo.start(another_model, "unimo-base-en")

What is named here is imported when it is first used: the list of models is shown without loading Paddle.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimo.engine.checkpoint import digest
    from unimo.zoo.pretrained import from_pretrained, locate, read_any, save_pretrained, start
    from unimo.zoo.released import fetch

__all__ = ["digest", "fetch", "from_pretrained", "locate", "read_any", "save_pretrained", "start"]
_HOMES = {"digest": "unimo.engine.checkpoint", "fetch": "unimo.zoo.released"}  # of what is not of pretrained models


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "unimo.zoo.pretrained")), name)
