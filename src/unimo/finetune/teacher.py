"""A closed-form teacher of image-text retrieval, and what a student learns from it. Ours; neither paper has a teacher.

Some hundred captions determine a penalised regression, not the weights of a network. Kernel ridge regression from a
picture's features to the sentence vector of its caption answers for every picture, also for those without caption and
for mixtures of two, so a network can learn from as many inputs as it likes.
"""

from collections.abc import Sequence

import numpy as np

from unimo.evaluate.ridge import unit

SHARPNESS, PENALTY = 4.0, 0.1  # of the kernel and of the regression; of prototypes (docs/dual_encoder.md)
PARTS = 5  # of the training pictures: what a part is taught comes from the other parts' captions


class SentenceSpace:
    """Sentence vectors without what all captions share: centred, leading directions damped, length 1.

    Args:
        captions: [n, H] float32, sentence vectors of the training captions.
    """

    def __init__(self, captions: np.ndarray):
        self.centre = captions.mean(0)
        _, values, directions = np.linalg.svd(captions - self.centre, full_matrices=False)
        there = values > 1e-4 * values[0]
        self.map = directions[there].T * values[there] ** -0.25  # [H, d], the leading direction first

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """[n, H] -> [n, d] float32"""
        return unit((vectors - self.centre) @ self.map).astype(np.float32)


def picture_features(regions: dict[str, np.ndarray]) -> np.ndarray:
    """Square roots of the mean region's and the first region's features, of collated regions. [B, 2 D] float32"""
    features = regions["features"].astype(np.float32)
    first = features[:, 1] if features.shape[1] > 1 else features[:, 0]
    return np.sqrt(np.maximum(np.concatenate([features[:, 0], first], axis=1), 0))


class KernelRidge:
    """Kernel ridge regression from pictures to the sentence space, k(x, y) = exp(SHARPNESS (cos(x, y) - 1)) of
    standardised features.

    Args:
        features: [n, 2 D] of the training pictures, as `picture_features` gives them.
        rows: [m] int, the picture of each caption.
        targets: [m, d] of each caption.
    """

    def __init__(self, features: np.ndarray, rows: np.ndarray, targets: np.ndarray):
        self.mean, self.deviation = features.mean(0), features.std(0) + 1e-3
        self.pictures = self._standard(features)
        kernel = self._kernel(self.pictures)[np.ix_(rows, rows)].astype(np.float64)
        found = np.linalg.solve(kernel + PENALTY * np.eye(len(rows)), targets)
        self.weights = np.zeros((len(features), targets.shape[1]), np.float32)
        np.add.at(self.weights, rows, found)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """What the captions of these pictures should be near to, length 1. [B, 2 D] -> [B, d] float32"""
        return unit(self._kernel(self._standard(features)) @ self.weights)

    def _standard(self, features: np.ndarray) -> np.ndarray:
        return unit((features - self.mean) / self.deviation)

    def _kernel(self, standard: np.ndarray) -> np.ndarray:
        return np.exp(SHARPNESS * (standard @ self.pictures.T - 1))


class Teacher:
    """The teacher of all training pictures, and for each part of them one that has not read its captions.

    Args:
        features, rows, targets: as of `KernelRidge`.
        seed: which picture is in which part.
    """

    def __init__(self, features: np.ndarray, rows: np.ndarray, targets: np.ndarray, seed: int):
        self.part = np.random.default_rng(seed).permutation(len(features)) % PARTS
        self.whole, self.others = KernelRidge(features, rows, targets), []
        for part in range(PARTS):
            kept = self.part != part
            place, read = np.cumsum(kept) - 1, kept[rows]
            self.others.append(KernelRidge(features[kept], place[rows[read]], targets[read]))

    def __call__(self, features: np.ndarray, pictures: Sequence[int] | np.ndarray) -> np.ndarray:
        """Targets [B, d] float32 of features [B, 2 D] that belong to these training pictures; -1: to none."""
        parts = np.array([self.part[picture] if picture >= 0 else -1 for picture in pictures])
        found = np.zeros((len(features), self.whole.weights.shape[1]), np.float32)
        for part in np.unique(parts):
            chosen = parts == part
            found[chosen] = (self.whole if part < 0 else self.others[part])(features[chosen])
        return found


class Codes:
    """What pool heads should give, so that the match head's sum is the plain product of two vectors.

    Pooled states pass a ReLU and the match head weighs products of the same coordinate, so vectors a of pictures and b
    of texts are written as (a + c, a + c, 1, 1) and (b, -b, c.b, -c.b), with weights +, -, -, +: with a + c above 0,
    (a + c).relu(b) - (a + c).relu(-b) - relu(c.b) + relu(-c.b) = (a + c).b - c.b = a.b. An error of b does no harm
    to that, as long as all parts make it alike.

    Args:
        targets: [n, d] of captions; their leading (size - 2) / 2 coordinates are used.
        size: H of the pool heads.
    """

    scale = 10.0  # of codes; the match head's weights are 1 / scale, so a score is `scale` times a cosine

    def __init__(self, targets: np.ndarray, size: int):
        self.size, self.kept = size, min((size - 2) // 2, targets.shape[1])
        self.shift = 3 * np.sqrt((targets[:, : self.kept] ** 2).mean(0))  # c: hardly a coordinate is below -c

    def of_pictures(self, targets: np.ndarray) -> np.ndarray:
        """[n, d] -> [n, H] float32, before the ReLU."""
        shifted = targets[:, : self.kept] + self.shift
        return self._joined(shifted, shifted, np.ones((len(targets), 2)))

    def of_texts(self, targets: np.ndarray) -> np.ndarray:
        """[n, d] -> [n, H] float32, before the ReLU."""
        plain = targets[:, : self.kept]
        shift = plain @ self.shift[:, None]
        return self._joined(plain, -plain, shift, -shift)

    @property
    def match_weights(self) -> np.ndarray:
        """Weights of the match head. [H, 1] float32"""
        signs = np.repeat([1, -1, -1, 1], [self.kept, self.kept, 1, 1]).astype(np.float32)
        return np.pad(signs / np.float32(self.scale), (0, self.size - len(signs)))[:, None]

    def _joined(self, *parts: np.ndarray) -> np.ndarray:
        code = self.scale * np.concatenate(parts, axis=1).astype(np.float32)
        return np.pad(code, ((0, 0), (0, self.size - code.shape[1])))
