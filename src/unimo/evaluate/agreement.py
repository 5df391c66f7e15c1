"""How far answers agree with the right ones: accuracy, Matthews' coefficient, Pearson's and Spearman's correlations.

Definitions are the usual ones, which the release's glue_eval.py has too; where it divides by zero, because all answers
or all targets are alike, there is no agreement beyond chance: 0.
"""

from collections.abc import Callable

import numpy as np

from unimo.evaluate.results import QUANTILES, Metric

Statistic = Callable[[np.ndarray, np.ndarray], float]  # (answers [n], targets [n]) -> -1..1


def matthews(answers: np.ndarray, targets: np.ndarray) -> float:
    """Matthews' correlation coefficient of two classes, 0 and 1."""
    return pearson(answers, targets)  # of two classes they are one


def pearson(answers: np.ndarray, targets: np.ndarray) -> float:
    """Pearson's correlation."""
    a, b = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (answers, targets))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def spearman(answers: np.ndarray, targets: np.ndarray) -> float:
    """Spearman's rank correlation; ties have their mean rank."""
    return pearson(ranks(answers), ranks(targets))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, of ties their mean. [n] -> [n] float64"""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def agreement(
    statistic: Statistic, answers: np.ndarray, targets: np.ndarray, bootstrap: int = 1000, seed: int = 0
) -> Metric:
    """A statistic in percent, with its 95 % interval over examples; by chance it is 0."""
    n, rng = len(targets), np.random.default_rng(seed)
    draws = (rng.integers(n, size=n) for _ in range(bootstrap))
    low, high = np.quantile([statistic(answers[drawn], targets[drawn]) for drawn in draws], QUANTILES)
    return Metric(100 * statistic(answers, targets), "%", 100 * float(low), 100 * float(high), 0.0, n)
