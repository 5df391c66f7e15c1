"""Contrast of many pairs at once (InfoNCE), in blocks: memory grows with the number of pairs, not with its square.

The rows may be spread over processes. Each computes its own rows of the matrix of logits; what crosses processes is the
right side, a vector of column sums, and the gradient of the right side.
"""

from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor
from paddle.autograd import PyLayer

from unimo.engine.distributed import World

ROWS = 512  # of one block (ours)
SAFE = 1e-30  # sums of exponentials below this have lost digits


def info_nce(left: Tensor, right: Tensor, weights: Tensor, world: World) -> Tensor:
    """Sum over rows i of w_i / 2 * (cross-entropy of i among all right rows + of i among all left rows).

    Logits are the products left_i . right_j, so a temperature divides one side beforehand; the true partner of a row
    stands in the same row. Gradients reach both sides and through them the temperature.

    Args:
        left, right: [n, D] float32, this process's rows; every process has as many.
        weights: [n] float32; a row of weight 0 is a candidate of others only.
        world: the processes, whose rows are candidates too.

    Returns:
        A scalar, of this process's rows. Summed over processes, value and gradient are those of one that has them all.
    """
    return _InfoNCE.apply(left, right, weights, world)


class _InfoNCE(PyLayer):
    """With all logits shifted by one bound, one exponential serves the softmax of rows and of columns, and sums are
    products with ones. Where the bound is so far off that a sum underflows, rows and columns get their own maxima."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, weights: Tensor, world: World) -> Tensor:
        everyone, all_weights = _gathered(right, world), _gathered(weights, world)
        first = world.rank * left.shape[0]
        own = (left * right).sum(1)  # the diagonal
        bound = _most(left.square().sum(1).max().sqrt() * right.square().sum(1).max().sqrt(), world)
        rows, columns = _sums(left, everyone, bound, bound, world)
        lowest = paddle.minimum(rows.min(), columns.min())
        if world.size > 1:
            dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
        ctx.exact = not float(lowest) > SAFE
        row_shift, column_shift = bound, bound
        if ctx.exact:
            row_shift, column_shift = _maxima(left, everyone, world)
            rows, columns = _sums(left, everyone, row_shift, column_shift, world)
        mine = slice(first, first + left.shape[0])
        of_columns = column_shift[mine] if ctx.exact else column_shift
        by_row, by_column = rows.log() + row_shift, columns[mine].log() + of_columns
        ctx.save_for_backward(left, everyone, weights, all_weights, rows, columns, row_shift, column_shift)
        ctx.world, ctx.mine = world, mine
        ctx.asked = not left.stop_gradient, not right.stop_gradient
        return (weights * ((by_row + by_column) / 2 - own)).sum()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        left, right, weights, all_weights, rows, columns, row_shift, column_shift = ctx.saved_tensor()
        d_left, d_right = [], paddle.zeros_like(right)
        for start in range(0, left.shape[0], ROWS):
            block = slice(start, start + ROWS)
            logits = paddle.matmul(left[block], right, transpose_y=True)
            of_rows, of_columns = weights[block] / rows[block], all_weights / columns
            if ctx.exact:
                shares = (logits - row_shift[block].unsqueeze(1)).exp_() * of_rows.unsqueeze(1)
                shares = shares + (logits - column_shift).exp_() * of_columns
            else:  # times a matrix of rank two, made by one product
                outer = paddle.stack([of_rows, paddle.ones_like(of_rows)], axis=1)
                inner = paddle.stack([paddle.ones_like(of_columns), of_columns])
                shares = (logits - row_shift).exp_().multiply_(paddle.matmul(outer, inner))
            d_left.append(paddle.matmul(shares, right))
            d_right.add_(paddle.matmul(shares, left[block], transpose_x=True))
        if ctx.world.size > 1:
            dist.all_reduce(d_right)
        on_diagonal = weights.unsqueeze(1)
        half = dy / 2
        d_left = paddle.concat(d_left) - 2 * on_diagonal * right[ctx.mine]
        d_right = d_right[ctx.mine] - 2 * on_diagonal * left
        return *(d * half if asked else None for d, asked in zip((d_left, d_right), ctx.asked)), None


def _gathered(x: Tensor, world: World) -> Tensor:
    """The rows of all processes, without gradient."""
    if world.size == 1:
        return x
    parts: list[Tensor] = []
    dist.all_gather(parts, x.contiguous())
    return paddle.concat(parts)


def _most(x: Tensor, world: World) -> Tensor:
    if world.size > 1:
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
    return x


def _sums(left: Tensor, right: Tensor, row_shift: Tensor, column_shift: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """Sums of exponentials of the shifted logits: of each own row [n], and over all processes of each column [N]."""
    rows, columns = [], paddle.zeros([right.shape[0]])
    one = row_shift.ndim == 0  # a shift for all
    for start in range(0, left.shape[0], ROWS):
        block = slice(start, start + ROWS)
        logits = paddle.matmul(left[block], right, transpose_y=True)
        if one:
            shares = by_column = (logits - row_shift).exp_()
        else:
            shares = (logits - row_shift[block].unsqueeze(1)).exp_()
            by_column = (logits - column_shift).exp_()
        rows.append(paddle.mv(shares, paddle.ones([right.shape[0]])))
        columns.add_(paddle.mv(by_column.t(), paddle.ones([by_column.shape[0]])))
    if world.size > 1:
        dist.all_reduce(columns)
    return paddle.concat(rows), columns


def _maxima(left: Tensor, right: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """The largest logit of each own row [n], and over all processes of each column [N]."""
    rows, columns = [], paddle.full([right.shape[0]], -float("inf"))
    for start in range(0, left.shape[0], ROWS):
        logits = paddle.matmul(left[start : start + ROWS], right, transpose_y=True)
        rows.append(logits.max(1))
        columns = paddle.maximum(columns, logits.max(0))
    return paddle.concat(rows), _most(columns, world)
