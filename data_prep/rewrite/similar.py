"""Captions of other images that share the most telling words (TF-IDF), within one split."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from data_prep.rewrite.graphs import Graph, nodes
from data_prep.rewrite.wordnet import WordNet
from unimo.errors import DataError

_BLOCK = 256  # captions compared with all others at once
_LOOKED_AT = 50  # captions looked at for each one asked for: the others share little with it
_POS = {"object": "n", "attribute": "a", "relation": "v"}
Content = list[tuple[str, str]]  # (part of speech in WordNet, lemma) of a caption's nodes


class Caption(NamedTuple):
    """A caption with what it is compared by."""

    caption_id: str
    image_id: str
    text: str
    key: str  # as `normalise` gives it
    content: Content


@dataclass(frozen=True)
class Candidates:
    """All captions of one split with their TF-IDF rows; the captions of an image stand together."""

    captions: Sequence[Caption]
    images: np.ndarray  # [n] int64, ascending: a number an image
    rows: csr_matrix  # [n, words] float32, rows of length 1 or, without a known word, 0
    postings: csr_matrix  # [words, n], the same the other way round


def vectorizer(training: Sequence[str]) -> TfidfVectorizer:
    """Words and document frequencies of the training captions, English function words left out."""
    try:
        return TfidfVectorizer(stop_words="english", dtype=np.float32).fit(training)
    except ValueError as error:  # "empty vocabulary"
        raise DataError("the training captions hold no content word; rewriting learns its words from these") from error


def content(graph: Graph) -> Content:
    """What a caption names."""
    return list(dict.fromkeys((_POS[kind], node["lemma"]) for kind, node in nodes(graph)))


def covers(one: Content, other: Content, wordnet: WordNet) -> bool:
    """Whether all that `other` names is named by `one` too, in the same or other words: "a poodle" covers "a dog"."""
    return all(
        any(pos == own_pos and (lemma == own or pos != "a" and wordnet.kind(lemma, own, pos)) for own_pos, own in one)
        for pos, lemma in other
    )


def similar(
    candidates: Candidates, numbers: Sequence[int], most: int, seeds: Sequence[int], wordnet: WordNet
) -> Iterator[list[dict]]:
    """For each caption `numbers[i]` the `most` similar ones of other images, best first, no text twice.

    One that shares no word is none of them: it is as good as drawn at random, and training has the other captions of
    its batch for that. Ours: left out is what is likely true of the image, that is a caption that names nothing but
    what the image's captions name, and one that names all that this caption names ("A snowman with a hat." for "A
    snowman.").

    Args:
        seeds: one a caption; decides between equals.
    """
    for first in range(0, len(numbers), _BLOCK):
        block = numbers[first : first + _BLOCK]
        scores = (candidates.rows[block] @ candidates.postings).tocsr()
        for r, number in enumerate(block):
            rng = np.random.default_rng(seeds[first + r])
            entries = slice(scores.indptr[r], scores.indptr[r + 1])
            columns, values = scores.indices[entries], scores.data[entries]
            if len(values) > _LOOKED_AT * most:  # the best of them, in no order
                best = np.argpartition(-values, _LOOKED_AT * most)[: _LOOKED_AT * most]
                columns, values = columns[best], values[best]
            by_score = np.lexsort((rng.random(len(values)), -values))
            ranked = ((columns[i], float(values[i])) for i in by_score if values[i] > 0)
            yield _best(candidates, ranked, most, number, wordnet)


def _best(
    candidates: Candidates, ranked: Iterable[tuple[int, float]], most: int, number: int, wordnet: WordNet
) -> list[dict]:
    captions, image = candidates.captions, candidates.images[number]
    content = captions[number].content
    own = [captions[i] for i in range(*np.searchsorted(candidates.images, [image, image + 1]))]
    named = [entry for caption in own for entry in caption.content]
    words = {word for caption in own for word in caption.key.split()}
    found: list[dict] = []
    used = set()
    for i, score in ranked:
        if len(found) == most:
            break
        other = captions[i]
        true = (
            words.issuperset(other.key.split())  # the image's own captions fall out here, too
            or other.content
            and covers(named, other.content, wordnet)
            or content
            and covers(other.content, content, wordnet)
        )
        if not true and other.key not in used:
            used.add(other.key)
            source = {"image_id": other.image_id, "caption_id": other.caption_id}
            found.append({"text": other.text, "kind": "tfidf", **source, "score": round(score, 4)})
    return found
