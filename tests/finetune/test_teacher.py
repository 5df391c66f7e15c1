"""The closed-form teacher and its codes, against plain formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimo.evaluate.ridge import ridge, unit
from unimo.finetune.closed_form import principal
from unimo.finetune.teacher import (
    PARTS,
    PENALTY,
    SHARPNESS,
    Codes,
    KernelRidge,
    SentenceSpace,
    Teacher,
    picture_features,
)


@given(st.integers(0, 1 << 30), st.integers(4, 23), st.integers(1, 9))
def test_the_heads_product_of_codes_is_the_plain_product(seed: int, size: int, coordinates: int):
    """Through ReLU and match weights, whether there are more or fewer coordinates than a code holds."""
    a, b = np.random.default_rng(seed).uniform(-1, 1, size=(2, 5, coordinates)).astype(np.float32)
    codes = Codes(np.ones((3, coordinates), np.float32), size)  # the shift is 3
    pictures, texts = np.maximum(codes.of_pictures(a), 0), np.maximum(codes.of_texts(b), 0)
    assert pictures.shape == texts.shape == (5, size)
    kept = (size - 2) // 2
    expected = codes.scale * (a[:, :kept] * b[:, :kept]).sum(1)
    np.testing.assert_allclose((pictures * texts) @ codes.match_weights[:, 0], expected, rtol=1e-4, atol=1e-3)


@given(st.integers(0, 1 << 30), st.floats(0.1, 1000))
def test_a_ridge_is_the_same_in_either_space(seed: int, strength: float):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(7, 12)), rng.normal(size=(7, 3))
    expected = np.linalg.solve(x.T @ x + strength * np.eye(12), x.T @ y)
    np.testing.assert_allclose(ridge(x, y, strength), expected, atol=1e-8)
    np.testing.assert_allclose(
        ridge(x.T, x.T[:, :2], strength), np.linalg.solve(x @ x.T + strength * np.eye(7), x @ x.T[:, :2]), atol=1e-8
    )


@pytest.fixture
def captioned() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [20, 8], the picture of each of 30 captions, their targets [30, 4]."""
    rng = np.random.default_rng(5)
    rows = np.concatenate([np.arange(20), rng.integers(20, size=10)])
    return rng.uniform(0, 2, (20, 8)).astype(np.float32), rows, rng.normal(size=(30, 4)).astype(np.float32)


def test_the_regression_has_a_row_for_each_caption(captioned):
    features, rows, targets = captioned
    new = np.random.default_rng(6).uniform(0, 2, (5, 8)).astype(np.float32)
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    x, y = unit((features - mean) / deviation)[rows], unit((new - mean) / deviation)
    kernel = np.exp(SHARPNESS * (x @ x.T - 1))
    expected = np.exp(SHARPNESS * (y @ x.T - 1)) @ np.linalg.solve(kernel + PENALTY * np.eye(30), targets)
    np.testing.assert_allclose(KernelRidge(features, rows, targets)(new), unit(expected), atol=1e-4)


def test_no_picture_is_taught_what_its_own_captions_say(captioned):
    features, rows, targets = captioned
    before = Teacher(features, rows, targets, seed=3)
    picture = 7
    changed = targets.copy()
    changed[rows == picture] = -10
    after = Teacher(features, rows, changed, seed=3)
    one = features[picture : picture + 1]
    np.testing.assert_array_equal(before(one, [picture]), after(one, [picture]))
    assert np.abs(before(one, [-1]) - after(one, [-1])).max() > 0.01, "the whole teacher has read them"
    assert sorted(set(before.part)) == list(range(PARTS))
    both = before(features[:6], [0, 1, 2, -1, 4, -1])
    np.testing.assert_allclose(both[3], before(features[3:4], [-1])[0], atol=1e-6)


def test_the_sentence_space_is_centred_and_damped():
    rng = np.random.default_rng(2)
    vectors = unit(rng.normal(size=(50, 6)) * [9, 5, 3, 1, 1, 0.0] + 2)
    space = SentenceSpace(vectors)
    assert space.map.shape == (6, 5) or space.map.shape == (6, 6)
    found = space(vectors)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    raw = (vectors - vectors.mean(0)) @ space.map
    spread = np.linalg.norm(raw, axis=0)
    _, values, _ = np.linalg.svd(vectors - vectors.mean(0))
    np.testing.assert_allclose(spread, values[: len(spread)] ** 0.75, rtol=1e-4)


def test_a_picture_without_a_second_slot_is_its_mean_twice():
    features = np.array([[[4.0, 0.0]], [[9.0, -1.0]]], np.float16)
    np.testing.assert_allclose(picture_features({"features": features}), [[2, 0, 2, 0], [3, 0, 3, 0]])


@pytest.mark.parametrize("size", [3, 9])
def test_principal_directions_whiten_what_varies(size: int):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)) * [5, 3, 1, 0.5, 0.1]
    directions, scales = principal(x, size)
    assert directions.shape == (5, size) and scales.shape == (size,)
    seen = (x @ directions * scales).std(0)
    assert (abs(seen[:3] - 1) < 0.4).all() and (seen[5:] == 0).all(), "the last directions are enlarged less"
