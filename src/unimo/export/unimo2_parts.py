"""The parts of a UNIMO-2: its two encoders, and the score of pairings of what they encoded, each once.

Both encoders also give what is contrasted, of length 1 where the score normalises it: products of the two rank as the
contrast alone does.
"""

import paddle.nn.functional as F

from unimo.export.parts import Part, Shapes, Tensors
from unimo.models.streams import Text
from unimo.models.unimo2 import Unimo2, Unimo2Config


def _encode_text(model: Unimo2, given: Tensors) -> Tensors:
    states, _ = model.encode_text(Text(given["ids"], given["positions"], given["text_mask"]))
    return {"states": states, "contrasted": model.scored_text(model.contrasted("text", states))}


def _encode_image(model: Unimo2, given: Tensors) -> Tensors:
    states = model.vit(given["pixels"])
    return {"states": states, "contrasted": F.normalize(model.contrasted("image", states), axis=-1)}


def _score_pairs(model: Unimo2, given: Tensors) -> Tensors:
    return {"scores": model.score_encoded(*(given[name] for name in _pair_inputs(model.config)))}


def _positions(config: Unimo2Config) -> int:
    """Of a picture: its patches and the class token."""
    return (config.image_size // config.resolution) ** 2 + 1


def _text_inputs(config: Unimo2Config) -> Shapes:
    words: Shapes = {name: ("int64", ("batch", "tokens")) for name in ("ids", "positions")}
    return words | {"text_mask": ("float32", ("batch", "tokens"))}


def _image_inputs(config: Unimo2Config) -> Shapes:
    return {"pixels": ("float32", ("batch", 3, config.image_size, config.image_size))}


def _pair_inputs(config: Unimo2Config) -> Shapes:
    rows: Shapes = {name: ("int64", ("pairs",)) for name in ("text_rows", "image_rows")}
    return {
        "text": ("float32", ("texts", "tokens", config.hidden_size)),
        "text_mask": ("float32", ("texts", "tokens")),
        "image": ("float32", ("images", _positions(config), config.hidden_size)),
        **rows,
    }


def _encoded(length: str | int, config: Unimo2Config) -> Shapes:
    return {
        "states": ("float32", ("batch", length, config.hidden_size)),
        "contrasted": ("float32", ("batch", config.hidden_size)),
    }


PARTS = {
    "text_encoder": Part((), _encode_text, _text_inputs, lambda c, heads: _encoded("tokens", c)),
    "image_encoder": Part((), _encode_image, _image_inputs, lambda c, heads: _encoded(_positions(c), c)),
    "grounded_score": Part(
        ("pool", "match"), _score_pairs, _pair_inputs, lambda c, heads: {"scores": ("float32", ("pairs",))}
    ),
}
