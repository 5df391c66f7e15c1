"""The linear baseline of understanding: a penalised regression on the words of the texts, and on what a ridge sees of
the picture, if that is wanted. Ours; seconds of work, and what a trained model must be read against."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_matrix, hstack
from tqdm import tqdm

from unimo.errors import ConfigError, MissingDependencyError
from unimo.evaluate.ridge import seen
from unimo.readers.questions import Questions
from unimo.readers.targets import Targets
from unimo.readers.tensors import as_picture

try:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
except ModuleNotFoundError as error:
    raise MissingDependencyError(f"the linear baseline needs scikit-learn ({error}): pip install -e .[data]") from error

Baseline = Literal["words", "words-and-picture"]
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # of the fit, the inverse of its penalty; dev chooses
FEW = 2000  # features that are not kept as a sparse matrix: products are faster so
NEVER = -30.0  # the logit of a label that no training example has


class Features:
    """Words and pairs of words of each text, weighted by TF-IDF, of two texts also the words that both have; and
    standardised features of the picture.

    Args:
        train: what vocabulary, weights and scales are of.
        pictures: whether pictures count.
    """

    def __init__(self, train: Questions, pictures: bool):
        self.texts = max((len(example.source) for example in train.examples), default=0)
        self.vectorizers: dict[int, TfidfVectorizer] = {}  # of the columns that have any word
        for place, column in enumerate(self._columns(train)):
            if any(text.strip() for text in column):
                vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
                self.vectorizers[place] = vectorizer.fit(column)
        self.pictured = pictures and train.images is not None
        if self.pictured:
            shown = _pictures(train)
            self.mean, self.scale = shown.mean(0), (shown.std(0) + 1e-6) * np.sqrt(shown.shape[1])

    def __call__(self, questions: Questions) -> csr_matrix | np.ndarray:
        """The features of all examples, in full where they are few. [n, features] float32

        Raises:
            ConfigError: there are none.
        """
        columns = self._columns(questions)
        blocks = [vectorizer.transform(columns[place]) for place, vectorizer in self.vectorizers.items()]
        if self.pictured:
            blocks.append(csr_matrix((_pictures(questions) - self.mean) / self.scale))
        if not blocks:
            raise ConfigError("the baseline reads words, and the examples have no text; take words-and-picture")
        found = hstack(blocks).tocsr().astype(np.float32)
        return found.toarray() if found.shape[1] <= FEW else found

    def _columns(self, questions: Questions) -> list[list[str]]:
        columns = [[example.source[place] for example in questions.examples] for place in range(self.texts)]
        if self.texts == 2:
            columns.append([" ".join(w for w in a.split() if w in {*b.split()}) for a, b in zip(*columns)])
        return columns


def _pictures(questions: Questions, batch: int = 64) -> np.ndarray:
    """What a ridge sees of the picture of each example. [n, D] float32"""
    assert questions.images is not None  # asked for pictures only where there are
    different = list(dict.fromkeys(questions.image_ids))
    rows = []
    for start in tqdm(range(0, len(different), batch), desc="pictures", mininterval=2):
        arrays = questions.images.collate(different[start : start + batch], None)
        rows.append(seen(as_picture({str(questions.images.key): arrays})).numpy())
    place = {image_id: row for row, image_id in enumerate(different)}
    return np.concatenate(rows)[[place[image_id] for image_id in questions.image_ids]]


def fit_linear(
    train: tuple[Questions, Targets],
    dev: tuple[Questions, Targets],
    baseline: Baseline,
    worth: Callable[[np.ndarray, Targets], float],
) -> tuple[Callable[[Questions], np.ndarray], float]:
    """The regression of the training split whose strength is best on dev.

    Args:
        worth: of logits [n, labels], or numbers [n, 1], and the right answers; the higher the better.

    Returns:
        It, from examples to logits or numbers, and the strength.
    """
    features = Features(train[0], pictures=baseline == "words-and-picture")
    inputs, held = features(train[0]), features(dev[0])
    fits = [(strength, _fit(inputs, train[1], strength)) for strength in STRENGTHS]
    strength, best = max(fits, key=lambda fit: worth(fit[1](held), dev[1]))
    return lambda questions: best(features(questions)), strength


def _fit(
    inputs: csr_matrix | np.ndarray, targets: Targets, strength: float
) -> Callable[[csr_matrix | np.ndarray], np.ndarray]:
    given = targets.take(np.arange(len(targets)))
    if targets.target == "number":
        model = Ridge(alpha=1 / strength).fit(inputs, given)
        return lambda x: model.predict(x)[:, None].astype(np.float32)
    chosen = given.argmax(1) if targets.target == "answers" else given  # of several answers the best
    return partial(_logits, LogisticRegression(C=strength, max_iter=1000).fit(inputs, chosen), len(targets.labels))


def _logits(model: Any, labels: int, inputs: csr_matrix | np.ndarray) -> np.ndarray:
    found = np.full([inputs.shape[0], labels], NEVER, np.float32)
    found[:, model.classes_] = np.maximum(model.predict_log_proba(inputs), NEVER)
    return found
