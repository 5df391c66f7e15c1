"""How good rewrites are: a sample of them, judged by two people who do not see each other's answers or what is meant.

    SAMPLE            {"id", "caption_id", "caption", "text", "kind"}      kind: "paraphrase" or one of the negatives
    SAMPLE.sheet      {"id", "caption", "text"}, in random order: what people get to see
    labels            {"id", "fluent": yes|no, "meaning": same|false|other}, one a line of the sheet

A paraphrase is valid if it means the same, a negative if it is false of what the caption describes. The rules that
people are given stand in docs/rewriting.md.
"""

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from sklearn.metrics import cohen_kappa_score

from data_prep.rewrite.patterns import FRAME
from unimo.errors import DataError
from unimo.readers.annotations import NonEmpty, Positive, Record, Rewrite, read_records, write_jsonl

PARAPHRASE = "paraphrase"


class Item(Record):
    """One rewrite to be judged."""

    id: NonEmpty
    caption_id: NonEmpty
    caption: NonEmpty
    text: NonEmpty
    kind: NonEmpty


class Label(Record):
    """One person's answers."""

    id: NonEmpty
    fluent: Literal["yes", "no"]
    meaning: Literal["same", "false", "other"]


def draw(rewrites: Path, out: Path, captions: int, seed: int) -> str:
    """Write a sample and its sheet: all paraphrases of a caption, and one negative of each kind.

    Captions with a paraphrase that is more than a frame come first, up to half of the sample, since few have any; the
    others are drawn at random.

    Raises:
        DataError: malformed rewrites, or too few.
    """
    rng = random.Random(seed)
    records = read_records(rewrites, Rewrite, "caption_id")
    if len(records) < captions:
        raise DataError(
            f"{rewrites} has {len(records)} captions, expected at least --captions {captions}; ask for fewer"
        )
    rng.shuffle(records)
    rich = [record for record in records if any(map(_is_reworded, record.positives))][: captions // 2]
    known = {record.caption_id for record in rich}
    chosen = rich + [record for record in records if record.caption_id not in known][: captions - len(rich)]
    items: list[Item] = []

    def add(record: Rewrite, text: str, kind: str) -> None:
        key = f"r{len(items):04d}"
        items.append(Item(id=key, caption_id=record.caption_id, caption=record.caption, text=text, kind=kind))

    for record in chosen:
        for positive in record.positives:
            add(record, positive.text, PARAPHRASE)
        for kind in sorted({negative.kind for negative in record.negatives}):
            add(record, rng.choice([n.text for n in record.negatives if n.kind == kind]), kind)
    sheet = out.with_name(f"{out.stem}.sheet{out.suffix}")
    write_jsonl(out, items)
    rng.shuffle(items)
    write_jsonl(sheet, (item.model_dump(include={"id", "caption", "text"}) for item in items))
    return f"{out}: {len(items)} rewrites of {captions} captions; to be judged: {sheet}"


def _is_reworded(positive: Positive) -> bool:
    return (positive.model_extra or {}).get("rule") != FRAME


def quality(sample: Path, labels_a: Path, labels_b: Path) -> str:
    """A Markdown table: for each kind the rates of fluent and valid rewrites after both people, and their agreement.

    Raises:
        DataError: malformed files, or labels that are not one for each rewrite of the sample.
    """
    kinds = {item.id: item.kind for item in read_records(sample, Item, "id")}
    people = [_labels(path, set(kinds)) for path in (labels_a, labels_b)]
    header = "| kind | question | items | yes, A | yes, B | yes, both | agreement | kappa |\n"
    return header + "|---|---|---|---|---|---|---|---|\n" + "\n".join(_rows(kinds, people))


def _labels(path: Path, ids: set[str]) -> dict[str, Label]:
    labels = {label.id: label for label in read_records(path, Label, "id")}
    wrong = sorted(ids ^ labels.keys())
    if wrong:
        raise DataError(f"{path}: {len(wrong)} ids lack a label or are not in the sample, {wrong[0]!r} the first")
    return labels


QUESTIONS: dict[str, tuple[Callable[[Label], str], Callable[[Label, str], bool]]] = {
    "fluent": (lambda label: label.fluent, lambda label, kind: label.fluent == "yes"),
    "valid": (
        lambda label: label.meaning,
        lambda label, kind: label.meaning == ("same" if kind == PARAPHRASE else "false"),
    ),
}


def _rows(kinds: dict[str, str], people: list[dict[str, Label]]) -> Iterator[str]:
    groups = {kind: [key for key in kinds if kinds[key] == kind] for kind in sorted(set(kinds.values()))}
    groups["all negatives"] = [key for key in kinds if kinds[key] != PARAPHRASE]
    for kind, keys in groups.items():
        for question, (answer, is_yes) in QUESTIONS.items() if keys else ():
            a, b = ([is_yes(labels[key], kinds[key]) for key in keys] for labels in people)
            given = [[answer(labels[key]) for key in keys] for labels in people]
            same = sum(x == y for x, y in zip(*given)) / len(keys)
            yield (
                f"| {kind} | {question} | {len(keys)} | {sum(a) / len(keys):.1%} | {sum(b) / len(keys):.1%} "
                f"| {_rate(a, b)} | {same:.1%} | {_kappa(*given)} |"
            )


def _rate(a: list[bool], b: list[bool]) -> str:
    """Mean of the two people's rates, at the number of items, not of labels."""
    return wilson((sum(a) + sum(b)) / (2 * len(a)), len(a))


def wilson(rate: float, n: int) -> str:
    """A rate of n items with Wilson's 95 % interval (1927)."""
    z = 1.96
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + (z / (2 * n)) ** 2)
    return f"{rate:.1%} [{max(middle - half, 0):.1%}, {min(middle + half, 1):.1%}]"


def _kappa(a: list[str], b: list[str]) -> str:
    """Cohen's kappa (1960); none where both people gave one and the same answer throughout."""
    kappa = cohen_kappa_score(a, b) if len({*a, *b}) > 1 else math.nan
    return "-" if math.isnan(kappa) else f"{kappa:.2f}"
