"""What the positions of UNIMO-2's grounded encoder see, and which of them are read.

Its sequence is image (class token, patches), chosen codes, text; any part may lack.
"""

from itertools import accumulate
from typing import Literal

import paddle
from paddle import Tensor

from unimo.models.layers import Spans

# What is read of the grounded encoder's last layer, which computes nothing else: every position; the whole text and the
# image's class token; the class tokens alone.
Wanted = Literal["all", "text", "classes"]


def pair_mask(image: int, codes: Tensor, text: Tensor, bridge: bool = False) -> Tensor:
    """Mask of a pair: image and text see the codes and themselves, the codes see all.

    Size of the image, codes [B, K] and text [B, S] 0/1 -> [B, image + K + S, the same].

    Args:
        bridge: whether image and text see each other, too.
    """
    (b, s), k = text.shape, codes.shape[1]
    key, across = text.astype("float32").unsqueeze(1), float(bridge)  # (B, 1, S)
    middle = codes.astype("float32").unsqueeze(1)  # (B, 1, K)
    whole = lambda n: [paddle.ones([b, n, image]), middle.expand([b, n, k]), key.expand([b, n, s])]  # noqa: E731
    of_image, of_text = whole(image), whole(s)
    of_image[2], of_text[0] = of_image[2] * across, of_text[0] * across
    return paddle.concat([paddle.concat(row, axis=2) for row in (of_image, whole(k), of_text)], axis=1)


def grounded_captioning_mask(context: int, text: Tensor) -> Tensor:
    """Mask of captioning: image and codes, the context, see each other and never the text; the text sees both.

    Size of the context, text [B, S, S] 0/1 (`layers.seq2seq_mask`) -> [B, context + S, the same].
    """
    b, s = text.shape[:2]
    rows = [
        paddle.concat([paddle.ones([b, context, context]), paddle.zeros([b, context, s])], axis=2),
        paddle.concat([paddle.ones([b, s, context]), text.astype("float32")], axis=2),
    ]
    return paddle.concat(rows, axis=1)


def read_spans(sizes: dict[str, int], wanted: Wanted) -> tuple[dict[str, int], Spans]:
    """How many positions of which part are read, and where they are; no span where all are.

    Args:
        sizes: of the parts, in their order: image, codes, text, or some of them.
    """
    if wanted == "all":
        return sizes, ()
    starts = dict(zip(sizes, accumulate(sizes.values(), initial=0)))
    read = {name: size if name == wanted else 1 for name, size in sizes.items() if name != "codes"}
    return read, [(starts[name], starts[name] + size) for name, size in read.items()]
