"""Transformer parts that the systems share: attention masks, attention with a key/value cache, post- and pre-LN blocks.

`Linear`, `LayerNorm`, `gelu`, `dropout` and the attention take the operators of `cpu_training` when a CPU trains, and
Paddle's own everywhere else: on a GPU, under `to_static`, in evaluation but for permutations and broadcast sums.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.distributed.fleet.utils import recompute

from unimo.errors import ConfigError
from unimo.models import cpu_training

Activation = Literal["gelu", "relu"]
MASKED = 1e4  # the release adds 1e4 * (mask - 1) to the logits, not -inf (transformer_encoder.py)


def _runs_on_cpu(x: Tensor) -> bool:
    return paddle.in_dynamic_mode() and x.place.is_cpu_place()


def _trains_on_cpu(x: Tensor, training: bool) -> bool:
    return training and _runs_on_cpu(x)


class Linear(nn.Linear):
    """Affine map, weight [in, out]."""

    def forward(self, x: Tensor) -> Tensor:
        """Product and bias. [..., in] -> [..., out]"""
        if _trains_on_cpu(x, self.training):
            return cpu_training.linear(x, self.weight, self.bias)
        return super().forward(x)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis."""

    weight: Tensor  # always there, as `bias` is: none of ours is built without
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalised over the last axis, of any shape that ends in it."""
        if _trains_on_cpu(x, self.training):
            return cpu_training.layer_norm(x, self.weight, self.bias, self._epsilon)
        return super().forward(x)


def gelu(x: Tensor, training: bool) -> Tensor:
    """Exact (erf) GELU."""
    return cpu_training.gelu(x) if _trains_on_cpu(x, training) else F.gelu(x)


def activate(x: Tensor, activation: Activation, training: bool) -> Tensor:
    """Exact GELU, or the ReLU of PaddleNLP's Chinese UNIMO."""
    return gelu(x, training) if activation == "gelu" else F.relu(x)


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout."""
    return cpu_training.dropout(x, p) if _trains_on_cpu(x, training) else F.dropout(x, p, training=training)


def tied_logits(x: Tensor, table: Tensor, bias: Tensor, training: bool) -> Tensor:
    """Product with a word table and a bias: x [M, H], table [V, H], bias [V] -> [M, V]."""
    if _trains_on_cpu(x, training):
        return cpu_training.linear(x, table, bias, transposed=True)
    return paddle.matmul(x, table, transpose_y=True) + bias


def attention_bias(mask: Tensor) -> Tensor:
    """0/1 mask -> additive bias. [B, Sk] (keys only) -> [B, 1, 1, Sk]; [B, Sq, Sk] -> [B, 1, Sq, Sk]."""
    bias = MASKED * (mask.astype("float32") - 1.0)
    return bias.unsqueeze([1, 2]) if mask.ndim == 2 else bias.unsqueeze(1)


def seq2seq_mask(source_lengths: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Mask of source followed by target in one sequence; [B] and [B] int64 -> [B, size, size] float32.

    Every row sees the source; a target row also sees the target up to and including itself (release: batching.py).
    """
    index = paddle.arange(size)
    row, column = index.reshape([1, size, 1]), index.reshape([1, 1, size])
    source, total = source_lengths.reshape([-1, 1, 1]), lengths.reshape([-1, 1, 1])
    visible = (column < source) | ((row >= source) & (column <= row))
    return (visible & (row < total) & (column < total)).astype("float32")


def captioning_mask(context: Tensor, text: Tensor) -> Tensor:
    """Mask of [image, tags] followed by a caption; [B, C] and [B, T] 0/1 -> [B, C + T, C + T] float32.

    Image and tags see each other in both directions and never the caption; the caption sees both and its own past.
    """
    mask = paddle.concat([context, text], axis=1).astype("float32")
    outer = mask.unsqueeze(2) * mask.unsqueeze(1)
    c, t = context.shape[1], text.shape[1]
    causal = paddle.concat(
        [
            paddle.concat([paddle.ones([c, c]), paddle.zeros([c, t])], axis=1),
            paddle.concat([paddle.ones([t, c]), paddle.tril(paddle.ones([t, t]))], axis=1),
        ],
        axis=0,
    )
    return outer * causal


@dataclass
class KeyValue:
    """Keys and values of one layer that later decoding steps attend to, each [B, heads, T, head_dim]."""

    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> "KeyValue":
        """Reorder or repeat the batch, as beam search does with its parents. rows: [B'] int64."""
        return KeyValue(self.keys.index_select(rows), self.values.index_select(rows))


class Cache(list[KeyValue]):
    """What later decoding steps attend to: keys and values of every layer of a model, in the order they run."""

    def select(self, rows: Tensor) -> "Cache":
        """Reorder or repeat the batch, as beam search does with its parents. rows: [B'] int64."""
        return Cache(layer.select(rows) for layer in self)


Spans = Sequence[tuple[int, int]]  # first position and the one behind the last


def _at(x: Tensor, spans: Spans, axis: int) -> Tensor:
    """Some spans of an axis, in their order; a traced one may depend on a length."""
    return paddle.concat([x.slice([axis], [start], [stop]) for start, stop in spans], axis)


def _permuted(x: Tensor, order: list[int]) -> Tensor:
    """`x.transpose(order)`, where the last axis stays."""
    return cpu_training.permute_rows(x, order) if _runs_on_cpu(x) else x.transpose(order)


def _biased(logits: Tensor, bias: Tensor) -> Tensor:
    """Their sum; on a CPU in the place of the logits."""
    return logits.add_(bias.expand(logits.shape)) if _runs_on_cpu(logits) else logits + bias


class Attention(nn.Layer):
    """Multi-head self-attention. Query, key and value are one product [H, 3H]; the port splits and joins the three."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float):
        super().__init__()
        if hidden_size % num_heads:
            raise ConfigError(f"hidden_size ({hidden_size}) must be divisible by num_attention_heads ({num_heads})")
        self.num_heads, self.head_dim, self.dropout = num_heads, hidden_size // num_heads, dropout
        self.qkv = Linear(hidden_size, 3 * hidden_size)
        self.out = Linear(hidden_size, hidden_size)

    def forward(
        self, x: Tensor, bias: Tensor, cache: KeyValue | None = None, read: Spans = ()
    ) -> tuple[Tensor, KeyValue | None]:
        """States [B, S, H], bias broadcastable to [B, heads, S, T] -> ([B, S, H], cache extended by these S positions).

        In training nothing attends to these positions later, so there the second result is None.

        Args:
            read: spans of the R positions that are wanted, [B, R, H]; by default all.
        """
        b, s, h = x.shape
        qkv = self.qkv(x)
        if cache is None and not read and _trains_on_cpu(x, self.training):
            return self.out(cpu_training.attention(qkv, bias, self.num_heads, self.dropout)), None
        q, k, v = _permuted(qkv.reshape([b, s, 3, self.num_heads, self.head_dim]), [2, 0, 3, 1, 4]).unbind(0)
        if read:
            q = _at(q, read, 2)
            bias, s = bias if bias.shape[2] == 1 else _at(bias, read, 2), q.shape[2]
        if cache is not None:
            k = paddle.concat([cache.keys, k], axis=2)
            v = paddle.concat([cache.values, v], axis=2)
        logits = paddle.matmul(q * self.head_dim**-0.5, k, transpose_y=True)  # (B, heads, S, T)
        weights = F.dropout(F.softmax(_biased(logits, bias)), self.dropout, training=self.training)
        context = _permuted(paddle.matmul(weights, v), [0, 2, 1, 3]).reshape([b, s, h])
        return self.out(context), None if self.training else KeyValue(k, v)


class FeedForward(nn.Layer):
    """Affine, activation, affine; no dropout inside."""

    def __init__(self, hidden_size: int, inner_size: int, activation: Activation = "gelu"):
        super().__init__()
        self.activation = activation
        self.inner = Linear(hidden_size, inner_size)
        self.outer = Linear(inner_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Each position by itself. [..., H] -> [..., H]"""
        return self.outer(activate(self.inner(x), self.activation, self.training))


class PostNormBlock(nn.Layer):
    """Attention and feed-forward, each followed by dropout, residual sum and layer norm ("dan" in the release)."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        dropout: float,
        attention_dropout: float,
        epsilon: float,
        activation: Activation = "gelu",
    ):
        super().__init__()
        self.attention = Attention(hidden_size, num_heads, attention_dropout)
        self.attention_norm = LayerNorm(hidden_size, epsilon)
        self.feed_forward = FeedForward(hidden_size, 4 * hidden_size, activation)
        self.feed_forward_norm = LayerNorm(hidden_size, epsilon)
        self.dropout = dropout

    def forward(
        self, x: Tensor, bias: Tensor, cache: KeyValue | None = None, read: Spans = ()
    ) -> tuple[Tensor, KeyValue | None]:
        """Arguments and results as those of `Attention`; the residual sums are normalised."""
        attended, cache = self.attention(x, bias, cache, read)
        x = _at(x, read, 1) if read else x
        x = self.attention_norm(x + dropout(attended, self.dropout, self.training))
        x = self.feed_forward_norm(x + dropout(self.feed_forward(x), self.dropout, self.training))
        return x, cache


class PreNormBlock(nn.Layer):
    """Attention and feed-forward, each of the layer norm of its input, dropout and residual sum."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float, attention_dropout: float, epsilon: float):
        super().__init__()
        self.attention_norm = LayerNorm(hidden_size, epsilon)
        self.attention = Attention(hidden_size, num_heads, attention_dropout)
        self.feed_forward_norm = LayerNorm(hidden_size, epsilon)
        self.feed_forward = FeedForward(hidden_size, 4 * hidden_size)
        self.dropout = dropout

    def forward(self, x: Tensor, bias: Tensor, cache: KeyValue | None = None) -> tuple[Tensor, KeyValue | None]:
        """Arguments and results as those of `Attention`; the last sum is left without a norm."""
        attended, cache = self.attention(self.attention_norm(x), bias, cache)
        x = x + dropout(attended, self.dropout, self.training)
        return x + dropout(self.feed_forward(self.feed_forward_norm(x)), self.dropout, self.training), cache


def run_blocks(
    blocks: Iterable[nn.Layer],
    x: Tensor,
    bias: Tensor,
    cache: Sequence[KeyValue] | None = None,
    keep_cache: bool = True,
    recomputed: bool = False,
    read: Spans = (),
) -> tuple[Tensor, Cache]:
    """Run a stack of blocks over [B, S, H] -> the last states and the cache, one entry a block; empty in training.

    Args:
        keep_cache: without it no block's keys and values outlive it: scoring needs none, and they are large.
        recomputed: in training, trade a second forward pass of each block for its activations.
        read: spans of the positions that are wanted of the last block, of post-LN blocks; by default all.
    """
    blocks, new_cache = list(blocks), Cache()
    for i, block in enumerate(blocks):
        wanted = {"read": read} if read and block is blocks[-1] else {}
        if recomputed and block.training:
            run = lambda x, bias, block=block, wanted=wanted: block(x, bias, **wanted)[0]  # noqa: E731
            # use_reentrant=False: the default drops gradients when the input needs none, and breaks DataParallel
            x = recompute(run, x, bias, use_reentrant=False)
        else:
            x, kept = block(x, bias, cache[i] if cache is not None else None, **wanted)
            if keep_cache and kept is not None:
                new_cache.append(kept)
    return x, new_cache


def truncated_normal(std: float) -> nn.initializer.Initializer:
    """Normal around 0, cut at two standard deviations, as all the releases draw weights."""
    return nn.initializer.TruncatedNormal(0.0, std, a=-2 * std, b=2 * std)


def initialise(model: nn.Layer, std: float) -> None:
    """Draw the weights of all affine maps and embedding tables of `model` anew."""
    draw = truncated_normal(std)
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, nn.Linear | nn.Embedding):
            draw(layer.weight)
