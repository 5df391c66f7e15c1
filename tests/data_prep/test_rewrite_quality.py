"""Rates and agreement of two label files made by hand."""

import json
from pathlib import Path

import pytest

from data_prep.rewrite.quality import quality
from unimo.errors import DataError


def _write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _labels(path: Path, answers: dict[str, str]) -> Path:
    """Id -> two letters, fluent and valid."""
    full = {"y": "yes", "n": "no"}
    return _write(path, [{"id": k, "fluent": full[v[0]], "valid": full[v[1]]} for k, v in answers.items()])


@pytest.fixture
def sample(tmp_path):
    negatives = [{"id": f"n{i}", "text": "A cat.", "kind": "object"} for i in range(4)]
    line = {
        "caption_id": "a#0",
        "caption": "A dog.",
        "positives": [{"id": "p", "text": "Dog."}],
        "negatives": negatives,
    }
    return _write(tmp_path / "sample.jsonl", [line])


def test_rates_and_agreement_are_those_counted_by_hand(sample, tmp_path):
    a = _labels(tmp_path / "a.jsonl", {"p": "yy", "n0": "yy", "n1": "yy", "n2": "yn", "n3": "yn"})
    b = _labels(tmp_path / "b.jsonl", {"n3": "yn", "n2": "yy", "n1": "yy", "n0": "yy", "p": "yn"})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in quality(sample, a, b).split("\n")]
    table = {(row[0], row[1]): row[2:] for row in rows}
    items, yes_a, yes_b, both, agreement, kappa = table["object", "valid"]
    assert (items, yes_a, yes_b, agreement) == ("4", "50.0%", "75.0%", "75.0%")
    assert both == "62.5% [21.9%, 90.8%]"  # Wilson: .564 +- .344
    assert kappa == "0.50"  # (.75 - .5) / (1 - .5): by chance .5 * .75 + .5 * .25
    assert table["object", "fluent"][-2:] == ["100.0%", "-"]  # one answer throughout: kappa has no value
    assert table["positive", "valid"][1:3] == ["100.0%", "0.0%"]
    assert table["all negatives", "valid"] == table["object", "valid"]


@pytest.mark.parametrize(
    "answers", [{"p": "yy"}, {"p": "yy", "n0": "yy", "n1": "yy", "n2": "yy", "n3": "yy", "x": "yy"}]
)
def test_labels_must_be_one_for_each_rewrite(sample, tmp_path, answers):
    labels = _labels(tmp_path / "a.jsonl", answers)
    with pytest.raises(DataError, match="lack a label"):
        quality(sample, labels, labels)


def test_an_answer_that_is_neither_yes_nor_no_is_named(sample, tmp_path):
    labels = _write(tmp_path / "a.jsonl", [{"id": "p", "fluent": "maybe", "valid": "no"}])
    with pytest.raises(DataError, match="line 1: fluent"):
        quality(sample, labels, labels)
