"""Captions of other images that share the most telling words (TF-IDF), within one split."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from data_prep.near_duplicates import normalise
from data_prep.rewrite.graphs import Graph, nodes
from data_prep.rewrite.wordnet import WordNet
from unimo.errors import DataError

_BLOCK = 256  # captions compared with all others at once
_LOOKED_AT = 50  # captions looked at for each one asked for: the others share little with it
_POS = {"object": "n", "attribute": "a", "relation": "v"}
Content = list[tuple[str, str]]  # (part of speech in WordNet, lemma) of a caption's nodes


@dataclass(frozen=True)
class Candidates:
    """All captions of one split with their TF-IDF rows and what they name."""

    caption_ids: list[str]
    image_ids: list[str]
    texts: list[str]
    contents: list[Content]
    rows: csr_matrix  # [n, words] float32, rows of length 1 or, without a known word, 0


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
    captions: Candidates, numbers: Sequence[int], most: int, seeds: Sequence[int], wordnet: WordNet
) -> Iterator[list[dict]]:
    """For each caption `numbers[i]` the `most` similar ones of other images, best first, no text twice.

    Where too few share a word, others are drawn at random (score 0). Ours: left out is what is likely true of the
    image, that is a caption that names nothing but what the image's captions name, and one that names all that this
    caption names ("A snowman with a hat." for "A snowman.").

    Args:
        seeds: one a caption; decides between equals and draws the rest.
    """
    keys = [normalise(text) for text in captions.texts]
    of_image: dict[str, list[int]] = {}
    for number, image_id in enumerate(captions.image_ids):
        of_image.setdefault(image_id, []).append(number)
    transposed = captions.rows.T.tocsr()
    for first in range(0, len(numbers), _BLOCK):
        block = numbers[first : first + _BLOCK]
        scores = (captions.rows[block] @ transposed).tocsr()
        for r, number in enumerate(block):
            rng = np.random.default_rng(seeds[first + r])
            entries = slice(scores.indptr[r], scores.indptr[r + 1])
            columns, values = scores.indices[entries], scores.data[entries]
            if len(values) > _LOOKED_AT * most:  # the best of them, in no order
                best = np.argpartition(-values, _LOOKED_AT * most)[: _LOOKED_AT * most]
                columns, values = columns[best], values[best]
            by_score = np.lexsort((rng.random(len(values)), -values))
            drawn = rng.integers(len(keys), size=4 * most)
            ranked = chain(((columns[i], float(values[i])) for i in by_score), ((i, 0.0) for i in drawn))
            own = of_image[captions.image_ids[number]]
            yield _best(captions, keys, ranked, most, number, own, wordnet)


def _best(
    captions: Candidates,
    keys: list[str],
    ranked: Iterable[tuple[int, float]],
    most: int,
    number: int,
    own: list[int],
    wordnet: WordNet,
) -> list[dict]:
    named = [entry for i in own for entry in captions.contents[i]]
    words = {word for i in own for word in keys[i].split()}
    found: list[dict] = []
    used = set()
    for i, score in ranked:
        if len(found) == most:
            break
        theirs = captions.contents[i]
        true = (
            words.issuperset(keys[i].split())  # the image's own captions fall out here, too
            or theirs
            and covers(named, theirs, wordnet)
            or captions.contents[number]
            and covers(theirs, captions.contents[number], wordnet)
        )
        if not true and keys[i] not in used:
            used.add(keys[i])
            source = {"image_id": captions.image_ids[i], "caption_id": captions.caption_ids[i]}
            found.append({"text": captions.texts[i], "kind": "tfidf", **source, "score": round(score, 4)})
    return found
