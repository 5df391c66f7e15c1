"""OneR (AAAI 2023): one tower and one head for images and text. This is our reading; the paper's code is not public.

Known is that one transformer and one projection serve both modalities with all weights shared, that attention mixes
tokens without regard to their modality, and that an image, a text, both in one sequence and the mean of two embeddings
are legal inputs. Ours is the rest: a ViT's pre-LN blocks, so that published ViTs can start it; one learnt class token
in front of every sequence; no modality embedding; one affine map as projection; pixels as the target of masked patches.

Sequence: [class token, patches..., text...]; either stream is optional.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field, model_validator

from unimo.config import Config
from unimo.errors import ConfigError
from unimo.models.heads import MaskedLMHead, RegionHead, choose_heads
from unimo.models.layers import Linear, attention_bias, dropout, initialise, truncated_normal
from unimo.models.streams import Pixels, Text
from unimo.models.vision import VisionTransformer


class OnerConfig(Config):
    """Size of a OneR model. The defaults are ViT-B/16 at 224 pixels; the paper's sizes are not known to us."""

    hidden_size: int = Field(768, gt=0, le=1 << 16)
    num_hidden_layers: int = Field(12, gt=0, le=1 << 10)
    num_attention_heads: int = Field(12, gt=0, le=1 << 10)
    vocab_size: int = Field(50265, gt=0, le=1 << 22)
    # 78 tokens (the first author's forks of ALBEF and SLIP) from row 2
    max_position_embeddings: int = Field(80, gt=2, le=1 << 22)
    image_size: int = Field(224, gt=0, le=1 << 14)  # side in pixels that the position table is made for
    resolution: int = Field(16, gt=0, le=1 << 14)  # side of a patch in pixels
    projection_size: int = Field(256, gt=0, le=1 << 22)
    hidden_dropout_prob: float = Field(0.0, ge=0, lt=1)
    attention_probs_dropout_prob: float = Field(0.0, ge=0, lt=1)
    layer_norm_eps: float = Field(1e-6, gt=0)  # of the published ViTs
    initializer_range: float = Field(0.02, gt=0)
    recompute: bool = False  # trade a second forward pass of each layer for its activations

    @model_validator(mode="after")
    def _fits(self) -> "OnerConfig":
        if self.image_size < self.resolution:
            raise ValueError(f"image_size ({self.image_size}) is less than one patch, resolution ({self.resolution})")
        return self


@dataclass
class Encoded:
    """Last states, after the final norm: of the class token, and of each stream given."""

    cls: Tensor  # [B, H]
    image: Tensor | None  # [B, P, H]
    text: Tensor | None  # [B, S, H]
    mask: Tensor  # [B, P + S] 0/1, of patches and words


class Tower(VisionTransformer):
    """A ViT that also takes words; a word's position has a table of its own, starting at row 2 as in `Text`."""

    def __init__(self, config: OnerConfig):
        h, std = config.hidden_size, config.initializer_range
        super().__init__(
            h,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.resolution,
            config.image_size,
            dropout=config.hidden_dropout_prob,
            attention_dropout=config.attention_probs_dropout_prob,
            epsilon=config.layer_norm_eps,
            initializer_range=std,
            recompute=config.recompute,
        )
        drawn = paddle.ParamAttr(initializer=truncated_normal(std))
        self.word_embedding = nn.Embedding(config.vocab_size, h, weight_attr=drawn)
        self.text_position = nn.Embedding(config.max_position_embeddings, h, weight_attr=drawn)

    def embed_text(self, text: Text) -> Tensor:
        """[B, S] ids and positions -> [B, S, H], after dropout. No layer norm: a pre-LN block starts with one."""
        x = self.word_embedding(text.ids) + self.text_position(text.positions)
        return dropout(x, self.dropout, self.training)

    def embed_cls(self, batch: int) -> Tensor:
        """The class token where there is no image: [batch, 1, H]. Its position is that in front of an image."""
        return (self.cls + self.position[:, :1]).expand([batch, 1, -1])


HEADS = ("mlm", "mim")


class Oner(nn.Layer):
    """The tower, the projection, and the heads named in `heads` (any of HEADS)."""

    def __init__(self, config: OnerConfig, heads: Iterable[str] = ()):
        super().__init__()
        self.config, self.heads = config, choose_heads(heads, HEADS, "OneR")
        h = config.hidden_size
        self.tower = Tower(config)
        self.projection = Linear(h, config.projection_size)
        if "mlm" in self.heads:
            self.mlm = MaskedLMHead(h, config.vocab_size, config.layer_norm_eps)
        if "mim" in self.heads:
            drawn = truncated_normal(config.initializer_range)
            self.mask_patch = self.create_parameter([1, 1, h], default_initializer=drawn)
            self.mim = RegionHead(h, 3 * config.resolution**2)
        initialise(self, config.initializer_range)

    def forward(
        self,
        text: Text | None = None,
        pixels: Pixels | None = None,
        masked_patches: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Encoded:
        """Encode an image, a text, or both as one sequence.

        Args:
            masked_patches: 0/1 [B, P]; patches with a 1 enter as the mask vector (head `mim`).
            attention_mask: 0/1, [B, Sq, Sk] or [B, Sk] over class token, patches and words. By default every position
                sees every real one; hiding a stream from itself makes the other its only keys and values.
        """
        first = pixels.images if pixels is not None else text.ids if text is not None else None
        if first is None:
            raise ConfigError("OneR got no stream: give text, pixels or both")
        if masked_patches is not None and (pixels is None or "mim" not in self.heads):
            raise ConfigError("masked_patches need pixels and a model with the head mim, which has the mask vector")
        batch = first.shape[0]
        x = self.tower.embed_cls(batch) if pixels is None else self.embed_image(pixels, masked_patches)
        patches = x.shape[1] - 1
        mask = paddle.ones([batch, patches + 1])
        if text is not None:
            x = paddle.concat([x, self.tower.embed_text(text)], axis=1)
            mask = paddle.concat([mask, text.mask.astype("float32")], axis=1)
        states = self.tower.encode(x, attention_bias(mask if attention_mask is None else attention_mask))
        sizes = [1, *([patches] if pixels is not None else []), *([text.ids.shape[1]] if text is not None else [])]
        cls, *streams = states.split(sizes, axis=1)
        image = streams.pop(0) if pixels is not None else None
        return Encoded(cls.squeeze(1), image, streams.pop() if streams else None, mask[:, 1:])

    def embed_image(self, pixels: Pixels, masked_patches: Tensor | None = None) -> Tensor:
        """[B, 3, side, side] -> class token and patches [B, P + 1, H]; a masked patch keeps only its position."""
        x = self.tower.embed(pixels.images)
        if masked_patches is None:
            return x
        positions = self.tower.positions(*(side // self.config.resolution for side in pixels.images.shape[2:]))
        masked = F.pad(masked_patches.astype(x.dtype), [1, 0]).unsqueeze(2)  # (B, P + 1, 1); never the class token
        return x * (1.0 - masked) + masked * (self.mask_patch + positions)

    def project(self, states: Tensor) -> Tensor:
        """The embedding that is compared, of length 1: [..., H] -> [..., projection_size]."""
        return F.normalize(self.projection(states), axis=-1)

    def mean_state(self, encoded: Encoded) -> Tensor:
        """Mean of the states of all patches and real words; zeros where there is neither. [B, H]"""
        states = paddle.concat([s for s in (encoded.image, encoded.text) if s is not None], axis=1)
        weights = encoded.mask / encoded.mask.sum(1, keepdim=True).clip(min=1.0)
        return paddle.matmul(weights.unsqueeze(1), states).squeeze(1)  # (B, 1, P + S) x (B, P + S, H)

    def mixed(self, image: Tensor, text: Tensor) -> Tensor:
        """Embedding of the mean of an image's and a text's states, [B, H] and [B, H] -> [B, projection_size]."""
        return self.project((image + text) / 2)

    def mlm_logits(self, states: Tensor) -> Tensor:
        """Vocabulary logits of gathered text states; the output table is the word table. [M, H] -> [M, V]"""
        return self.mlm(states, self.tower.word_embedding.weight)

    def mim_pixels(self, states: Tensor) -> Tensor:
        """Pixels [3, side, side] of masked patches from their gathered states. [M, H] -> [M, 3 * side**2]"""
        return self.mim(states)
