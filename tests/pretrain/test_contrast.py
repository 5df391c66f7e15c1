"""CMCL against the formula written out, on candidate sets of every kind and size."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.pretrain.contrast import cmcl_loss


def plain(scores, positive, valid, temperature):
    total = 0.0
    for row, is_positive, is_valid in zip(scores, positive, valid):
        e = np.exp(row.astype(float) / temperature)
        total -= np.log((e * is_positive * is_valid).sum() / (e * is_valid).sum())
    return total


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([0.1, 0.5, 1.0]), st.integers(0, 2**31))
def test_equals_the_formula(pairs, candidates, temperature, seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(pairs, candidates)).astype(np.float32)
    positive, valid = rng.integers(0, 2, (2, pairs, candidates)).astype(np.float32)
    positive[:, 0] = valid[:, 0] = 1  # the pair itself
    loss = cmcl_loss(*map(paddle.to_tensor, (scores, positive, valid)), temperature)
    assert loss.item() == pytest.approx(plain(scores, positive, valid, temperature), rel=1e-4, abs=1e-4)


def test_all_positives_are_summed_inside_the_log():
    scores = paddle.to_tensor([[2.0, -50.0, 0.0]])
    positive, valid = paddle.to_tensor([[1.0, 1.0, 0.0]]), paddle.ones([1, 3])
    # one good positive is enough: a mean of -log over positives would be above 25
    assert cmcl_loss(scores, positive, valid, 1.0).item() == pytest.approx(np.log1p(np.exp(-2.0)), rel=1e-5)


def test_without_negatives_the_loss_is_zero_and_padding_has_no_gradient():
    scores = paddle.to_tensor([[1.0, 3.0, 9.0]])
    scores.stop_gradient = False
    loss = cmcl_loss(scores, paddle.ones([1, 3]), paddle.to_tensor([[1.0, 1.0, 0.0]]), 0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert scores.grad.numpy()[0, 2] == 0
