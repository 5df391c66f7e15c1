"""Training operators for the CPU, faster than Paddle 3.3.1's own and equal to them but for rounding.

Paddle's CPU kernels lose most (tests/benchmarks/operators.py) in sums over rows, as in bias gradients and layer norm,
in broadcasts, in copies of permuted tensors, in dropout and in the backward pass of the exact GELU. Here sums
are products with ones, broadcasts are rank-one products, permutations gather whole rows, dropout takes 16 random bits
per element instead of a float, and GELU keeps its derivative.

Each is a `PyLayer` over Paddle's public operators. Tensors needed later go through `save_for_backward`, so that
recompute can drop them; nothing saved and no incoming gradient is changed in place. A frozen input gets no gradient,
nor does a weight in a `paddle.grad` that is not for it: Paddle refuses one that nobody asked for.
"""

import inspect
import math
import sys
from types import FrameType
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.autograd import PyLayer

PADDLE_GRAD = inspect.unwrap(paddle.grad).__code__


def _asked(ctx: Any, weight: str, bias: str) -> list[bool]:
    """Which of an operator's input, weight and bias (by name) this backward pass is for.

    An ordinary one is for all that are not frozen. One under `paddle.grad` is for the tensors that it was given, and
    Paddle 3.3.1 tells a PyLayer nothing of it: they are read off the call. Since the operator is on the way to one of
    them, it is the input's turn unless weight and bias are all that is asked.
    """
    asked: list[bool] = ctx.asked
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not PADDLE_GRAD:
        frame = frame.f_back
    if frame is None:
        return asked
    inputs = frame.f_locals["inputs"]
    names = {tensor.name for tensor in (inputs if isinstance(inputs, list | tuple) else [inputs])}
    return [asked[0] and bool(names - {weight, bias}), asked[1] and weight in names, asked[2] and bias in names]


def _row_sums(x: Tensor) -> Tensor:
    """[N, H] -> [N, 1]."""
    return paddle.matmul(x, paddle.ones([x.shape[1], 1], x.dtype))


def _column_sums(x: Tensor) -> Tensor:
    """[N, H] -> [H]."""
    return paddle.matmul(paddle.ones([1, x.shape[0]], x.dtype), x).squeeze(0)


def _subtract_column(x: Tensor, column: Tensor) -> Tensor:
    """[N, H] - [N, 1]; the rank-one update of a matrix product is several times faster than broadcasting."""
    return paddle.addmm(x, column, paddle.ones([1, x.shape[1]], x.dtype), alpha=-1.0)


class _Linear(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, transposed: bool) -> Tensor:
        ctx.transposed, ctx.asked = transposed, [not t.stop_gradient for t in (x, weight, bias)]
        ctx.names = weight.name, bias.name
        ctx.save_for_backward(x, weight)
        rows = x.reshape([-1, x.shape[-1]])
        if transposed:
            y = paddle.matmul(rows, weight, transpose_y=True).add_(bias)
        else:
            y = paddle.addmm(bias, rows, weight)
        return y.reshape([*x.shape[:-1], y.shape[-1]])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Paddle takes None
        (x, weight), (input_asked, weight_asked, bias_asked) = ctx.saved_tensor(), _asked(ctx, *ctx.names)
        rows, drows = x.reshape([-1, x.shape[-1]]), dy.reshape([-1, dy.shape[-1]])
        dx = dweight = dbias = None
        if input_asked:
            dx = paddle.matmul(drows, weight, transpose_y=not ctx.transposed).reshape(x.shape)
        if weight_asked:
            dweight = paddle.matmul(*((drows, rows) if ctx.transposed else (rows, drows)), transpose_x=True)
        if bias_asked:
            dbias = _column_sums(drows)
        return dx, dweight, dbias


def linear(x: Tensor, weight: Tensor, bias: Tensor, transposed: bool = False) -> Tensor:
    """Affine map: x [..., I], weight [I, O] (or [O, I] if `transposed`), bias [O] -> [..., O]."""
    return _Linear.apply(x, weight, bias, transposed)


class _Gelu(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        cdf = paddle.erf(x * math.sqrt(0.5)).scale_(0.5, 0.5)
        slope = paddle.square(x).scale_(-0.5, -0.5 * math.log(2 * math.pi)).exp_().multiply_(x).add_(cdf)
        ctx.save_for_backward(slope)
        return cdf.multiply_(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensor()
        return dy * slope


def gelu(x: Tensor) -> Tensor:
    """Exact GELU, x * cdf(x); its derivative cdf(x) + x * pdf(x) is kept instead of x."""
    return _Gelu.apply(x)


def dropout_mask(shape: list[int], p: float) -> tuple[Tensor, float]:
    """Random uint8 mask of `shape` (1 = keep) and the factor for what is kept, drawn from `paddle.seed`'s generator.

    The rate is rounded to a multiple of 2**-16 and the factor is the inverse of the share that is really kept.
    """
    count = math.prod(shape)
    dropped = round(p * 2**16)
    words = paddle.empty([-(-count // 4)], "int64").random_(-(2**63), 2**63 - 1)  # four 16-bit numbers each
    keep = words.view("int16")[:count] >= dropped - 2**15
    return keep.view("uint8").reshape(shape), 1 / (1 - dropped / 2**16)


def _apply_mask(x: Tensor, keep: Tensor, factor: float) -> Tensor:
    return keep.astype(x.dtype).scale_(factor).multiply_(x)


class _Dropout(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keep, ctx.factor = dropout_mask(x.shape, p)
        ctx.save_for_backward(keep)
        return _apply_mask(x, keep, ctx.factor)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (keep,) = ctx.saved_tensor()
        return _apply_mask(dy, keep, ctx.factor)


def dropout(x: Tensor, p: float) -> Tensor:
    """Inverted dropout."""
    return _Dropout.apply(x, p) if p else x


class _LayerNorm(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        h = x.shape[-1]
        rows = x.reshape([-1, h])
        centred = _subtract_column(rows, _row_sums(rows) / h)
        rstd = paddle.rsqrt(_row_sums(paddle.square(centred)) / h + epsilon)  # [N, 1]
        ctx.save_for_backward(centred * rstd, rstd, weight)
        ctx.asked, ctx.names = [not t.stop_gradient for t in (x, weight, bias)], (weight.name, bias.name)
        return F.layer_norm(x, h, weight, bias, epsilon)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]  # Paddle takes None
        (normed, rstd, weight), (input_asked, weight_asked, bias_asked) = ctx.saved_tensor(), _asked(ctx, *ctx.names)
        h = dy.shape[-1]  # normed [N, H], rstd [N, 1], weight [H]
        drows, column = dy.reshape([-1, h]), (weight / h).unsqueeze(1)
        dweights = drows * normed  # of each row
        dx = dweight = dbias = None
        if input_asked:
            shared = normed * paddle.matmul(dweights, column)
            dx = _subtract_column(drows * weight, paddle.matmul(drows, column)).subtract_(shared).multiply_(rstd)
            dx = dx.reshape(dy.shape)
        if weight_asked:
            dweight = _column_sums(dweights)
        if bias_asked:
            dbias = _column_sums(drows)
        return dx, dweight, dbias


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Layer norm over the last axis. x [..., H], weight and bias [H]."""
    return _LayerNorm.apply(x, weight, bias, epsilon)


def permute_rows(x: Tensor, order: list[int]) -> Tensor:
    """`x.transpose(order)` as a contiguous tensor, where the last axis stays: whole rows are gathered."""
    *axes, d = x.shape
    index = np.arange(math.prod(axes), dtype=np.int32).reshape(axes).transpose(order[:-1])
    return paddle.gather(x.reshape([-1, d]), paddle.to_tensor(index.ravel())).reshape([*index.shape, d])


class _Attention(PyLayer):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, num_heads: int, p: float) -> Tensor:
        b, s, h3 = qkv.shape
        d = h3 // 3 // num_heads
        ctx.heads = [b, s, 3, num_heads, d]
        q, k, v = permute_rows(qkv.reshape(ctx.heads), [2, 0, 3, 1, 4]).unbind(0)  # (B, heads, S, D) each
        logits = paddle.matmul(q * d**-0.5, k, transpose_y=True)
        weights = F.softmax_(logits.add_(bias.expand(logits.shape)))  # (B, heads, S, S)
        used, keep = weights, []
        if p:
            mask, ctx.factor = dropout_mask(weights.shape, p)
            used, keep = _apply_mask(weights, mask, ctx.factor), [mask]
        context = paddle.matmul(used, v)
        ctx.save_for_backward(q, k, v, weights, context, *keep)
        return permute_rows(context, [0, 2, 1, 3]).reshape([b, s, h3 // 3])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        q, k, v, weights, context, *keep = ctx.saved_tensor()
        b, s, _, num_heads, d = ctx.heads
        dcontext = permute_rows(dy.reshape([b, s, num_heads, d]), [0, 2, 1, 3])
        used = _apply_mask(weights, keep[0], ctx.factor) if keep else weights
        dv = paddle.matmul(used, dcontext, transpose_x=True)
        dweights = paddle.matmul(dcontext, v, transpose_y=True)
        if keep:
            dweights = _apply_mask(dweights, keep[0], ctx.factor)
        # the softmax's sum over keys of weight * gradient equals the sum over D of context * gradient
        shared = _row_sums((dcontext * context).reshape([-1, d]))
        dlogits = _subtract_column(dweights.reshape([-1, s]), shared).reshape(weights.shape).multiply_(weights)
        dlogits.scale_(d**-0.5)
        dq = paddle.matmul(dlogits, k)
        dk = paddle.matmul(dlogits, q, transpose_x=True)
        return permute_rows(paddle.stack([dq, dk, dv]), [1, 3, 0, 2, 4]).reshape([b, s, -1])


def attention(qkv: Tensor, bias: Tensor, num_heads: int, p: float) -> Tensor:
    """Self-attention. Joint projection qkv [B, S, 3H], bias broadcastable to [B, heads, S, S] -> [B, S, H]."""
    return _Attention.apply(qkv, bias, num_heads, p)
