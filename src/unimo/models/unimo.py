"""UNIMO (ACL 2021): one post-LN transformer over text, detector regions and object tags.

Sequence: [image slot, regions..., tags..., text...]; every stream is optional. Source of every constant: the release's
transformer_encoder.py and unimo_finetune.py (PaddlePaddle/Research, NLP/UNIMO) unless a comment says otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import paddle
from paddle import Tensor, nn
from pydantic import Field

from unimo.config import Config, validate
from unimo.errors import ConfigError
from unimo.models.heads import ClassifyHead, EntailHead, MaskedLMHead, MatchHead, PoolHead, RegionHead, choose_heads
from unimo.models.layers import (
    Activation,
    Cache,
    LayerNorm,
    Linear,
    PostNormBlock,
    Spans,
    attention_bias,
    dropout,
    initialise,
    run_blocks,
)
from unimo.models.streams import Regions, Tags, Text, given


class UnimoConfig(Config):
    """Size of a UNIMO model; key names are those of the release's json files."""

    hidden_size: int = Field(768, gt=0, le=1 << 16)
    num_hidden_layers: int = Field(12, gt=0, le=1 << 10)
    num_attention_heads: int = Field(12, gt=0, le=1 << 10)
    vocab_size: int = Field(50265, gt=0, le=1 << 22)
    # text positions start at 2, so two rows fewer than tokens
    max_position_embeddings: int = Field(514, gt=2, le=1 << 22)
    # rows of a token type table; only models of other libraries have one
    type_vocab_size: int = Field(0, ge=0, le=1 << 22)
    hidden_act: Activation = "gelu"  # the release's; PaddleNLP's Chinese UNIMO has relu
    hidden_dropout_prob: float = Field(0.1, ge=0, lt=1)
    attention_probs_dropout_prob: float = Field(0.1, ge=0, lt=1)
    initializer_range: float = Field(0.02, gt=0)
    layer_norm_eps: float = Field(1e-5, gt=0)  # Fluid's default, not BERT's 1e-12
    image_embedding_size: int = Field(2048, gt=0, le=1 << 22)
    image_class_size: int = Field(1601, gt=0, le=1 << 22)
    num_labels: int = Field(2, gt=0)
    # ours: an affine map of the features to so many values before `image_embedding`; 0: none. Detector features are all
    # positive and correlated, and AdamW moves each weight by about as much, so that without it a first update throws
    # away whatever map of them a model starts from.
    image_whitening_size: int = Field(0, ge=0, le=1 << 22)
    # ours: what heads of both streams read (match, classes): one joint pass, as the paper has it, or each encoded alone
    match_on: Literal["joint", "alone"] = "joint"
    recompute: bool = False  # ours: trade a second forward pass of each layer for its activations

    @classmethod
    def from_release(cls, values: dict[str, Any], source: str) -> "UnimoConfig":
        """Take what the release's json, read from `source`, holds; its keys that no released code reads are dropped.

        Raises:
            ConfigError: a bad value, another activation than gelu, or type embeddings, which released English models
                never have.
        """
        problems = [f"{k}: {values[k]!r}, expected {v!r}" for k, v in _RELEASE_FIXED.items() if values.get(k, v) != v]
        if problems:
            raise ConfigError(f"{source} asks for what UNIMO does not have\n  - " + "\n  - ".join(problems))
        return validate(cls, {k: v for k, v in values.items() if k in cls.model_fields}, source)


_RELEASE_FIXED = {"hidden_act": "gelu", "type_vocab_size": 0, "sent_type_vocab_size": 0, "task_type_vocab_size": 0}


@dataclass
class Encoded:
    """Last layer's states of each stream given, and the key/value cache over all of them, one entry a layer."""

    regions: Tensor | None  # [B, N, H]
    tags: Tensor | None  # [B, O, H]
    text: Tensor | None  # [B, S, H]
    cache: Cache  # empty in training


HEADS = ("pool", "lm", "match", "region_feature", "region_class", "classify", "entail")


class Unimo(nn.Layer):
    """The encoder and the heads named in `heads` (any of HEADS)."""

    def __init__(self, config: UnimoConfig, heads: Iterable[str] = ()):
        super().__init__()
        self.config, self.heads = config, choose_heads(heads, HEADS, "UNIMO")
        h, eps = config.hidden_size, config.layer_norm_eps
        self.word_embedding = nn.Embedding(config.vocab_size, h)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, h)
        if config.type_vocab_size:
            self.type_embedding = nn.Embedding(config.type_vocab_size, h)
        self.text_norm = LayerNorm(h, eps)
        if config.image_whitening_size:
            self.image_whitening = Linear(config.image_embedding_size, config.image_whitening_size)
        self.image_embedding = Linear(config.image_whitening_size or config.image_embedding_size, h)
        self.box_embedding = Linear(5, h)
        self.image_norm = LayerNorm(h, eps)
        self.layers = nn.LayerList(
            PostNormBlock(
                h,
                config.num_attention_heads,
                config.hidden_dropout_prob,
                config.attention_probs_dropout_prob,
                eps,
                config.hidden_act,
            )
            for _ in range(config.num_hidden_layers)
        )
        if "pool" in self.heads:
            self.pool_text, self.pool_image = PoolHead(h), PoolHead(h)
        if "lm" in self.heads:
            self.lm = MaskedLMHead(h, config.vocab_size, eps, config.hidden_act)
        if "region_feature" in self.heads:
            self.region_feature = RegionHead(h, config.image_embedding_size)
        if "region_class" in self.heads:
            self.region_class = RegionHead(h, config.image_class_size)
        if "classify" in self.heads:
            self.classify = ClassifyHead(h, config.num_labels)
        if "entail" in self.heads:
            self.entail = EntailHead(h, config.num_labels)
        initialise(self, config.initializer_range)
        if "match" in self.heads:  # after the others: it keeps initialisers of its own
            self.match = MatchHead(h, config.attention_probs_dropout_prob)

    def embed_text(self, text: Text) -> Tensor:
        """[B, S] ids, positions and types -> [B, S, H], before dropout; no scaling."""
        x = self.word_embedding(text.ids) + self.position_embedding(text.positions)
        if self.config.type_vocab_size:
            x = x + (self.type_embedding.weight[0] if text.types is None else self.type_embedding(text.types))
        elif text.types is not None:
            raise ConfigError("the text has token types, the model has no table of them (type_vocab_size is 0)")
        return self.text_norm(x if text.added is None else x + text.added)

    def embed_regions(self, regions: Regions) -> Tensor:
        """[B, N, D] features and [B, N, 5] boxes -> [B, N, H], before dropout. No position: regions have no order."""
        features = regions.features.astype(self.image_embedding.weight.dtype)  # a float16 batch is cast here, once
        if self.config.image_whitening_size:
            features = self.image_whitening(features)
        return self.image_norm(self.image_embedding(features) + self.box_embedding(regions.boxes))

    def _dropout(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.hidden_dropout_prob, self.training)

    def forward(
        self,
        text: Text | None = None,
        regions: Regions | None = None,
        tags: Tags | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        wanted: Literal["all", "classes"] = "all",
    ) -> Encoded:
        """Encode the streams given, in the order regions, tags, text.

        Args:
            wanted: what is read of the last layer, which computes nothing else: every position, or the first of each
                stream, which is all that poolers read; these of streams encoded alone where the model matches so.
            attention_mask: 0/1, [B, Sq, Sk] or [B, Sk]; Sk counts the cached positions too. By default every position
                sees every real one of the streams given.
            cache: states of an earlier pass that these positions attend to as well (decoding); needs `attention_mask`.
        """
        if wanted == "classes" and self.config.match_on == "alone" and text is not None and regions is not None:
            alone = self(regions=regions, wanted=wanted), self(text=text, wanted=wanted)
            return Encoded(alone[0].regions, None, alone[1].text, Cache())
        streams = [regions, tags, text]
        parts = [
            (s, self.embed_regions(s) if isinstance(s, Regions) else self.embed_text(s))
            for s in streams
            if s is not None
        ]
        if not parts:
            raise ConfigError("UNIMO got no stream: give text, regions or both")
        if attention_mask is None:
            if cache is not None:
                raise ConfigError("decoding with a cache needs an attention_mask over cached and new positions")
            attention_mask = paddle.concat([s.mask.astype("float32") for s, _ in parts], axis=1)
        x = paddle.concat([p for _, p in parts], axis=1) if len(parts) > 1 else parts[0][1]
        read: Spans = ()
        sizes = [p.shape[1] for _, p in parts]
        if wanted == "classes":
            starts = accumulate(sizes[:-1], initial=0)
            sizes, read = [1] * len(parts), tuple((start, start + 1) for start in starts)
        x, new_cache = self.encode(self._dropout(x), attention_bias(attention_mask), cache, wanted == "all", read)
        pieces = x.split(sizes, axis=1)  # on a CPU, slices have a slow backward pass
        ends = {id(stream): piece for (stream, _), piece in zip(parts, pieces)}
        states = [None if s is None else ends[id(s)] for s in streams]
        return Encoded(states[0], states[1], states[2], new_cache)

    def encode(
        self, x: Tensor, bias: Tensor, cache: Cache | None = None, keep_cache: bool = True, read: Spans = ()
    ) -> tuple[Tensor, Cache]:
        """Run the layers over embedded positions [B, S, H]; `forward` for named streams ends here.

        Without `keep_cache` no layer's keys and values outlive it: scoring needs none, and they are large. `read` are
        the positions that are wanted of the last layer.
        """
        return run_blocks(self.layers, x, bias, cache, keep_cache, self.config.recompute, read)

    def pooled_text(self, encoded: Encoded) -> Tensor:
        """ReLU(affine) of the first text position. [B, H]"""
        return self.pool_text(given(encoded.text)[:, 0])

    def pooled_image(self, encoded: Encoded) -> Tensor:
        """ReLU(affine) of the image slot. [B, H]"""
        return self.pool_image(given(encoded.regions)[:, 0])

    def match_score(self, encoded: Encoded) -> Tensor:
        """How well image and text of one joint pass fit, a raw logit. [B, 1]"""
        return self.match(self.pooled_text(encoded), self.pooled_image(encoded))

    def class_logits(self, encoded: Encoded) -> Tensor:
        """Logits of the labels, from what the pass was given: text, an image, or both. [B, num_labels]

        The head `entail` reads the sum of both pooled states, as in the release; `classify` their product (ours).
        """
        if "entail" in self.heads:
            return self.entail(self.pooled_text(encoded) + self.pooled_image(encoded))
        if encoded.regions is None:
            return self.classify(self.pooled_text(encoded))
        image = self.pooled_image(encoded)
        return self.classify(image if encoded.text is None else self.pooled_text(encoded) * image)

    def pooled_embedded(
        self, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor, text_rows: Tensor, image_rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pooled text and pooled image of pairings of streams that `embed_text` and `embed_regions` have embedded.

        Args:
            text_rows, image_rows: [P] int64, the rows of `text` and `image` that make up each pair.

        Returns:
            [P, H] each.
        """
        x = paddle.concat([image.index_select(image_rows), text.index_select(text_rows)], axis=1)  # (P, N + S, H)
        mask = paddle.concat([image_mask.index_select(image_rows), text_mask.index_select(text_rows)], axis=1)
        x, bias, text_start = self._dropout(x), attention_bias(mask), image.shape[1]
        if self.training:
            x, _ = self.encode(x, bias, keep_cache=False)
        else:  # nobody reads the last layer's other positions
            firsts = ((0, 1), (text_start, text_start + 1))
            (x, _), text_start = self.encode(x, bias, keep_cache=False, read=firsts), 1
        encoded = Encoded(x[:, :text_start], None, x[:, text_start:], Cache())
        return self.pooled_text(encoded), self.pooled_image(encoded)

    def score_embedded(self, *streams_and_rows: Tensor) -> Tensor:
        """Match scores of pairings, given as to `pooled_embedded`. [P]"""
        return self.match(*self.pooled_embedded(*streams_and_rows)).squeeze(1)

    def lm_logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits of gathered text states; the output table is the word table. [M, H] -> [M, V]"""
        return self.lm(states, self.word_embedding.weight)
