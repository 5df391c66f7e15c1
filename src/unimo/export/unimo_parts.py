"""The parts of a UNIMO: encoders, the score of a pair, decoding.

`prefix` turns what a text is generated from into the first keys and values, `decode_step` extends them by new tokens.
"""

from collections.abc import Sequence

import paddle.nn.functional as F

from unimo.export.parts import Part, Shapes, Tensors
from unimo.models.layers import Cache, KeyValue, attention_bias
from unimo.models.streams import Regions, Text
from unimo.models.unimo import Encoded, Unimo, UnimoConfig


def _text(given: Tensors, mask: str = "text_mask") -> Text:
    return Text(given["ids"], given["positions"], given[mask], given.get("types"))


def _regions(given: Tensors) -> Regions:
    return Regions(given["features"], given["boxes"], given["region_mask"])


def _encode_text(model: Unimo, given: Tensors) -> Tensors:
    bias = attention_bias(given["text_mask"])
    states, _ = model.encode(model.embed_text(_text(given)), bias, keep_cache=False)
    pooled = {"pooled": model.pooled_text(Encoded(None, None, states, Cache()))} if "pool" in model.heads else {}
    return {"states": states} | pooled


def _encode_image(model: Unimo, given: Tensors) -> Tensors:
    bias = attention_bias(given["region_mask"])
    states, _ = model.encode(model.embed_regions(_regions(given)), bias, keep_cache=False)
    pooled = {"pooled": model.pooled_image(Encoded(states, None, None, Cache()))} if "pool" in model.heads else {}
    return {"states": states} | pooled


def _score_pairs(model: Unimo, given: Tensors) -> Tensors:
    encoded = model(_text(given), _regions(given))
    return {"scores": model.match_score(encoded).squeeze(1)}


def _start_decoding(model: Unimo, given: Tensors) -> Tensors:
    return _named(model(_text(given), _regions(given)).cache)


def _decode(model: Unimo, given: Tensors) -> Tensors:
    layers = range(model.config.num_hidden_layers)
    cache = Cache(KeyValue(given[f"keys.{i}"], given[f"values.{i}"]) for i in layers)
    words = _text(given, "attention_mask")  # embedding asks for none
    states, cache = model.encode(model.embed_text(words), attention_bias(given["attention_mask"]), cache)
    batch, new, size = states.shape
    states = states.reshape([-1, size])  # a matrix: in 3-D, oneDNN would read the whole table for each row
    if "output_table" in given:
        logits = F.linear(model.lm.features(states), given["output_table"], model.lm.bias)
    else:
        logits = model.lm_logits(states)
    return {"logits": logits.reshape([batch, new, -1])} | _named(cache)


def _output_table(model: Unimo) -> Tensors:
    """The word table as [H, V]: oneDNN packs an affine map's weight once, a transposed table at every call."""
    return {"output_table": model.word_embedding.weight.t()}


def _named(cache: Cache) -> Tensors:
    return {f"{kind}.{i}": getattr(kept, kind) for kind in ("keys", "values") for i, kept in enumerate(cache)}


def _text_shapes(config: UnimoConfig, length: str = "tokens") -> Shapes:
    names = ("ids", "positions", "types") if config.type_vocab_size else ("ids", "positions")
    return {name: ("int64", ("batch", length)) for name in names}


def _text_inputs(config: UnimoConfig) -> Shapes:
    return _text_shapes(config) | {"text_mask": ("float32", ("batch", "tokens"))}


def _region_inputs(config: UnimoConfig) -> Shapes:
    return {
        "features": ("float32", ("batch", "regions", config.image_embedding_size)),
        "boxes": ("float32", ("batch", "regions", 5)),
        "region_mask": ("float32", ("batch", "regions")),
    }


def _pair_inputs(config: UnimoConfig) -> Shapes:
    return _text_inputs(config) | _region_inputs(config)


def _cache_shapes(config: UnimoConfig, length: str) -> Shapes:
    heads = config.num_attention_heads
    shape = ("batch", heads, length, config.hidden_size // heads)
    return {f"{kind}.{i}": ("float32", shape) for kind in ("keys", "values") for i in range(config.num_hidden_layers)}


def _decode_inputs(config: UnimoConfig) -> Shapes:
    mask: Shapes = {"attention_mask": ("float32", ("batch", "new", "cached+new"))}
    return _text_shapes(config, "new") | mask | _cache_shapes(config, "cached")


def _states(length: str, config: UnimoConfig, heads: Sequence[str]) -> Shapes:
    pooled: Shapes = {"pooled": ("float32", ("batch", config.hidden_size))} if "pool" in heads else {}
    states: Shapes = {"states": ("float32", ("batch", length, config.hidden_size))}
    return states | pooled


PARTS = {
    "text_encoder": Part((), _encode_text, _text_inputs, lambda c, heads: _states("tokens", c, heads)),
    "image_encoder": Part((), _encode_image, _region_inputs, lambda c, heads: _states("regions", c, heads)),
    "match_score": Part(
        ("pool", "match"), _score_pairs, _pair_inputs, lambda c, heads: {"scores": ("float32", ("batch",))}
    ),
    "prefix": Part(("lm",), _start_decoding, _pair_inputs, lambda c, heads: _cache_shapes(c, "regions+tokens")),
    "decode_step": Part(
        ("lm",),
        _decode,
        _decode_inputs,
        lambda c, heads: {"logits": ("float32", ("batch", "new", c.vocab_size)), **_cache_shapes(c, "cached+new")},
        _output_table,
    ),
}
