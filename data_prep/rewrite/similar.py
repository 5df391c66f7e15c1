"""Captions of other images that share the most telling words (TF-IDF), within one split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from data_prep.captions import normalise
from unimo.errors import DataError

_BLOCK = 256  # captions compared with all others at once


@dataclass(frozen=True)
class Captions:
    """All captions of one split with their TF-IDF rows."""

    caption_ids: list[str]
    image_ids: list[str]
    texts: list[str]
    rows: csr_matrix  # [n, words] float32, rows of length 1 or, without a known word, 0


def vectorizer(training: Sequence[str]) -> TfidfVectorizer:
    """Words and document frequencies of the training captions, English function words left out."""
    try:
        return TfidfVectorizer(stop_words="english", dtype=np.float32).fit(training)
    except ValueError as error:  # "empty vocabulary"
        raise DataError("the training captions hold no content word; rewriting learns its words from these") from error


def similar(captions: Captions, numbers: Sequence[int], most: int, seeds: Sequence[int]) -> Iterator[list[dict]]:
    """For each caption `numbers[i]` the `most` similar ones of other images, best first, no text twice.

    Where too few share a word, others are drawn at random (score 0). Ours: a caption all of whose words the own
    captions have is left out ("A snowman." for "A snowman with a broom."), since it is likely true of the image.

    Args:
        seeds: one a caption; decides between equals and draws the rest.
    """
    keys = [normalise(text) for text in captions.texts]
    own: dict[str, set[str]] = {}  # image -> the words of its captions
    for image_id, key in zip(captions.image_ids, keys):
        own.setdefault(image_id, set()).update(key.split())
    transposed = captions.rows.T.tocsr()
    for first in range(0, len(numbers), _BLOCK):
        block = numbers[first : first + _BLOCK]
        scores = (captions.rows[block] @ transposed).tocsr()
        for r, number in enumerate(block):
            rng = np.random.default_rng(seeds[first + r])
            entries = slice(scores.indptr[r], scores.indptr[r + 1])
            columns, values = scores.indices[entries], scores.data[entries]
            by_score = np.lexsort((rng.random(len(values)), -values))
            drawn = rng.integers(len(keys), size=4 * most)
            ranked = [(columns[i], float(values[i])) for i in by_score] + [(i, 0.0) for i in drawn]
            image_id = captions.image_ids[number]
            yield _best(captions, keys, ranked, most, own[image_id])


def _best(captions: Captions, keys: list[str], ranked, most: int, own: set[str]) -> list[dict]:
    found, used = [], set()
    for i, score in ranked:
        if len(found) == most:
            break
        if keys[i] not in used and not own.issuperset(keys[i].split()):  # the image's own captions fall out here too
            used.add(keys[i])
            source = {"image_id": captions.image_ids[i], "caption_id": captions.caption_ids[i]}
            found.append({"text": captions.texts[i], "kind": "tfidf", **source, "score": round(score, 4)})
    return found
