"""Models by name: fetched, unpacked, ported and cached on first use; read from any folder that holds one.

    model = unimo.zoo.from_pretrained("unimo-base-en", heads=["pool", "match"])
    lines = unimo.zoo.start(another_model, "unimo-base-en")

What is named here is imported when it is first used: the list of models is shown without loading Paddle.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unimo.zoo.pretrained import from_pretrained, locate, read_any, save_pretrained, start
    from unimo.zoo.released import fetch

__all__ = ["fetch", "from_pretrained", "locate", "read_any", "save_pretrained", "start"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from unimo.zoo import pretrained

    return getattr(pretrained, name)
