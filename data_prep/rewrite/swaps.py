"""One node of a caption replaced by another of its kind: sentences that look right and no longer fit the picture."""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from data_prep.captions import normalise
from data_prep.rewrite.graphs import Graph, nodes

TRIES = 10  # draws for each negative asked for; small vocabularies cannot give them all


@dataclass(frozen=True)
class Entries:
    """Words of one kind and class, most frequent first."""

    texts: list[str]
    lemmas: list[str]
    cumulative: list[int]  # running sum of counts


Vocabulary = dict[tuple[str, str], Entries]  # (kind, class) -> entries


def count(graphs: Iterable[Graph]) -> Vocabulary:
    """Vocabularies of the captions whose graphs are given."""
    counts: dict[tuple[str, str], Counter] = {}
    for graph in graphs:
        for kind, node in nodes(graph):
            text = node["text"]
            if node["span"][0] == 0 and not node["class"].startswith("NNP"):
                text = text[0].lower() + text[1:]  # the capital was the sentence's
            entry = (text, node["lemma"])
            counts.setdefault((kind, node["class"]), Counter())[entry] += 1
    vocabulary = {}
    for key, counter in counts.items():
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        texts, lemmas = (list(column) for column in zip(*(entry for entry, _ in ranked)))
        vocabulary[key] = Entries(texts, lemmas, list(accumulate(number for _, number in ranked)))
    return vocabulary


def swap(
    caption: str, graph: Graph, others: Sequence[str], vocabulary: Vocabulary, number: int, rng: random.Random
) -> list[dict[str, Any]]:
    """Up to `number` negatives of each kind.

    Entries are drawn by their frequency; never one of the same lemma, nor one that another caption of the same image
    (`others`) uses, since that may be true of the image.
    """
    negatives, used = [], {normalise(caption), *map(normalise, others)}
    mentioned = [f" {normalise(other)} " for other in others]
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for kind, node in nodes(graph):
        if (kind, node["class"]) in vocabulary:
            by_kind.setdefault(kind, []).append(node)
    for kind, candidates in by_kind.items():
        found = 0
        for _ in range(TRIES * number):
            if found == number:
                break
            node = rng.choice(candidates)
            entries = vocabulary[kind, node["class"]]
            i = rng.choices(range(len(entries.texts)), cum_weights=entries.cumulative)[0]
            if entries.lemmas[i] == node["lemma"] or any(
                f" {normalise(entries.texts[i])} " in text for text in mentioned
            ):
                continue
            start, end, new = _fit(caption, node["span"], entries.texts[i])
            text = caption[:start] + new + caption[end:]
            if normalise(text) in used:
                continue
            used.add(normalise(text))
            found += 1
            change = {"node": node["text"], "from": caption[start:end], "to": new, "span": [start, end]}
            negatives.append({"text": text, "kind": kind, **change})
    return negatives


_ARTICLE = re.compile(r"\b(an?) $", re.IGNORECASE)
_VOWEL = re.compile(r"(?!eu|uni|use|usu|one\b|once)[aeiou]|hour|hon(est|our|or)|heir", re.IGNORECASE)


def _fit(caption: str, span: Sequence[int], new: str) -> tuple[int, int, str]:
    """Where and what to insert: a capital where the sentence begins, and `a` or `an` as the new word needs it."""
    start, end = span
    if start == 0 and caption[0].isupper():
        new = new[0].upper() + new[1:]
    article = _ARTICLE.search(caption[:start])
    if article:
        right = "an" if _VOWEL.match(new) else "a"
        if article[1].lower() != right:
            capital = article[1][0].isupper()
            return article.start(1), end, f"{right.capitalize() if capital else right} {new}"
    return start, end, new
