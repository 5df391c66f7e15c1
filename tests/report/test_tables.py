"""The results table as text: rows, intervals, chance and the mark."""

from pathlib import Path

import pytest
from example_runs import classification, metrics, pretraining, write

from unimo.errors import DataError
from unimo.evaluate.results import Metric, write_result
from unimo.report.run_folder import open_runs
from unimo.report.tables import as_text


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


def test_rows_of_another_gallery_stand_apart(tmp_path: Path):
    """As many captions of as many images, from other files: not the same table, nor the same chance."""
    of = {name: {"data": {"pairs_sha256": name * 20, "regions": "any"}} for name in ("aa", "bb")}
    one, two, other = (metrics(label, 0.3, **of[name]) for label, name in (("x", "aa"), ("y", "aa"), ("z", "bb")))
    text = as_text(open_runs(runs(tmp_path, one=one, two=two, other=other)))
    first, second = text.split("test split, ")[1:]
    assert first.startswith("12 captions of 12 images, pairs_sha256 aaaaaaaa\n") and "y " in first and "z " not in first
    assert second.startswith("12 captions of 12 images, pairs_sha256 bbbbbbbb\n") and second.count("chance ") == 2
    alone = as_text(open_runs(runs(tmp_path / "alone", one=one, two=two)))
    assert "sha256" not in alone and alone.count("captions of") == 1


def test_a_lower_bound_at_chance_gets_no_mark(tmp_path: Path):
    even = metrics("even", 0.3)
    for recall in even["metrics"].values():
        recall["low"] = recall["chance"]
    assert as_text(open_runs(runs(tmp_path, a=even))).count("*") == 1  # the legend's


def test_without_any_result_it_says_what_was_looked_for(tmp_path: Path):
    with pytest.raises(DataError, match="no run was evaluated yet; looked for .*pretrain/metrics.json"):
        as_text(open_runs([pretraining(tmp_path / "pretrain", 100)]))


def test_fractions_and_percent_give_the_same_table(tmp_path: Path):
    old = runs(tmp_path / "old", a=metrics("zero-shot", 0.3, old=True), b=metrics("tuned", 0.617, old=True))
    new = runs(tmp_path / "new", a=metrics("zero-shot", 0.3), b=metrics("tuned", 0.617))
    mixed = runs(tmp_path / "mixed", a=metrics("zero-shot", 0.3), b=metrics("tuned", 0.617, old=True))
    texts = {as_text(open_runs(paths)) for paths in (old, new, mixed)}
    assert len(texts) == 1 and texts.pop().startswith("recall in %, 95 % bootstrap interval over images, * = lower")


FLICKR = {"table": "unimo_table1", "row": "UNIMO-base", "dataset": "Flickr30k", "mode": "finetuned"}


def test_the_papers_row_stands_under_ours(tmp_path: Path):
    ours = metrics("fine-tuned", 0.6, paper=FLICKR)
    lines = as_text(open_runs(runs(tmp_path, ours=ours, other=metrics("zero-shot", 0.3)))).splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("paper")]
    assert len(rows) == 2 and all(lines[n - 1].startswith("zero-shot") for n in rows), "under ours, in both blocks"
    assert all(lines[n + 1].startswith("chance") for n in rows)
    assert lines[rows[0]].split()[1:] == "UNIMO-base, Flickr30k, Table 1 of UNIMO 74.66 93.4 96.08".split()
    assert lines[rows[1]].split()[-3:] == ["89.7", "98.4", "99.1"]
    assert lines[rows[0]].index("74.66") == lines[rows[0] - 1].index("35.8"), "in our columns"


@pytest.mark.parametrize(
    "change",
    [
        {"paper": FLICKR | {"dataset": "COCO"}},  # has no recalls
        {"paper": FLICKR | {"table": "Table 1"}},
        {"paper": FLICKR | {"row": "no such row"}},
        {"paper": FLICKR, "split": "dev"},
        {"paper": {"table": "oner_survey", "row": "OneR", "dataset": "ImageNet-1k", "mode": "zero_shot"}},
    ],
    ids=str,
)
def test_what_does_not_join_adds_nothing(tmp_path: Path, change: dict):
    joined = as_text(open_runs(runs(tmp_path / "a", run=metrics("x", 0.3) | change)))
    split = {"split": change.get("split", "test")}
    assert joined == as_text(open_runs(runs(tmp_path / "b", run=metrics("x", 0.3) | split)))


def test_a_number_of_general_knowledge_is_never_shown(tmp_path: Path):
    claim = {"table": "oner_survey", "row": "OneR", "dataset": "ImageNet-1k", "mode": "zero_shot"}
    for split in ("unknown", "val", "test"):
        classification(tmp_path / split, "ours", [1, 0, 1], paper=claim, split=split)
        assert "paper" not in as_text(open_runs([tmp_path / split]))


def test_another_task_has_its_metrics_as_columns(tmp_path: Path):
    entailment = {"table": "unimo_table1", "row": "UNIMO-base", "dataset": "SNLI-VE", "mode": "finetuned"}
    classification(tmp_path / "start", "start", [0, 1] * 20)
    classification(tmp_path / "ours", "tuned", [1, 1] * 20, against=[tmp_path / "start"], paper=entailment)
    paths = [tmp_path / "start", tmp_path / "ours", *runs(tmp_path, retrieval=metrics("zero-shot", 0.3))]
    text = as_text(open_runs(paths))
    assert "dev split, 40 sentences" in text and text.count("legend") == 0
    blocks = [block.splitlines() for block in text.split("\n\n")]
    table = next(block for block in blocks if block[0].startswith("classify"))
    assert table[0].split() == ["classify", "accuracy", "(%)", "perplexity", "(points)"]
    assert table[1].split()[:3] == ["start", "start", "50.0"] and table[1].split()[-1] == "12.5"
    assert table[2].split() == ["tuned", "ours", "100.0", "[100.0,", "100.0]", "*", "12.5"]
    assert table[3].split() == "paper UNIMO-base, SNLI-VE, Table 1 of UNIMO 80 -".split()
    assert table[4].split() == ["chance", "50.0", "-"]
    paired = next(block for block in blocks if block[0].startswith("differences"))
    assert paired[0].endswith("* = excludes 0")
    assert paired[1].startswith("tuned minus start: accuracy +50.0 [") and paired[1].endswith("] *")
    assert blocks[0] == ["95 % bootstrap interval, * = lower bound above chance"]
    assert ["recall in %, 95 % bootstrap interval over images, * = lower bound above chance"] in blocks


def test_without_chance_there_is_no_row_for_it(tmp_path: Path):
    write_result(tmp_path / "run", "generate", {"cider": Metric(124.4, "points")}, {"label": "x", "split": "test"})
    assert as_text(open_runs([tmp_path / "run"])).splitlines()[-1].split() == ["x", "run", "124.4"]
