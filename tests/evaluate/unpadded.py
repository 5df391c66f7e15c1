"""Random captions and pictures, one at a time without pads, for small models of region features."""

import paddle

from unimo.models.streams import Regions, Text

FEATURES, WORDS = 12, 30  # size of a region's feature; ids of a caption are below WORDS


def caption(length: int) -> Text:
    ids = paddle.randint(0, WORDS, [1, length])
    return Text(ids, paddle.arange(2, length + 2).unsqueeze(0), paddle.ones([1, length]))


def picture(slots: int) -> Regions:
    """One slot alone is the masked slot of an image without regions."""
    mask = paddle.full([1, slots], float(slots > 1))
    return Regions(paddle.randn([1, slots, FEATURES]), paddle.rand([1, slots, 5]), mask)
