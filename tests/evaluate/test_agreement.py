"""Matthews, Pearson and Spearman against their reference packages, and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import matthews_corrcoef

from unimo.evaluate.agreement import agreement, matthews, pearson, ranks, spearman

NUMBERS = st.lists(st.integers(-5, 5), min_size=2, max_size=40)


@settings(deadline=None)
@given(NUMBERS, st.randoms(use_true_random=False))
def test_correlations_are_scipys(values, random):
    others = [value + random.randint(-3, 3) for value in values]
    a, b = np.array(values, np.float32), np.array(others, np.float32)
    np.testing.assert_array_equal(ranks(a), stats.rankdata(a))
    if len(set(values)) > 1 and len(set(others)) > 1:
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-6)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-9)
    else:
        assert pearson(a, b) == spearman(a, b) == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_matthews_is_scikit_learns(pairs):
    answers, targets = np.array(pairs).T
    assert matthews(answers, targets) == pytest.approx(matthews_corrcoef(targets, answers), abs=1e-9)


def test_an_interval_holds_the_value_and_narrows_with_the_set():
    rng = np.random.default_rng(0)
    widths = []
    for n in (50, 800):
        targets = rng.normal(size=n)
        answers = targets + rng.normal(size=n)
        metric = agreement(pearson, answers, targets)
        assert metric.low < metric.value < metric.high and metric.unit == "%" and metric.n == n
        # Fisher's interval of a correlation, which bootstraps of this size come close to
        z, half = np.arctanh(metric.value / 100), 1.96 / np.sqrt(n - 3)
        assert metric.low == pytest.approx(100 * np.tanh(z - half), abs=6)
        assert metric.high == pytest.approx(100 * np.tanh(z + half), abs=6)
        widths.append(metric.high - metric.low)
    assert widths[1] < widths[0] / 3
