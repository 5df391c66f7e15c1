"""UNIMO-2 (Findings of ACL 2022): a ViT and a text encoder, bridged by a grounded encoder over a shared dictionary.

Grounded sequence: [image (class token, patches), chosen codes, text]; either stream is optional. In a pair, image and
text see each other through the codes alone. Source of every constant: the release's unimo_grounded.py,
transformer_encoder.py and vision_transformer_encoder.py (PaddlePaddle/Research, NLP/UNIMO-2) unless a comment says
otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field, model_validator

from unimo.config import Config, validate
from unimo.errors import ConfigError
from unimo.models.dictionary import GroundedDictionary, Grounding
from unimo.models.heads import ClassifyHead, MaskedLMHead, PoolHead, choose_heads
from unimo.models.layers import Cache, LayerNorm, PostNormBlock, attention_bias, dropout, initialise, run_blocks
from unimo.models.streams import Pixels, Text, given
from unimo.models.vision import VisionTransformer

GRID = 14  # the release's position table always has 14 x 14 + 1 rows


class Unimo2Config(Config):
    """Size of a UNIMO-2 model; key names are those of the release's json files and command line.

    Keys without a prefix are those of the grounded encoder; `hidden_size` is the width of all three stacks.
    """

    hidden_size: int = Field(768, gt=0, le=1 << 16)
    num_hidden_layers: int = Field(12, gt=0, le=1 << 10)
    num_attention_heads: int = Field(12, gt=0, le=1 << 10)
    hidden_dropout_prob: float = Field(0.1, ge=0, lt=1)
    attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1)
    text_num_hidden_layers: int = Field(12, gt=0, le=1 << 10)
    text_num_attention_heads: int = Field(12, gt=0, le=1 << 10)
    text_hidden_dropout_prob: float = Field(0.1, ge=0, lt=1)
    text_attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1)
    text_vocab_size: int = Field(50265, gt=0, le=1 << 22)
    text_max_position_embeddings: int = Field(514, gt=2, le=1 << 22)  # text positions start at 2
    vit_num_hidden_layers: int = Field(12, gt=0, le=1 << 10)
    vit_num_attention_heads: int = Field(12, gt=0, le=1 << 10)
    vit_hidden_dropout_prob: float = Field(0.0, ge=0, lt=1)
    vit_attention_probs_dropout_prob: float = Field(0.0, ge=0, lt=1)
    vit_layer_norm_eps: float = Field(1e-12, gt=0)
    layer_norm_eps: float = Field(1e-5, gt=0)  # of text and grounded stack: Fluid's default
    initializer_range: float = Field(0.02, gt=0)
    image_size: int = Field(224, gt=0, le=1 << 14)  # side in pixels that the ViT's position table is made for
    resolution: int = Field(16, gt=0, le=1 << 14)  # side of a patch in pixels
    num_codebook: int = Field(2048, gt=0, le=1 << 22)
    topk_value: int = Field(100, gt=0)
    num_labels: int = Field(2, gt=0)
    recompute: bool = False  # ours: trade a second forward pass of each layer for its activations

    @model_validator(mode="after")
    def _fits(self) -> "Unimo2Config":
        if self.topk_value > self.num_codebook:
            raise ValueError(f"topk_value ({self.topk_value}) is more than num_codebook ({self.num_codebook})")
        if self.image_size < self.resolution:
            raise ValueError(f"image_size ({self.image_size}) is less than one patch, resolution ({self.resolution})")
        return self

    @classmethod
    def from_release(cls, values: dict[str, Any], source: str) -> "Unimo2Config":
        """Take what the release's json, read from `source`, holds.

        Dropped are keys that no released code reads, and those it reads but keeps constant: the ViT's epsilon (1e-12)
        and the size of the position table.

        Raises:
            ConfigError: a bad value, or an option that the released model was not trained with.
        """
        problems = [f"{k}: {values[k]!r}, expected {v!r}" for k, v in _RELEASE_FIXED.items() if values.get(k, v) != v]
        if problems:
            raise ConfigError(f"{source} asks for what UNIMO-2 does not have\n  - " + "\n  - ".join(problems))
        taken = {k: v for k, v in values.items() if k in cls.model_fields and k not in _RELEASE_CONSTANT}
        config = validate(cls, taken, source)
        return config.model_copy(update={"image_size": GRID * config.resolution})


_RELEASE_CONSTANT = ("vit_layer_norm_eps", "image_size")
_RELEASE_FIXED = {
    "hidden_act": "gelu",
    "text_hidden_act": "gelu",
    "vit_hidden_act": "gelu",
    "type_vocab_size": 0,
    "grounding_method": "topk",
    "model_type": "grounded",
    "with_grounding_projection": False,
    "with_grounding_pos": False,
    "with_cmcl_projection": False,
}


@dataclass
class Encoded:
    """States of each stream given: of its own encoder, and of the grounded encoder; the chosen codes."""

    vit: Tensor | None  # [B, P + 1, H]
    text_encoder: Tensor | None  # [B, S, H]
    image: Tensor | None  # [B, P + 1, H], grounded
    codes: Tensor  # [B, K, H], grounded
    text: Tensor | None  # [B, S, H], grounded
    grounding: Grounding  # what was chosen, before the grounded encoder
    cache: Cache | None  # of the text, then of the grounded encoder's layers; captioning in evaluation only


class Encoder(nn.Layer):
    """Post-LN blocks, and the layer norm and dropout of what enters them anew; the grounded encoder is one as it is."""

    def __init__(self, config: Unimo2Config, num_layers: int, num_heads: int, rate: float, attention_rate: float):
        super().__init__()
        h, eps = config.hidden_size, config.layer_norm_eps
        self.dropout, self.recompute = rate, config.recompute
        self.norm = LayerNorm(h, eps)
        self.layers = nn.LayerList(PostNormBlock(h, num_heads, rate, attention_rate, eps) for _ in range(num_layers))

    def enter(self, x: Tensor) -> Tensor:
        """[B, S, H] -> [B, S, H]: words and codes pass here; image and text states enter the grounded stack as is."""
        return dropout(self.norm(x), self.dropout, self.training)

    def forward(
        self, x: Tensor, mask: Tensor, cache: Cache | None = None, keep_cache: bool = False
    ) -> tuple[Tensor, Cache]:
        """[B, S, H] under a 0/1 mask [B, T] or [B, S, T] -> states [B, S, H], cache."""
        return run_blocks(self.layers, x, attention_bias(mask), cache, keep_cache, self.recompute)


class TextEncoder(Encoder):
    """RoBERTa's encoder: word and position embeddings without segments or scaling, then the blocks."""

    def __init__(self, config: Unimo2Config):
        rates = config.text_hidden_dropout_prob, config.text_attention_probs_dropout_prob
        super().__init__(config, config.text_num_hidden_layers, config.text_num_attention_heads, *rates)
        self.word_embedding = nn.Embedding(config.text_vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.text_max_position_embeddings, config.hidden_size)

    def embed(self, text: Text) -> Tensor:
        """[B, S] ids and positions -> [B, S, H]."""
        return self.enter(self.word_embedding(text.ids) + self.position_embedding(text.positions))


def pair_mask(image: int, codes: int, text: Tensor) -> Tensor:
    """Mask of a pair: image and text see the codes and themselves, the codes see all.

    Sizes of image and codes, text [B, S] 0/1 -> [B, image + codes + S, the same].
    """
    (b, s), key = text.shape, text.astype("float32").unsqueeze(1)  # (B, 1, S)
    rows = [
        paddle.concat([paddle.ones([b, image, image + codes]), paddle.zeros([b, image, s])], axis=2),
        paddle.concat([paddle.ones([b, codes, image + codes]), key.expand([b, codes, s])], axis=2),
        paddle.concat([paddle.zeros([b, s, image]), paddle.ones([b, s, codes]), key.expand([b, s, s])], axis=2),
    ]
    return paddle.concat(rows, axis=1)


def grounded_captioning_mask(image: int, codes: int, text: Tensor) -> Tensor:
    """Mask of captioning: image and codes see each other and never the text; the text sees both.

    Sizes of image and codes, text [B, S, S] 0/1 (`layers.seq2seq_mask`) -> [B, image + codes + S, the same].
    """
    (b, s), context = text.shape[:2], image + codes
    rows = [
        paddle.concat([paddle.ones([b, context, context]), paddle.zeros([b, context, s])], axis=2),
        paddle.concat([paddle.ones([b, s, context]), text.astype("float32")], axis=2),
    ]
    return paddle.concat(rows, axis=1)


HEADS = ("pool", "match", "cmcl", "lm", "code", "classify")
STREAMS = ("image", "text")


class Unimo2(nn.Layer):
    """The three stacks, the dictionary, and the heads named in `heads` (any of HEADS).

    Args:
        streams: what the model is for; text alone builds no ViT, images alone no text encoder.
    """

    def __init__(self, config: Unimo2Config, heads: Iterable[str] = (), streams: Iterable[str] = STREAMS):
        super().__init__()
        heads, streams = choose_heads(heads, HEADS, "UNIMO-2"), set(streams)
        if not streams or streams - set(STREAMS):
            raise ConfigError(f"streams {sorted(streams)}: expected one or both of {list(STREAMS)}")
        if "lm" in heads and "text" not in streams:
            raise ConfigError("the lm head shares the text encoder's word table: it needs the stream text")
        self.config, self.heads = config, heads
        self.streams = tuple(s for s in STREAMS if s in streams)
        h, eps = config.hidden_size, config.layer_norm_eps
        if "image" in streams:
            self.vit = VisionTransformer(
                h,
                config.vit_num_hidden_layers,
                config.vit_num_attention_heads,
                patch_size=config.resolution,
                image_size=config.image_size,
                patch_padding=(config.resolution - 1) // 2,  # 7: shifts every patch of the release
                dropout=config.vit_hidden_dropout_prob,
                attention_dropout=config.vit_attention_probs_dropout_prob,
                epsilon=config.vit_layer_norm_eps,
                initializer_range=config.initializer_range,
                recompute=config.recompute,
            )
        if "text" in streams:
            self.text = TextEncoder(config)
        self.dictionary = GroundedDictionary(config.num_codebook, h)
        rates = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        self.grounded = Encoder(config, config.num_hidden_layers, config.num_attention_heads, *rates)
        if "pool" in heads:
            if "text" in streams:
                self.pool_text = PoolHead(h)
            if "image" in streams:
                self.pool_image = PoolHead(h)
        if "match" in heads:
            self.match = ClassifyHead(h, 2, config.attention_probs_dropout_prob)
        if "cmcl" in heads:  # of the contrast loss; the score has none
            self.cmcl_temperature = self.create_parameter([1], default_initializer=nn.initializer.Constant(0.07))
        if "lm" in heads:
            self.lm = MaskedLMHead(h, config.text_vocab_size, eps)
        if "code" in heads:
            self.code = MaskedLMHead(h, config.num_codebook, eps)
        if "classify" in heads:
            self.classify = ClassifyHead(h, config.num_labels)
        initialise(self, config.initializer_range)

    def forward(
        self,
        text: Text | None = None,
        pixels: Pixels | None = None,
        caption_mask: Tensor | None = None,
        masked_codes: Tensor | None = None,
    ) -> Encoded:
        """Encode one stream or a pair.

        Args:
            caption_mask: 0/1 [B, S, S]; makes the pair one of captioning: the text sees the image and what this mask
                shows of the text, and has no say in the choice of codes.
            masked_codes: 0/1 [B, K]; codes with a 1 enter as zeros, for the objective that predicts them.
        """
        missing = [name for name, given in (("text", text), ("image", pixels)) if given and name not in self.streams]
        if missing:
            raise ConfigError(f"the model was built without the stream {missing[0]}; it has {list(self.streams)}")
        if caption_mask is not None and (text is None or pixels is None):
            raise ConfigError("a caption_mask needs both text and pixels")
        image = None if pixels is None else self.vit(pixels.images)
        words, cache = None, Cache()
        if text is not None:
            words, cache = self.encode_text(text, caption_mask)
        encoded = self.ground(image, words, None if text is None else text.mask, caption_mask, masked_codes)
        if encoded.cache is not None:
            encoded.cache = Cache([*cache, *encoded.cache])
        return encoded

    def encode_text(self, text: Text, mask: Tensor | None = None) -> tuple[Tensor, Cache]:
        """States of the text encoder [B, S, H]; with a captioning `mask` [B, S, S], its cache too.

        By default a padded position, as a query, sees nothing, which makes its softmax one over all: its state votes
        for codes, so this is kept exactly.
        """
        if mask is not None:
            return self.text(self.text.embed(text), mask, keep_cache=True)
        valid = text.mask.astype("float32")
        return self.text(self.text.embed(text), valid.unsqueeze(2) * valid.unsqueeze(1))

    def ground(
        self,
        image: Tensor | None,
        text: Tensor | None,
        text_mask: Tensor | None,
        caption_mask: Tensor | None = None,
        masked_codes: Tensor | None = None,
    ) -> Encoded:
        """Choose codes for encoded streams and run the grounded encoder.

        Scoring many pairings encodes each image and each text once and pairs them up here.

        Args:
            image: states of the ViT, [B, P + 1, H].
            text: states of the text encoder, [B, S, H], with its mask, [B, S] 0/1.
        """
        voters = [x[:, 1:] for x in (image, None if caption_mask is not None else text) if x is not None]
        if not voters:
            raise ConfigError("UNIMO-2 got no stream: give text, pixels or both")
        grounding = self.dictionary(paddle.concat(voters, axis=1), self.config.topk_value)
        codes = grounding.codes
        if masked_codes is not None:
            codes = codes * (1.0 - masked_codes.astype("float32")).unsqueeze(2)
        parts = [x for x in (image, self.grounded.enter(codes), text) if x is not None]
        sizes = [x.shape[1] for x in parts]
        if caption_mask is not None:
            mask = grounded_captioning_mask(sizes[0], sizes[1], caption_mask)
        elif image is not None and text_mask is not None:
            mask = pair_mask(sizes[0], sizes[1], text_mask)
        else:  # every position sees every real one
            mask = paddle.ones([parts[0].shape[0], self.config.topk_value + (0 if image is None else sizes[0])])
            mask = mask if text_mask is None else paddle.concat([mask, text_mask.astype("float32")], axis=1)
        x, cache = self.grounded(paddle.concat(parts, axis=1), mask, keep_cache=caption_mask is not None)
        states = iter(x.split(sizes, axis=1))
        grounded_image = None if image is None else next(states)
        grounded_codes = next(states)
        grounded_text = None if text is None else next(states)
        return Encoded(image, text, grounded_image, grounded_codes, grounded_text, grounding, cache or None)

    def decode(self, text: Text, cache: Cache, text_mask: Tensor, mask: Tensor) -> tuple[Tensor, Cache]:
        """Grounded states [B, S, H] of the next tokens of a caption, and the cache with these.

        The release hides padded object words from the text encoder here, but not from the grounded encoder.

        Args:
            text_mask: 0/1 [B, S, T] over cached and new tokens, for the text encoder.
            mask: 0/1 [B, S, P + 1 + K + T] over image, codes and tokens, for the grounded encoder.
        """
        layers = self.config.text_num_hidden_layers
        words, text_cache = self.text(self.text.embed(text), text_mask, Cache(cache[:layers]), keep_cache=True)
        states, grounded_cache = self.grounded(words, mask, Cache(cache[layers:]), keep_cache=True)
        return states, Cache([*text_cache, *grounded_cache])

    def dictionary_loss(self, encoded: Encoded) -> Tensor:
        """Loss of the grounded dictionary, a scalar."""
        return self.dictionary.loss(encoded.grounding)

    def pooled_text(self, encoded: Encoded) -> Tensor:
        """ReLU(affine) of the first text position. [B, H]"""
        return self.pool_text(given(encoded.text)[:, 0])

    def pooled_image(self, encoded: Encoded) -> Tensor:
        """ReLU(affine) of the image's class token. [B, H]"""
        return self.pool_image(given(encoded.image)[:, 0])

    def match_logits(self, encoded: Encoded) -> Tensor:
        """Whether image and text of a pair fit; class 1 says yes. [B, 2]"""
        return self.match(self.pooled_text(encoded) * self.pooled_image(encoded))

    def contrast_score(self, encoded: Encoded) -> Tensor:
        """Product of the class tokens of ViT, normalised, and text encoder, as it is in the release. [B, 1]"""
        image = F.normalize(given(encoded.vit)[:, 0], axis=-1)
        return (image * given(encoded.text_encoder)[:, 0]).sum(-1, keepdim=True)

    def lm_logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits of gathered text states; the output table is the word table. [M, H] -> [M, V]"""
        return self.lm(states, self.text.word_embedding.weight)

    def code_logits(self, states: Tensor) -> Tensor:
        """Which code a masked one was, from its grounded state; the output table is the dictionary. [M, H] -> [M, C]"""
        return self.code(states, self.dictionary.codes)
