"""Recall@k of image and text retrieval from a full score matrix: several captions per image, exact under ties.

A query whose best answer ties with others gets the probability of a hit under random order within the tie, so a scorer
that says the same for everything lands exactly on chance.
"""

from dataclasses import dataclass

import numpy as np

from unimo.errors import DataError, NonFiniteError
from unimo.evaluate.results import Sample, measure

KS = (1, 5, 10)


@dataclass(frozen=True)
class Recall:
    """One recall@k with what it must be read against; all values are fractions of 1."""

    value: float
    low: float  # 95 % bootstrap interval over images
    high: float
    chance: float


def hit_probability(scores: np.ndarray, positive: np.ndarray, k: int) -> np.ndarray:
    """Probability that a query's top k holds a positive, ties in random order. [Q, C] float, [Q, C] bool -> [Q].

    With g candidates above the best positive and t candidates tied with it, p of them positive, the top k draws k - g
    of the t: 1 - C(t - p, k - g) / C(t, k - g).
    """
    best = np.where(positive, scores, -np.inf).max(axis=1, keepdims=True)
    above = (scores > best).sum(axis=1)
    tied = scores == best
    t, p = tied.sum(axis=1), (tied & positive).sum(axis=1)
    miss: np.ndarray = np.ones(len(scores))
    for draw in range(k):  # the draw-th place below those above; each draw misses with (t - p - draw) / (t - draw)
        open_places = draw < k - above
        remaining = np.maximum(t - draw, 1)
        miss = np.where(open_places, miss * np.maximum(t - p - draw, 0) / remaining, miss)
    return 1.0 - miss


def recall_samples(scores: np.ndarray, image_of_caption: np.ndarray) -> dict[str, Sample]:
    """All recalls of a caption x image score matrix, by image: what a draw of images with their captions resamples.

    Args:
        scores: [captions, images].
        image_of_caption: [captions] int, column of each caption's image; every image has at least one caption.

    Raises:
        DataError: an image without caption, or a caption without image. NonFiniteError: scores hold inf or nan.

    Returns:
        `image_recall@k` (caption -> image) and `text_recall@k` (image -> any of its captions) for k in KS.
    """
    images = scores.shape[1]
    positive = image_of_caption[:, None] == np.arange(images)[None]
    per_image = positive.sum(axis=0)
    if (per_image == 0).any() or not positive.any(axis=1).all():
        raise DataError("every image needs a caption and every caption an image of the gallery")
    if not np.isfinite(scores).all():
        raise NonFiniteError("match scores hold inf or nan: the model has diverged; use an earlier checkpoint")
    found = {}
    for k in KS:
        caption_hits = hit_probability(scores, positive, k)
        by_image = np.bincount(image_of_caption, weights=caption_hits, minlength=images)  # summed over its captions
        found[f"image_recall@{k}"] = Sample(by_image, per_image)
        found[f"text_recall@{k}"] = Sample(hit_probability(scores.T, positive.T, k), np.ones(images))
    return found


def mean_recall(scores: np.ndarray, image_of_caption: np.ndarray) -> float:
    """Mean of all recalls, as a fraction of 1; arguments and errors are those of `recall_samples`."""
    return float(np.mean([sample.ratio for sample in recall_samples(scores, image_of_caption).values()]))


def recall_chances(image_of_caption: np.ndarray) -> dict[str, float]:
    """The recalls of a scorer that says the same for everything, under the names of `recall_samples`."""
    captions, per_image = len(image_of_caption), np.bincount(image_of_caption)
    counts, image_rows = np.unique(per_image, return_inverse=True)
    positive = np.arange(captions) < counts[:, None]  # which of the captions are an image's own does not matter
    found = {}
    for k in KS:
        found[f"image_recall@{k}"] = min(1.0, k / len(per_image))
        by_count = hit_probability(np.zeros(positive.shape), positive, k)
        found[f"text_recall@{k}"] = float(by_count[image_rows].mean())
    return found


def recalls(
    scores: np.ndarray, image_of_caption: np.ndarray, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Recall]:
    """All recalls as fractions of 1; arguments, errors and names are those of `recall_samples`.

    Args:
        bootstrap: resamples of the images (with their captions) behind the interval.
    """
    samples, found = recall_samples(scores, image_of_caption), {}
    for name, chance in recall_chances(image_of_caption).items():
        m = measure(samples[name], "", 1.0, chance, bootstrap, seed)
        assert m.low is not None and m.high is not None and m.chance is not None  # `measure` was given the chance
        found[name] = Recall(m.value, m.low, m.high, m.chance)
    return found
