"""Recall@k on hand-made matrices, and against counting every order of the ties."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.errors import DataError, NonFiniteError
from unimo.evaluate.retrieval import hit_probability, recalls


def test_two_captions_per_image_known_recalls():
    scores = np.array(
        [  # images   0    1    2
            [0.9, 0.1, 0.2],  # caption of image 0: rank 0
            [0.3, 0.2, 0.1],  # of image 0: rank 0
            [0.5, 0.4, 0.1],  # of image 1: rank 1
            [0.9, 0.1, 0.3],  # of image 1: rank 2
            [0.1, 0.2, 0.7],  # of image 2: rank 0
            [0.8, 0.6, 0.5],  # of image 2: rank 2
        ]
    )
    found = recalls(scores, np.array([0, 0, 1, 1, 2, 2]))
    assert found["image_recall@1"].value == pytest.approx(3 / 6)
    assert found["image_recall@1"].chance == pytest.approx(1 / 3)
    # image -> captions: image 0 ties at 0.9 with caption 3 (half a hit), image 1 ranks caption 5 first, image 2 its own
    assert found["text_recall@1"].value == pytest.approx((0.5 + 0 + 1) / 3)
    assert found["text_recall@1"].chance == pytest.approx(2 / 6)
    assert found["image_recall@5"].value == found["text_recall@5"].value == 1.0


def test_constant_scores_are_exactly_chance():
    found = recalls(np.zeros((40, 20)), np.repeat(np.arange(20), 2))
    for recall in found.values():
        assert recall.value == pytest.approx(recall.chance)


def test_perfect_and_worst_scores():
    perfect = recalls(np.eye(12), np.arange(12))
    assert {r.value for r in perfect.values()} == {1.0}
    assert perfect["image_recall@1"].low == 1.0
    assert {r.value for r in recalls(-np.eye(12), np.arange(12)).values()} == {0.0}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.integers(1, 4), st.data())
def test_hit_probability_equals_counting_all_orders(scores, k, data):
    positive = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)).filter(any))
    orders = [o for o in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in zip(o, o[1:]))]
    expected = np.mean([any(positive[i] for i in order[:k]) for order in orders])
    got = hit_probability(np.array([scores], float), np.array([positive]), k)
    assert got == pytest.approx(expected)


def test_bootstrap_interval_holds_the_value_and_is_reproducible():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(60, 60)) + 2 * np.eye(60)
    first, second = recalls(scores, np.arange(60)), recalls(scores, np.arange(60))
    assert first == second
    for recall in first.values():
        assert recall.low <= recall.value <= recall.high


def test_unmatched_items_and_nan_are_refused():
    with pytest.raises(DataError, match="every image needs a caption"):
        recalls(np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(NonFiniteError, match="nan"):
        recalls(np.full((2, 2), np.nan), np.array([0, 1]))
