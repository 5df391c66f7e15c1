"""Contrast of many pairs at once (InfoNCE), in blocks: memory grows with the number of pairs, not with its square.

The rows may be spread over processes. Each computes its own rows of the matrix of logits; what crosses processes is the
right side, a vector of column sums, and the gradient of the right side.
"""

from collections.abc import Iterator
from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor
from paddle.autograd import PyLayer

from unimo.engine.distributed import World

ROWS, COLUMNS = 512, 1024  # of one block, which stays in the processor's cache (ours)
SAFE = 1e-30  # sums of exponentials below this have lost digits
# What the largest possible exponential is, as a power of e: 16,384 of them can be summed, and those of logits 140 below
# it are still no subnormal numbers, with which a processor is many times slower.
HIGHEST = 60.0


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
    with paddle.amp.auto_cast(enable=False):  # logits of a hundred have no digits to spare
        return _InfoNCE.apply(left, right, weights, world)


class _InfoNCE(PyLayer):
    """With all logits shifted by one bound, one exponential serves the softmax of rows and of columns, and sums are
    products with ones. Where the bound is so far off that a sum underflows, rows and columns get their own maxima."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, weights: Tensor, world: World) -> Tensor:
        everyone, all_weights = _gathered(right, world), _gathered(weights, world)
        ctx.mine = mine = slice(world.rank * len(left), (world.rank + 1) * len(left))
        bound = _most(left.square().sum(1).max().sqrt() * right.square().sum(1).max().sqrt(), world) - HIGHEST
        rows, columns = _sums(_alike(left, everyone, bound), world)
        lowest = paddle.minimum(rows.min(), columns.min())
        if world.size > 1:
            dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
        ctx.alike = float(lowest) > SAFE
        of_rows, of_columns = bound, bound
        if not ctx.alike:
            of_rows, of_columns = _maxima(left, everyone, world)
            rows, columns = _sums(_apart(left, everyone, -of_rows, -of_columns), world)
        by_row, by_column = rows.log() + of_rows, (columns.log() + of_columns)[mine]
        ctx.world, ctx.asked = world, (not left.stop_gradient, not right.stop_gradient)
        row_share, column_share = weights / rows, all_weights / columns
        if not ctx.alike:
            row_share, column_share = row_share.log() - of_rows, column_share.log() - of_columns
        ctx.save_for_backward(left, everyone, weights, row_share, column_share, bound)
        return (weights * ((by_row + by_column) / 2 - (left * right).sum(1))).sum()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        left, right, weights, row_share, column_share, bound = ctx.saved_tensor()
        d_left, d_right = ([paddle.zeros_like(x) for x in _parts(*of)] for of in ((left, ROWS), (right, COLUMNS)))
        if ctx.alike:  # shares of both softmaxes: the exponentials times a matrix of rank two, made by one product
            one, other = paddle.ones_like(row_share), paddle.ones_like(column_share)
            first = _parts(paddle.stack([row_share, one], 1), ROWS)
            second = _parts(paddle.stack([other, column_share], 1), COLUMNS)
            blocks = _alike(left, right, bound)
        else:
            blocks = _apart(left, right, row_share, column_share)
        for i, j, by_row, by_column in blocks:
            if ctx.alike:
                shares = by_row.multiply_(paddle.matmul(first[i], second[j], transpose_y=True))
            else:
                shares = by_row.add_(by_column)
            d_left[i].add_(paddle.matmul(shares, right[j * COLUMNS : (j + 1) * COLUMNS]))
            d_right[j].add_(paddle.matmul(shares, left[i * ROWS : (i + 1) * ROWS], transpose_x=True))
        ours, theirs = paddle.concat(d_left), paddle.concat(d_right)
        if ctx.world.size > 1:
            dist.all_reduce(theirs)
        twice, half = 2 * weights.unsqueeze(1), dy / 2  # the diagonal counts for the row and for the column
        found = ours - twice * right[ctx.mine], theirs[ctx.mine] - twice * left
        return *(d * half if asked else None for d, asked in zip(found, ctx.asked)), None


Blocks = Iterator[tuple[int, int, Tensor, Tensor]]


def _parts(x: Tensor, size: int) -> list[Tensor]:
    """Consecutive rows, `size` of them each but for the last ones."""
    return [x[first : first + size] for first in range(0, len(x), size)]


def _alike(left: Tensor, right: Tensor, bound: Tensor) -> Blocks:
    """Each block of the matrix: its place, and twice the same exponentials of the logits less a bound."""
    parts = _parts(right, COLUMNS)
    for i, block in enumerate(_parts(left, ROWS)):
        for j, part in enumerate(parts):
            exponentials = paddle.matmul(block, part, transpose_y=True).subtract_(bound).exp_()
            yield i, j, exponentials, exponentials


def _apart(left: Tensor, right: Tensor, to_rows: Tensor, to_columns: Tensor) -> Blocks:
    """Each block: its place, and the exponentials of the logits plus a number of the row, and plus one of the column.
    The numbers are one more coordinate of the products: sums of rows and columns are slow in Paddle on a CPU."""
    first, second = paddle.concat([left, to_rows.unsqueeze(1)], 1), _with_ones(left)
    columns = _parts(_with_ones(right), COLUMNS), _parts(paddle.concat([right, to_columns.unsqueeze(1)], 1), COLUMNS)
    for i, rows in enumerate(zip(_parts(first, ROWS), _parts(second, ROWS))):
        for j, parts in enumerate(zip(*columns)):
            by_row, by_column = (paddle.matmul(x, y, transpose_y=True).exp_() for x, y in zip(rows, parts))
            yield i, j, by_row, by_column


def _with_ones(x: Tensor) -> Tensor:
    return paddle.concat([x, paddle.ones([len(x), 1])], 1)


def _sums(blocks: Blocks, world: World) -> tuple[Tensor, Tensor]:
    """Sums of the exponentials: of each own row [n], and over all processes of each column [N]."""
    rows: dict[int, Tensor] = {}
    columns: dict[int, Tensor] = {}
    for i, j, by_row, by_column in blocks:
        across = paddle.matmul(by_row, paddle.ones([by_row.shape[1], 1])).squeeze(1)
        down = paddle.matmul(paddle.ones([1, by_column.shape[0]]), by_column).squeeze(0)
        rows[i] = rows[i].add_(across) if i in rows else across
        columns[j] = columns[j].add_(down) if j in columns else down
    below = paddle.concat([*columns.values()])
    if world.size > 1:
        dist.all_reduce(below)
    return paddle.concat([*rows.values()]), below


def _maxima(left: Tensor, right: Tensor, world: World) -> tuple[Tensor, Tensor]:
    """The largest logit of each own row [n], and over all processes of each column [N]."""
    rows, columns = [], paddle.full([len(right)], -float("inf"))
    for block in _parts(left, ROWS):
        logits = paddle.matmul(block, right, transpose_y=True)
        rows.append(logits.max(1))
        columns = paddle.maximum(columns, logits.max(0))
    return paddle.concat(rows), _most(columns, world)


def _most(x: Tensor, world: World) -> Tensor:
    if world.size > 1:
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
    return x


def _gathered(x: Tensor, world: World) -> Tensor:
    """The rows of all processes, without gradient."""
    if world.size == 1:
        return x
    parts: list[Tensor] = []
    dist.all_gather(parts, x.contiguous())
    return paddle.concat(parts)
