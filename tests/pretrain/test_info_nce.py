"""The contrast in blocks against the plain form: values, gradients, any size, extreme logits, several processes."""

from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from engine.launched import launch
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.engine.distributed import World
from unimo.pretrain import info_nce as blocks
from unimo.pretrain.info_nce import info_nce


def made(n: int, width: int, seed: int, scale: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((2, n, width))
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    left = scale * (left / np.linalg.norm(left, axis=1, keepdims=True) + right)
    weights = rng.integers(0, 2, n) * rng.random(n)
    return {k: v.astype(np.float32) for k, v in (("left", left), ("right", right), ("weights", weights))}


def plain(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Two cross-entropies of the whole matrix, in float64."""
    left, right = (paddle.to_tensor(rows[k].astype(np.float64), stop_gradient=False) for k in ("left", "right"))
    logits, weights = left @ right.t(), paddle.to_tensor(rows["weights"].astype(np.float64))
    diagonal = logits.diagonal()
    loss = (weights * ((logits.logsumexp(1) + logits.logsumexp(0)) / 2 - diagonal)).sum()
    loss.backward()
    return {"loss": loss.numpy(), "left": left.grad.numpy(), "right": right.grad.numpy()}


def in_blocks(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    left, right = (paddle.to_tensor(rows[k], stop_gradient=False) for k in ("left", "right"))
    loss = info_nce(left, right, paddle.to_tensor(rows["weights"]), World())
    loss.backward()
    return {"loss": loss.numpy(), "left": left.grad.numpy(), "right": right.grad.numpy()}


def close(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], scale: float = 1e-2) -> None:
    """To 1e-5 of the largest, or of what it is a difference of."""
    for name, array in wanted.items():
        most = max(np.abs(array).max(), scale, 1.0 if name == "loss" else 0.0)
        assert np.abs(found[name] - array).max() <= 1e-5 * most, name


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 99), st.sampled_from([0.1, 3.0, 30.0, 300.0]))
def test_equal_to_the_plain_form(n, width, seed, scale):
    rows, before = made(n, width, seed, scale), (blocks.ROWS, blocks.COLUMNS)
    blocks.ROWS, blocks.COLUMNS = 7, 9  # ragged blocks
    try:
        close(in_blocks(rows), plain(rows), max(1, np.abs(rows["left"]).max()) * max(1, scale / 30))
    finally:
        blocks.ROWS, blocks.COLUMNS = before


def test_more_rows_than_one_block():
    rows = made(1300, 16, 0, 10.0)
    close(in_blocks(rows), plain(rows))


def test_sums_that_underflow_get_their_own_maxima():
    """One long row far from all others: under the common bound the sums of the others would be zero."""
    rows = made(12, 4, 1, 1.0)
    rows["left"][0] *= 400
    found = in_blocks(rows)
    assert np.isfinite(found["loss"])
    close(found, plain(rows))


def test_gradient_of_a_temperature():
    rows = made(20, 6, 2, 1.0)
    found = []
    for contrast in (in_two, in_one):
        temperature = paddle.to_tensor([0.07], stop_gradient=False)
        contrast(rows, temperature).backward()
        found.append(temperature.grad.item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def in_one(rows: dict[str, np.ndarray], temperature: paddle.Tensor) -> paddle.Tensor:
    left, right, weights = (paddle.to_tensor(rows[k]) for k in ("left", "right", "weights"))
    return info_nce(left / temperature, right, weights, World())


def in_two(rows: dict[str, np.ndarray], temperature: paddle.Tensor) -> paddle.Tensor:
    left, right, weights = (paddle.to_tensor(rows[k]) for k in ("left", "right", "weights"))
    logits, own = left @ right.t() / temperature, paddle.arange(len(weights))
    parts = [F.cross_entropy(x, own, reduction="none").flatten() for x in (logits, logits.t())]
    return (weights * (parts[0] + parts[1])).sum() / 2


@pytest.mark.parametrize("longest", [1.0, 400.0], ids=["one bound", "own maxima"])
def test_two_processes_are_one(tmp_path: Path, longest):
    rows = made(10, 5, 3, 1.0)
    rows["left"][0] *= longest
    np.savez(tmp_path / "rows.npz", **rows)
    program = Path(__file__).with_name("contrasting_ranks.py")
    process = launch([str(program)], tmp_path, {"NPROC": "2"})
    assert process.wait(120) == 0, process.out.read_text()
    ranks = [np.load(tmp_path / f"rank{rank}.npz") for rank in (0, 1)]
    joined = {side: np.concatenate([rank[side] for rank in ranks]) for side in ("left", "right")}
    joined["loss"] = sum(rank["loss"] for rank in ranks)
    for name, array in in_blocks(rows).items():
        assert np.abs(joined[name] - array).max() <= 1e-6 * max(longest, np.abs(array).max()), name
