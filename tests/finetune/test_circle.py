"""Circle loss: the spec's value at zero scores, the plain formula, and that the weights carry no gradient."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unimo.finetune.circle import circle_loss


def plain(positive: np.ndarray, negative: np.ndarray, margin: float = 0.2) -> float:
    a_p, a_n = np.maximum(1 + margin - positive, 0), np.maximum(negative + margin, 0)
    p = np.exp(-a_p * (positive - (1 - margin))).sum(1)
    n = np.exp(a_n * (negative - margin)).sum(1)
    return float(np.log1p(n * p).sum())


def test_zero_scores_give_the_value_of_the_release():
    loss = circle_loss(paddle.zeros([1, 1]), paddle.zeros([1, 10]))
    assert loss.item() == pytest.approx(3.26166, abs=5e-6)
    assert loss.item() == pytest.approx(np.log(1 + 10 * np.exp(0.92)))


scores = st.floats(-4, 4, width=32)


@settings(deadline=None, max_examples=50)
@given(arrays(np.float32, (3, 1), elements=scores), arrays(np.float32, (3, 5), elements=scores))
def test_equals_the_plain_formula(positive, negative):
    loss = circle_loss(paddle.to_tensor(positive), paddle.to_tensor(negative))
    assert loss.item() == pytest.approx(plain(positive.astype(float), negative.astype(float)), rel=1e-5, abs=1e-5)


def test_gradient_treats_the_weights_as_constants():
    positive, negative = paddle.to_tensor([[0.3]]), paddle.to_tensor([[0.1, -0.5]])
    positive.stop_gradient = negative.stop_gradient = False
    circle_loss(positive, negative).backward()
    p, n = np.exp(-0.9 * (0.3 - 0.8)), np.array([np.exp(0.3 * (0.1 - 0.2)), 1.0])
    inside = p * n.sum()
    assert positive.grad.item() == pytest.approx(-0.9 * inside / (1 + inside), rel=1e-5)
    np.testing.assert_allclose(negative.grad.numpy()[0], [0.3 * p * n[0] / (1 + inside), 0.0], rtol=1e-5)


def test_huge_scores_stay_finite():
    loss = circle_loss(paddle.full([1, 1], -60.0), paddle.full([1, 3], 60.0))
    assert np.isfinite(loss.item())
