"""The results table as text: rows, intervals, chance and the mark."""

from pathlib import Path

import pytest
from example_runs import metrics, pretraining, write

from unimo.errors import DataError
from unimo.report.results import as_text
from unimo.report.run_folder import open_runs


def runs(folder: Path, **described: dict) -> list[Path]:
    for name, content in described.items():
        write(folder / name / "metrics.json", content)
    return [folder / name for name in described]


def test_rows_intervals_chance_and_mark(tmp_path: Path):
    weak = metrics("from scratch", 0.05)  # R@1 12.9 % with lower bound 4.9 %, chance 8.3 %
    paths = runs(tmp_path, good=metrics("zero-shot", 0.3), weak=weak) + [pretraining(tmp_path / "pretrain", 100)]
    text = as_text(open_runs(paths))
    assert "test split, 12 captions of 12 images" in text
    lines = text.splitlines()
    start = lines.index(next(line for line in lines if line.startswith("caption -> image")))
    assert lines[start].split() == ["caption", "->", "image", "R@1", "R@5", "R@10"]
    assert lines[start + 1].split()[:5] == ["zero-shot", "good", "35.8", "[27.8,", "43.8]"]
    assert lines[start + 1].count("*") == 2  # R@10's lower bound of 80.3 is below its chance of 83.3
    assert lines[start + 2].split()[:6] == ["from", "scratch", "weak", "12.9", "[4.9,", "20.9]"]
    assert "*" not in lines[start + 2]
    assert lines[start + 3].split() == ["chance", "8.3", "41.7", "83.3"]
    columns = [line.index(value) for line, value in zip(lines[start:], ("R@5", "59.2", "44.6", "41.7"))]
    assert len(set(columns)) == 1
    again = lines.index(next(line for line in lines if line.startswith("image -> caption")))
    assert lines[again + 1].split()[2] == "22.1" and lines[again + 3].split() == lines[start + 3].split()
    assert lines[-1] == "without metrics.json: pretrain"


def test_other_data_is_another_table_and_a_missing_metric_a_dash(tmp_path: Path):
    partial = metrics("partial", 0.2, captions=50, images=10)
    del partial["metrics"]["text_recall@1"]
    text = as_text(open_runs(runs(tmp_path, a=metrics("zero-shot", 0.3), b=partial)))
    assert text.count("captions of") == 2 and text.count("chance ") == 4 + text.splitlines()[0].count("chance ")
    assert next(line for line in reversed(text.splitlines()) if line.startswith("partial")).split()[2] == "-"


def test_a_lower_bound_at_chance_gets_no_mark(tmp_path: Path):
    even = metrics("even", 0.3)
    for recall in even["metrics"].values():
        recall["low"] = recall["chance"]
    assert as_text(open_runs(runs(tmp_path, a=even))).count("*") == 1  # the legend's


def test_without_any_result_it_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match="no run was evaluated yet; looked for .*pretrain/metrics.json"):
        as_text(open_runs([pretraining(tmp_path / "pretrain", 100)]))
