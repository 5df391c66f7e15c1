"""UNIMO-2 (Findings of ACL 2022): a ViT and a text encoder, bridged by a grounded encoder over a shared dictionary.

Grounded sequence: [image (class token, patches), chosen codes, text]; either stream is optional. In a pair, image and
text see each other through the codes alone. Source of every constant: the release's unimo_grounded.py,
transformer_encoder.py and vision_transformer_encoder.py (PaddlePaddle/Research, NLP/UNIMO-2) unless a comment says
otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field, model_validator

from unimo.config import Config, validate
from unimo.errors import ConfigError
from unimo.models.dictionary import GroundedDictionary, Grounding
from unimo.models.grounded import Wanted, grounded_captioning_mask, pair_mask, read_spans
from unimo.models.heads import ClassifyHead, MaskedLMHead, PoolHead, choose_heads
from unimo.models.layers import Cache, LayerNorm, PostNormBlock, Spans, attention_bias, dropout, initialise, run_blocks
from unimo.models.streams import FIRST_POSITION, Pixels, Text, given
from unimo.models.vision import VisionTransformer

CONTRAST_WEIGHT = 0.3  # of the contrast in the score of a pair (cmcl_score_weight of the Flickr30k settings)
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
    # topk: codes of the most votes; normal: each token's nearest code; none: no dictionary, image and text see each
    # other, which is the baseline of the paper's tables (the release's model_type baseline)
    grounding_method: Literal["topk", "normal", "none"] = "topk"
    with_grounding_projection: bool = False  # voters pass an affine map, ReLU and normalisation
    with_grounding_pos: bool = False  # codes get position embeddings, of the text's table
    with_cmcl_projection: bool = False  # what is contrasted passes an affine map and ReLU
    cmcl_share_parameters: bool = False  # the maps of the voters
    fusion_method: Literal["mul", "sum"] = "mul"  # of the pooled image and text that are matched
    open_bridge: bool = False  # ours, a control: image and text of a pair see each other beside the codes
    padding_votes: bool = True  # as in the release: what is chosen for a text depends on the longest of its batch
    num_labels: int = Field(2, gt=0)
    recompute: bool = False  # ours: trade a second forward pass of each layer for its activations

    @model_validator(mode="after")
    def _fits(self) -> "Unimo2Config":
        if self.topk_value > self.num_codebook:
            raise ValueError(f"topk_value ({self.topk_value}) is more than num_codebook ({self.num_codebook})")
        if self.cmcl_share_parameters and not (self.with_cmcl_projection and self.with_grounding_projection):
            raise ValueError("cmcl_share_parameters needs with_cmcl_projection and with_grounding_projection")
        if self.grounding_method == "none" and (self.with_grounding_projection or self.with_grounding_pos):
            raise ValueError("grounding_method none has no voters to project and no codes to place")
        if self.image_size < self.resolution:
            raise ValueError(f"image_size ({self.image_size}) is less than one patch, resolution ({self.resolution})")
        if self.image_size % self.resolution:
            raise ValueError(
                f"image_size ({self.image_size}) is no multiple of a patch, resolution ({self.resolution})"
            )
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
        if values.get("model_type") == "baseline":
            taken["grounding_method"] = "none"
        config = validate(cls, taken, source)
        return config.model_copy(update={"image_size": GRID * config.resolution})


_RELEASE_CONSTANT = ("vit_layer_norm_eps", "image_size")
_RELEASE_FIXED = {"hidden_act": "gelu", "text_hidden_act": "gelu", "vit_hidden_act": "gelu", "type_vocab_size": 0}


@dataclass
class Encoded:
    """States of each stream given: of its own encoder, and of the grounded encoder; the chosen codes."""

    vit: Tensor | None  # [B, P + 1, H]
    text_encoder: Tensor | None  # [B, S, H]
    image: Tensor | None  # [B, P + 1, H], grounded
    codes: Tensor | None  # [B, K, H], grounded
    text: Tensor | None  # [B, S, H], grounded
    grounding: Grounding | None  # what was chosen, before the grounded encoder; None without a dictionary
    cache: Cache | None  # of the text, then of the grounded encoder's layers; captioning in evaluation only


class Encoder(nn.Layer):
    """Post-LN blocks, and the layer norm and dropout of what enters them anew; the grounded encoder is one as it is."""

    def __init__(
        self,
        config: Unimo2Config,
        num_layers: int,
        num_heads: int,
        rate: float,
        attention_rate: float,
        enters: bool = True,
    ):
        super().__init__()
        h, eps = config.hidden_size, config.layer_norm_eps
        self.dropout, self.recompute = rate, config.recompute
        self.norm = LayerNorm(h, eps) if enters else None
        self.layers = nn.LayerList(PostNormBlock(h, num_heads, rate, attention_rate, eps) for _ in range(num_layers))

    def enter(self, x: Tensor) -> Tensor:
        """[B, S, H] -> [B, S, H]: words and codes pass here; image and text states enter the grounded stack as is."""
        assert self.norm is not None  # only a stack that nothing enters anew has none
        return dropout(self.norm(x), self.dropout, self.training)

    def forward(
        self, x: Tensor, mask: Tensor, cache: Cache | None = None, keep_cache: bool = False, read: Spans = ()
    ) -> tuple[Tensor, Cache]:
        """[B, S, H] under a 0/1 mask [B, T] or [B, S, T] -> states [B, S, H], of `read` if given; cache."""
        return run_blocks(self.layers, x, attention_bias(mask), cache, keep_cache, self.recompute, read)


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


HEADS = ("pool", "match", "cmcl", "lm", "code", "classify")
STREAMS = ("image", "text")


class Projections(nn.Layer):
    """ReLU(affine) of the states of each stream, not yet normalised."""

    def __init__(self, hidden_size: int, streams: Iterable[str]):
        super().__init__()
        if "image" in streams:
            self.image = PoolHead(hidden_size)
        if "text" in streams:
            self.text = PoolHead(hidden_size)


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
        grounds = config.grounding_method != "none"
        if grounds:
            self.dictionary = GroundedDictionary(config.num_codebook, h)
        if "code" in heads and not grounds:
            raise ConfigError("the code head predicts codes: it needs a grounding_method")
        if config.with_grounding_projection:
            self.voters = Projections(h, self.streams)
        if config.with_cmcl_projection and not config.cmcl_share_parameters:
            self.projections = Projections(h, self.streams)
        rates = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        self.grounded = Encoder(config, config.num_hidden_layers, config.num_attention_heads, *rates, enters=grounds)
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
        wanted: Wanted = "all",
    ) -> Encoded:
        """Encode one stream or a pair.

        Args:
            caption_mask: 0/1 [B, S, S]; makes the pair one of captioning: the text sees the image and what this mask
                shows of the text, and has no say in the choice of codes.
            masked_codes: 0/1 [B, K]; codes with a 1 enter as zeros, for the objective that predicts them.
            wanted: what to read of the grounded states; the others are not among those returned.
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
        mask = None if text is None else text.mask
        encoded = self.ground(image, words, mask, caption_mask, masked_codes, wanted)
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
        wanted: Wanted = "all",
    ) -> Encoded:
        """Choose codes for encoded streams and run the grounded encoder.

        Scoring many pairings encodes each image and each text once and pairs them up here.

        Args:
            image: states of the ViT, [B, P + 1, H].
            text: states of the text encoder, [B, S, H], with its mask, [B, S] 0/1.
            wanted: what to read of the grounded states; the others are not among those returned.
        """
        if image is None and text is None:
            raise ConfigError("UNIMO-2 got no stream: give text, pixels or both")
        grounding = self.choose(image, text, text_mask, caption_mask)
        parts: dict[str, Tensor] = {}
        counted = []
        if image is not None:
            parts["image"] = image
            counted.append(paddle.ones(image.shape[:2]))
        if grounding is not None:
            codes = grounding.codes
            if self.config.with_grounding_pos:
                codes = codes + self.text.position_embedding.weight[FIRST_POSITION : FIRST_POSITION + codes.shape[1]]
            if masked_codes is not None:
                codes = codes * (1.0 - masked_codes.astype("float32")).unsqueeze(2)
            parts["codes"] = self.grounded.enter(codes)
            seen = grounding.votes if grounding.one_to_one else None
            counted.append(paddle.ones(codes.shape[:2]) if seen is None else seen.astype("float32"))
        if text is not None:
            parts["text"] = text
            counted.append(paddle.ones(text.shape[:2]) if text_mask is None else text_mask.astype("float32"))
        mask = self._mask(image, text, counted, caption_mask)
        read, spans = read_spans({name: part.shape[1] for name, part in parts.items()}, wanted)
        whole, keep = paddle.concat(list(parts.values()), axis=1), caption_mask is not None
        x, cache = self.grounded(whole, mask, keep_cache=keep, read=spans)
        of = dict(zip(read, x.split(list(read.values()), axis=1)))
        return Encoded(image, text, of.get("image"), of.get("codes"), of.get("text"), grounding, cache or None)

    def choose(
        self,
        image: Tensor | None,
        text: Tensor | None,
        text_mask: Tensor | None = None,
        caption_mask: Tensor | None = None,
    ) -> Grounding | None:
        """The codes for encoded streams, given as to `ground`; None without a dictionary.

        Class tokens have no vote, nor has the text in captioning.
        """
        config = self.config
        if config.grounding_method == "none":
            return None
        voters = {"image": image, "text": None if caption_mask is not None else text}
        states = [(name, x[:, 1:]) for name, x in voters.items() if x is not None]
        if config.with_grounding_projection:
            states = [(name, F.normalize(getattr(self.voters, name)(x), axis=-1)) for name, x in states]
        votes = None
        if not config.padding_votes and text_mask is not None and voters["text"] is not None:
            of = {"image": lambda x: paddle.ones(x.shape[:2]), "text": lambda x: text_mask[:, 1:].astype("float32")}
            votes = paddle.concat([of[name](x) for name, x in states], axis=1)
        tokens = paddle.concat([x for _, x in states], axis=1)
        if config.grounding_method == "normal":
            return self.dictionary.nearest(tokens, votes)
        return self.dictionary(tokens, config.topk_value, votes)

    def _mask(
        self, image: Tensor | None, text: Tensor | None, counted: list[Tensor], caption_mask: Tensor | None
    ) -> Tensor:
        """What the positions of the grounded encoder see; `counted` are 0/1 of its parts, [B, n] each."""
        if caption_mask is not None:
            context = sum(part.shape[1] for part in counted[:-1])
            return grounded_captioning_mask(context, caption_mask)
        if self.config.grounding_method == "none":
            whole = paddle.concat(counted, axis=1)
            return whole.unsqueeze(2) * whole.unsqueeze(1)  # of the release's baseline: a pad sees nothing
        if image is not None and text is not None:
            return pair_mask(image.shape[1], counted[1], counted[2], self.config.open_bridge)
        return paddle.concat(counted, axis=1)  # every position sees every real one

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

    def dictionary_losses(self, encoded: Encoded) -> Tensor:
        """Loss of the grounded dictionary of each sample. [B]"""
        if encoded.grounding is None:
            raise ConfigError("this model has no dictionary (grounding_method none)")
        return self.dictionary.losses(encoded.grounding)

    def pooled_text(self, encoded: Encoded) -> Tensor:
        """ReLU(affine) of the first text position. [B, H]"""
        return self.pool_text(given(encoded.text)[:, 0])

    def pooled_image(self, encoded: Encoded) -> Tensor:
        """ReLU(affine) of the image's class token. [B, H]"""
        return self.pool_image(given(encoded.image)[:, 0])

    def match_logits(self, encoded: Encoded) -> Tensor:
        """Whether image and text of a pair fit; class 1 says yes. [B, 2]"""
        return self.match(self._fused(encoded))

    def class_logits(self, encoded: Encoded) -> Tensor:
        """Logits of the labels, from what the pass was given: text, an image, or both. [B, num_labels]

        The release classifies texts alone; for a pair, the head reads what the match is told by (ours).
        """
        if encoded.image is None:
            return self.classify(self.pooled_text(encoded))
        return self.classify(self.pooled_image(encoded) if encoded.text is None else self._fused(encoded))

    def _fused(self, encoded: Encoded) -> Tensor:
        """Pooled image and text of a pair as one. [B, H]"""
        text, image = self.pooled_text(encoded), self.pooled_image(encoded)
        return text * image if self.config.fusion_method == "mul" else text + image

    def contrasted(self, stream: str, states: Tensor) -> Tensor:
        """What is contrasted of one stream, "image" or "text", by the states of its own encoder. [B, S, H] -> [B, H]"""
        cls = states[:, 0]
        if not self.config.with_cmcl_projection:
            return cls
        return getattr(self.voters if self.config.cmcl_share_parameters else self.projections, stream)(cls)

    def contrast_features(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """What is contrasted of image and text before they meet, not normalised: class tokens of the ViT and of the
        text encoder, through the projections if there are any. [B, H], [B, H]"""
        return self.contrasted("image", given(encoded.vit)), self.contrasted("text", given(encoded.text_encoder))

    def contrast_temperature(self) -> Tensor:
        """The learnt temperature of the contrast, within the release's limits. [1]"""
        return self.cmcl_temperature.clip(0.001, 0.5)

    def contrast_score(self, encoded: Encoded) -> Tensor:
        """Product of what is contrasted, the text normalised only where it is projected, as in the release. [B, 1]"""
        image, text = self.contrast_features(encoded)
        return (F.normalize(image, axis=-1) * self.scored_text(text)).sum(-1, keepdim=True)

    def score_encoded(
        self, text: Tensor, text_mask: Tensor, image: Tensor, text_rows: Tensor, image_rows: Tensor
    ) -> Tensor:
        """The release's score of pairings of streams that `encode_text` and the ViT have encoded: the logit of the
        match, plus a share of the contrast.

        Args:
            text_rows, image_rows: [P] int64, the rows of `text` and `image` that make up each pair.

        Returns:
            [P].
        """
        words, mask = text.index_select(text_rows), text_mask.index_select(text_rows)
        paired = self.ground(image.index_select(image_rows), words, mask, wanted="classes")
        return self.match_logits(paired)[:, 1] + CONTRAST_WEIGHT * self.contrast_score(paired).squeeze(1)

    def scored_text(self, text: Tensor) -> Tensor:
        """A text's part of that product. [B, H] -> [B, H]"""
        return F.normalize(text, axis=-1) if self.config.with_cmcl_projection else text

    def lm_logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits of gathered text states; the output table is the word table. [M, H] -> [M, V]"""
        return self.lm(states, self.text.word_embedding.weight)

    def code_logits(self, states: Tensor) -> Tensor:
        """Which code a masked one was, from its grounded state; the output table is the dictionary. [M, H] -> [M, C]"""
        return self.code(states, self.dictionary.codes)
