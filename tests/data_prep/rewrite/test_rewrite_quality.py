"""Rates and agreement of two label files made by hand."""

import json
from collections import Counter
from pathlib import Path

import pytest

from data_prep.rewrite.quality import draw, quality
from unimo.config import ROOT
from unimo.errors import DataError


def _write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _labels(path: Path, answers: dict[str, str]) -> Path:
    """Id -> two letters: fluent (y, n) and meaning (s, f, o)."""
    full = {"y": "yes", "n": "no", "s": "same", "f": "false", "o": "other"}
    return _write(path, [{"id": k, "fluent": full[v[0]], "meaning": full[v[1]]} for k, v in answers.items()])


@pytest.fixture
def sample(tmp_path):
    shared = {"caption_id": "a#0", "caption": "A dog."}
    negatives = [{**shared, "id": f"n{i}", "text": "A cat.", "kind": "object"} for i in range(4)]
    return _write(tmp_path / "sample.jsonl", [{**shared, "id": "p", "text": "Dog.", "kind": "paraphrase"}, *negatives])


def test_rates_and_agreement_are_those_counted_by_hand(sample, tmp_path):
    a = _labels(tmp_path / "a.jsonl", {"p": "ys", "n0": "yf", "n1": "yf", "n2": "yo", "n3": "ys"})
    b = _labels(tmp_path / "b.jsonl", {"n3": "yo", "n2": "yf", "n1": "yf", "n0": "yf", "p": "yf"})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in quality(sample, a, b).split("\n")]
    table = {(row[0], row[1]): row[2:] for row in rows}
    items, yes_a, yes_b, both, agreement, kappa = table["object", "valid"]
    assert (items, yes_a, yes_b, agreement) == ("4", "50.0%", "75.0%", "50.0%")
    assert both == "62.5% [21.9%, 90.8%]"  # Wilson: .564 +- .344
    assert kappa == "0.11"  # (.5 - .4375) / (1 - .4375): by chance .5 * .75 + .25 * .25
    assert table["object", "fluent"][-2:] == ["100.0%", "-"]  # one answer throughout: kappa has no value
    assert table["paraphrase", "valid"][1:3] == ["100.0%", "0.0%"]
    assert table["all negatives", "valid"] == table["object", "valid"]


def test_a_sample_has_all_paraphrases_one_negative_a_kind_and_a_blind_sheet(tmp_path):
    records = [
        {
            "caption_id": f"{i}#0",
            "image_id": str(i),
            "caption": f"Dog {i}.",
            "graph": {},
            "positives": [{"text": f"Hound {i}-{k}.", "engine": "x"} for k in range(2 * (i % 5 == 0))],
            "negatives": [{"text": f"Cat {i}-{k}.", "kind": kind} for kind in ("object", "tfidf") for k in range(3)],
            "similar_images": [],
            "similar_texts": [],
        }
        for i in range(50)
    ]
    rewrites = _write(tmp_path / "rewrites.jsonl", records)
    draw(rewrites, tmp_path / "sample.jsonl", 20, seed=3)
    items = [json.loads(line) for line in (tmp_path / "sample.jsonl").read_text().splitlines()]
    sheet = [json.loads(line) for line in (tmp_path / "sample.sheet.jsonl").read_text().splitlines()]
    assert Counter(item["kind"] for item in items) == {"paraphrase": 20, "object": 20, "tfidf": 20}  # 10 of 20 have two
    assert len({item["caption_id"] for item in items}) == 20
    assert [line.keys() for line in sheet] == [{"id", "caption", "text"}] * 60
    assert sorted(line["id"] for line in sheet) == [item["id"] for item in items]
    assert [line["id"] for line in sheet] != [item["id"] for item in items]
    first = (tmp_path / "sample.jsonl").read_bytes()
    draw(rewrites, tmp_path / "sample.jsonl", 20, seed=3)
    assert (tmp_path / "sample.jsonl").read_bytes() == first
    with pytest.raises(DataError, match="50 captions, expected at least --captions 51"):
        draw(rewrites, tmp_path / "sample.jsonl", 51, seed=3)


@pytest.mark.parametrize(
    "answers", [{"p": "ys"}, {"p": "ys", "n0": "yf", "n1": "yf", "n2": "yf", "n3": "yf", "x": "yf"}]
)
def test_labels_must_be_one_for_each_rewrite(sample, tmp_path, answers):
    labels = _labels(tmp_path / "a.jsonl", answers)
    with pytest.raises(DataError, match="lack a label"):
        quality(sample, labels, labels)


def test_an_answer_that_is_none_is_named(sample, tmp_path):
    labels = _write(tmp_path / "a.jsonl", [{"id": "p", "fluent": "maybe", "meaning": "same"}])
    with pytest.raises(DataError, match="line 1: fluent"):
        quality(sample, labels, labels)


def test_the_documented_table_is_that_of_the_committed_labels():
    folder = ROOT / "docs" / "rewriting"
    table = quality(*(folder / name for name in ("sample.jsonl", "labels_a.jsonl", "labels_b.jsonl")))
    assert table in (ROOT / "docs" / "rewriting.md").read_text(encoding="utf-8")
