"""Suppression against its definition, written out box by box."""

import numpy as np
import paddle
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.models.boxes import MAX_LOG_SCALE, classwise_nms, clip, decode, nms


def by_definition(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> list[int]:
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):  # stable: of equals the first
        if all(iou(boxes[i], boxes[k]) <= overlap for k in kept):
            kept.append(i)
    return kept


def iou(a: np.ndarray, b: np.ndarray) -> float:
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union else 0


side = st.integers(0, 6)
box = st.tuples(side, side, side, side).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(box, st.tuples(*[st.integers(0, 3)] * 3)), min_size=1, max_size=12),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_suppression_is_its_definition(found, overlap):
    """Small whole numbers: many equal scores and boxes, boxes without an area, overlaps of exactly 0.5."""
    boxes, scores = np.float32([b for b, _ in found]), np.float32([s for _, s in found])
    kept = classwise_nms(boxes, scores, overlap)
    for c in range(3):
        expected = by_definition(boxes, scores[:, c], overlap)
        assert nms(paddle.to_tensor(boxes), scores[:, c], overlap).tolist() == expected
        assert kept[:, c].nonzero()[0].tolist() == sorted(expected)


def test_decoding_by_hand():
    boxes = paddle.to_tensor([[10.0, 20.0, 30.0, 60.0]])
    deltas = paddle.to_tensor([[0.5, -0.25, float(np.log(2)) * 5, 100.0]])
    x1, y1, x2, y2 = decode(deltas, boxes, (10.0, 10.0, 5.0, 5.0))[0].tolist()
    assert np.allclose([x1, x2], [21 - 20, 21 + 20], atol=1e-5)
    assert np.allclose([y1 + y2, y2 - y1], [2 * 39, 40 * np.exp(MAX_LOG_SCALE)], rtol=1e-6)
    assert clip(paddle.to_tensor([[-1.0, 2.0, 50.0, 70.0]]), 60, 40).tolist() == [[0, 2, 40, 60]]
