"""Two people's blind labels of a sample of rewrites -> rates with intervals and how far the two agree, by kind.

    sample   {"caption_id", "caption", "positives": [{"id", "text"}], "negatives": [{"id", "text", "kind"}]}
    labels   {"id", "fluent", "valid"}, both yes or no: one a positive and negative of the sample, in any order

`valid` of a positive: it means what the caption says. Of a negative: it is not true of what the caption shows.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from sklearn.metrics import cohen_kappa_score

from unimo.errors import DataError
from unimo.readers.annotations import NonEmpty, Record, read_records

Answer = Literal["yes", "no"]
QUESTIONS = ("fluent", "valid")


class Label(Record):
    """One person's answers on one rewrite."""

    id: NonEmpty
    fluent: Answer
    valid: Answer


class Item(Record):
    """A positive (kind "positive") or a negative of the sample."""

    id: NonEmpty
    text: NonEmpty
    kind: NonEmpty = "positive"


class Sampled(Record):
    """A caption with the rewrites to be judged."""

    caption_id: NonEmpty
    caption: NonEmpty
    positives: list[Item]
    negatives: list[Item]


def quality(sample: Path, labels_a: Path, labels_b: Path) -> str:
    """A Markdown table: for each kind and question the rate of "yes" over both people's labels and their agreement.

    Raises:
        DataError: malformed files, or labels that are not one for each rewrite of the sample.
    """
    items = [item for line in read_records(sample, Sampled, "caption_id") for item in line.positives + line.negatives]
    kinds = {item.id: item.kind for item in items}
    if len(kinds) != len(items):
        raise DataError(f"{sample}: some ids of rewrites occur twice; each needs its own")
    people = [_labels(path, set(kinds)) for path in (labels_a, labels_b)]
    header = "| kind | question | items | yes, A | yes, B | yes, both people's labels | agreement | kappa |\n"
    return header + "|---|---|---|---|---|---|---|---|\n" + "\n".join(_rows(kinds, people))


def _labels(path: Path, ids: set[str]) -> dict[str, Label]:
    labels = {label.id: label for label in read_records(path, Label, "id")}
    wrong = sorted(ids ^ labels.keys())
    if wrong:
        raise DataError(f"{path}: {len(wrong)} ids lack a label or are not in the sample, {wrong[0]!r} the first")
    return labels


def _rows(kinds: dict[str, str], people: list[dict[str, Label]]) -> Iterator[str]:
    groups = {kind: [key for key in kinds if kinds[key] == kind] for kind in sorted(set(kinds.values()))}
    groups["all negatives"] = [key for key in kinds if kinds[key] != "positive"]
    for kind, keys in groups.items():
        for question in QUESTIONS if keys else ():
            a, b = ([getattr(labels[key], question) == "yes" for key in keys] for labels in people)
            same = sum(x == y for x, y in zip(a, b)) / len(keys)
            yield (
                f"| {kind} | {question} | {len(keys)} | {sum(a) / len(keys):.1%} | {sum(b) / len(keys):.1%} "
                f"| {_rate(a, b)} | {same:.1%} | {_kappa(a, b)} |"
            )


def _rate(a: list[bool], b: list[bool]) -> str:
    """Mean of the two people's rates, with Wilson's 95 % interval (1927) at the number of items, not of labels."""
    n, z = len(a), 1.96
    rate = (sum(a) + sum(b)) / (2 * n)
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + (z / (2 * n)) ** 2)
    return f"{rate:.1%} [{max(middle - half, 0):.1%}, {min(middle + half, 1):.1%}]"


def _kappa(a: list[bool], b: list[bool]) -> str:
    """Cohen's kappa (1960); none where both people gave one and the same answer throughout."""
    kappa = cohen_kappa_score(a, b, labels=[False, True]) if len(set(a + b)) > 1 else math.nan
    return "-" if math.isnan(kappa) else f"{kappa:.2f}"
