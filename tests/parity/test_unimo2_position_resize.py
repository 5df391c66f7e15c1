"""UNIMO-2's position table for images of other sizes: values, and the gradient that flows through the resize."""

import numpy as np
import paddle
import pytest

from parity.recordings import arrays, each_recording, each_replayed
from unimo.models.vision import resize_positions

FOLDER = "unimo2_position_resize"


def differences(golden: dict[str, np.ndarray], table: np.ndarray) -> dict[str, float]:
    """By recorded array; `out_<n>` and `grad_<n>` are of a grid of n x n patches."""
    found = {}
    for name in golden:
        kind, _, side = name.partition("_")
        if kind != "out":
            continue
        given = paddle.to_tensor(table, stop_gradient=False)
        resized = resize_positions(given, int(side), int(side))
        (resized * paddle.to_tensor(golden[f"in_weight_{side}"])).sum().backward()
        assert given.grad is not None
        found[name] = float(np.abs(resized.numpy() - golden[name]).max())
        found[f"grad_{side}"] = float(np.abs(given.grad.numpy() - golden[f"grad_{side}"]).max())
    return found


@each_recording(FOLDER)
def test_recording(recording):
    golden = arrays(recording)
    found = differences(golden, golden["in_table"])
    assert found.keys() == {name for name in golden if not name.startswith("in_")}
    assert max(found.values()) <= 1e-5, found


@each_replayed(FOLDER)
@pytest.mark.parametrize("rows", [(0, 1), (1, 2), (1, 15), (-8, -1)])
def test_exchanged_positions_differ(recording, rows):
    golden = arrays(recording)
    table = golden["in_table"].copy()
    table[:, rows] = table[:, rows[::-1]]
    found = differences(golden, table)
    assert min(found[name] for name in found if name.startswith("out")) > 1e-5
