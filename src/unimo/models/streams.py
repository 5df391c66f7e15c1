"""What the three systems read: the named streams of a padded batch."""

from __future__ import annotations  # the types are for readers: nothing that counts tokens needs Paddle

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unimo.errors import ConfigError

if TYPE_CHECKING:
    from paddle import Tensor

FIRST_POSITION = 2  # RoBERTa's convention, kept by the releases: 0 is never used, 1 is the position of pads


@dataclass
class Text:
    """Token ids of a padded batch. Positions of real tokens start at 2; pads are id 1 (BPE) at position 1, mask 0."""

    ids: Tensor  # [B, S] int64
    positions: Tensor  # [B, S] int64
    mask: Tensor  # [B, S] 0/1
    types: Tensor | None = None  # [B, S] int64; None: every token is of type 0, where the model has types at all
    added: Tensor | None = None  # [B, S, H], to the embeddings before their layer norm: an adversary's perturbation


class Tags(Text):
    """Object words between image and text; they share the text's tables and layer norm."""


@dataclass
class Regions:
    """Detector regions of a padded batch. Slot 0 is the image as a whole: mean feature, box (0, 0, 1, 1, 1)."""

    features: Tensor  # [B, N, image_embedding_size] float32 or float16
    boxes: Tensor  # [B, N, 5] float32: x1/w, y1/h, x2/w, y2/h, area share
    mask: Tensor  # [B, N] 0/1


@dataclass
class Pixels:
    """Images of one size, channels red, green, blue in -1..1. Sides may differ from the config's `image_size`."""

    images: Tensor  # [B, 3, side, side] float32


def given(states: Tensor | None) -> Tensor:
    """The states of a stream that a head is for; raises a ConfigError where the pass was without that stream."""
    if states is None:
        raise ConfigError("this head is for a stream that the pass was without; give it to the model as well")
    return states
