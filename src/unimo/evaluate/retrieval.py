"""Recall@k of image and text retrieval from a full score matrix: several captions per image, exact under ties.

A query whose best answer ties with others gets the probability of a hit under random order within the tie, so a scorer
that says the same for everything lands exactly on chance.
"""

from dataclasses import dataclass

import numpy as np

from unimo.errors import DataError, NonFiniteError

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
    miss = np.ones(len(scores))
    for draw in range(k):  # the draw-th place below those above; each draw misses with (t - p - draw) / (t - draw)
        open_places = draw < k - above
        remaining = np.maximum(t - draw, 1)
        miss = np.where(open_places, miss * np.maximum(t - p - draw, 0) / remaining, miss)
    return 1.0 - miss


def recalls(
    scores: np.ndarray, image_of_caption: np.ndarray, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Recall]:
    """All recalls of a caption x image score matrix.

    Args:
        scores: [captions, images].
        image_of_caption: [captions] int, column of each caption's image; every image has at least one caption.
        bootstrap: resamples of the images (with their captions) behind the interval.

    Raises:
        DataError: an image without caption, or a caption without image. NonFiniteError: scores hold inf or nan.

    Returns:
        `image_recall@k` (caption -> image) and `text_recall@k` (image -> any of its captions) for k in KS.
    """
    captions, images = scores.shape
    positive = image_of_caption[:, None] == np.arange(images)[None]
    per_image = positive.sum(axis=0)
    if (per_image == 0).any() or not positive.any(axis=1).all():
        raise DataError("every image needs a caption and every caption an image of the gallery")
    if not np.isfinite(scores).all():
        raise NonFiniteError("match scores hold inf or nan: the model has diverged; use an earlier checkpoint")
    draws = np.random.default_rng(seed).integers(images, size=(bootstrap, images))
    found = {}
    for k in KS:
        caption_hits = hit_probability(scores, positive, k)
        by_image = np.bincount(image_of_caption, weights=caption_hits, minlength=images)  # summed over its captions
        found[f"image_recall@{k}"] = Recall(
            caption_hits.mean(),
            *_interval(by_image[draws].sum(1) / per_image[draws].sum(1)),
            chance=min(1.0, k / images),
        )
        image_hits = hit_probability(scores.T, positive.T, k)
        chance = hit_probability(np.zeros_like(scores.T), positive.T, k).mean()
        found[f"text_recall@{k}"] = Recall(image_hits.mean(), *_interval(image_hits[draws].mean(1)), chance=chance)
    return found


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)
