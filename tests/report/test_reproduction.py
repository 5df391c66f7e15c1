"""The papers' tables with ours beside them: what joins, what it becomes, and what is refused."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from example_runs import classification, metrics, pretraining, write
from test_page import HOSTILE, Page

from unimo.cli import main
from unimo.config import ROOT
from unimo.evaluate.results import Metric, write_result
from unimo.report.reproduction import read_reproduction

PRINTED = yaml.load((ROOT / "model_configs/paper_tables.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)["tables"]
ALL = [entry for table in PRINTED.values() for entry in table["entries"]]
FLICKR = {"table": "unimo_table1", "row": "UNIMO-base", "dataset": "Flickr30k", "mode": "finetuned"}


def report(runs: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["report", "paper", "--runs", str(runs), *more])


def retrieval(run: Path, seed: int | None, quality: float = 0.5, **more: object) -> dict:
    seeds = {} if seed is None else {"seed": seed}
    content = metrics("fine-tuned", quality, paper=FLICKR, **seeds) | more
    write(run / "metrics.json", content)
    return content


def text_task(
    run: Path, table: str, row: str, dataset: str, found: dict[str, Metric], split: str = "dev", **facts: object
):
    paper = {"table": table, "row": row, "dataset": dataset, "mode": "finetuned"}
    write_result(run, "classify", found, {"label": "ours", "split": split, "items": "9 rows", "paper": paper, **facts})


def grid(text: str) -> list[list[str]]:
    """The cells of all table rows of a Markdown text."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]


def published(text: str) -> list[str]:
    rows = [row[2:] for row in grid(text) if row[1] == "paper"]
    return [cell for row in rows for cell in row if cell != "-"]


def test_every_number_of_the_file_is_shown_as_it_is_printed(tmp_path: Path):
    shown = report(tmp_path)
    assert shown.exit_code == 0 and len(ALL) == 520
    cells = [cell.removesuffix(" (to verify)") for cell in published(shown.output)]
    assert sorted(cells) == sorted(entry["value"] for entry in ALL)
    for name, table in PRINTED.items():
        label = table["label"] if table["label"] != "null" else ""
        heading = re.search(rf"^## {name}: {label}.*{table['paper']}, (.*)$", shown.output, re.MULTILINE)
        assert heading and heading[1] == table["title"]
        section = shown.output.split(heading[0])[1].split("\n## ")[0]
        assert f"Source: {table['source']}. Certainty: `{table['certainty']}`." in section
        assert len(published(section)) == len(table["entries"])
        labels = dict.fromkeys(row[0] for row in grid(section) if row[1] == "paper")
        assert {*labels} == {entry["row"] for entry in table["entries"]}


def test_an_empty_folder_has_no_number_of_ours(tmp_path: Path):
    pretraining(tmp_path / "pretrain", 100)
    write(tmp_path / "deep" / "er" / "metrics.json", metrics("no row", 0.9))
    found = read_reproduction(tmp_path)
    assert found.runs == [] and all(not line.runs for line in found.lines)
    text = report(tmp_path).output
    ours = [row for row in grid(text) if row[1] == "ours"]
    own = [entry for entry in ALL if entry["role"] != "baseline"]
    assert sum(row.count("not run") for row in ours) == len(own) == 191
    assert not [row for row in grid(text) if row[1] == "ours - paper"] and "stand beside no number" not in text
    assert (
        f"191 of them of our three systems; 0 have a number of ours beside them, from 0 runs below `{tmp_path}`" in text
    )


def test_seeds_are_averaged_beside_the_number(tmp_path: Path):
    values = []
    for seed, quality in ((3, 0.6), (1, 0.5), (2, 0.46)):
        content = retrieval(tmp_path / "deep" / f"seed_{seed}", seed, quality)
        values.append(content["metrics"]["image_recall@1"]["value"])
    found = read_reproduction(tmp_path)
    (line,) = (x for x in found.lines if x.table == "unimo_table1" and x.runs and x.number.key == "image_recall@1")
    middle = sum(values) / 3
    spread = (sum((value - middle) ** 2 for value in values) / 2) ** 0.5
    assert line.mean == pytest.approx(middle) and line.deviation == pytest.approx(spread)
    assert line.difference == pytest.approx(middle - 74.66)
    assert [run.name for run in line.runs] == ["deep/seed_1", "deep/seed_2", "deep/seed_3"]
    assert sum(bool(line.runs) for line in found.lines) == 12, "table 3 repeats the row"
    text = report(tmp_path).output
    ours, apart = (
        next(row for row in grid(text) if row[:2] == ["UNIMO-base", says]) for says in ("ours", "ours - paper")
    )
    assert ours[2] == f"{middle:.2f} ± {spread:.2f} (n 3)" and apart[2] == f"{middle - 74.66:+.2f}"
    assert "  - run deep/seed_1, seed 1, test split, 12 captions of 12 images, by `unimo evaluate retrieval" in text
    assert "12 have a number of ours beside them, from 3 runs" in text


def joined(runs: Path) -> set[tuple[str, str, str, str]]:
    """Table, row, split and metric of the numbers that have one of ours beside them."""
    found = read_reproduction(runs).lines
    return {(line.table, line.number.row, line.number.split, line.number.key) for line in found if line.runs}


@pytest.mark.parametrize("named", ["unimo_table1", "unimo_table3"])
def test_a_repeated_row_is_joined_by_the_name_of_either_table(tmp_path: Path, named: str):
    retrieval(tmp_path / "flickr", 1, paper=FLICKR | {"table": named})
    assert {place[:3] for place in joined(tmp_path)} == {
        ("unimo_table1", "UNIMO-base", "test"),
        ("unimo_table3", "UNIMO-base", "test"),
    }, "and not UNIMO-Base of UNIMO-2's paper, which quotes it"
    section = report(tmp_path).output.split("## unimo_table3")[1].split("\n## ")[0]
    assert "- UNIMO-base: recipe `model_configs/finetune/flickr30k_base.yaml`" in section


def test_only_the_splits_that_a_table_repeats_are_joined(tmp_path: Path):
    accuracy = {"accuracy": Metric(80.0, "%")}
    text_task(tmp_path / "dev", "unimo_table1", "UNIMO-base", "SNLI-VE", accuracy)
    text_task(tmp_path / "test", "unimo_table1", "UNIMO-base", "SNLI-VE", accuracy, "test")
    assert joined(tmp_path) == {
        ("unimo_table1", "UNIMO-base", "val", "accuracy"),
        ("unimo_table3", "UNIMO-base", "val", "accuracy"),
        ("unimo_table1", "UNIMO-base", "test", "accuracy"),
    }


def test_the_readmes_recalls_belong_to_the_row_of_the_table(tmp_path: Path):
    retrieval(tmp_path / "flickr", 1, paper=FLICKR | {"table": "unimo2_table1", "row": "UNIMO-2"})
    recalls = {(table, key) for table, _, _, key in joined(tmp_path)}
    of_table = {("unimo2_table1", f"{side}_recall@{k}") for side in ("image", "text") for k in (1, 5)}
    assert recalls == of_table | {("unimo2_readme_only", f"{side}_recall@10") for side in ("image", "text")}


def test_seeds_that_name_two_tables_of_one_row_are_one_group(tmp_path: Path):
    for seed, table in enumerate(("unimo_table1", "unimo_table3")):
        retrieval(tmp_path / table, seed, paper=FLICKR | {"table": table})
    assert {len(line.runs) for line in read_reproduction(tmp_path).lines} == {0, 2}
    retrieval(tmp_path / "again", 1)
    said = refused(tmp_path)
    assert "again, unimo_table3: one seed, 1 (unimo_table1, UNIMO-base, Flickr30k, finetuned, test)" in said
    assert len(said.splitlines()) == 2, "once, not for each table"


def test_one_run_has_no_deviation_and_needs_no_seed(tmp_path: Path):
    retrieval(tmp_path, None)
    (line, *_) = [line for line in read_reproduction(tmp_path).lines if line.runs]
    assert (line.deviation, len(line.runs), line.runs[0].name) == (None, 1, ".")
    assert re.search(r"\| +54\.17 \(n 1\) \|", report(tmp_path).output)


def test_splits_and_the_two_halves_of_mnli(tmp_path: Path):
    halves = {"accuracy": Metric(80.0, "%"), "mismatched_accuracy": Metric(70.0, "%"), "loss": Metric(1.0, "")}
    text_task(tmp_path / "mnli", "unimo2_table3", "UNIMO-2", "MNLI", halves, seed=1)
    text_task(tmp_path / "entailment", "unimo_table1", "UNIMO-large", "SNLI-VE", halves)
    found = read_reproduction(tmp_path)
    joined = {(x.table, x.number.row, x.number.split): x.mean for x in found.lines if x.runs}
    assert joined == {
        ("unimo2_table3", "UNIMO-2", "dev-matched"): 80.0,
        ("unimo2_table3", "UNIMO-2", "dev-mismatched"): 70.0,
        ("unimo_table1", "UNIMO-large", "val"): 80.0,
    }


def test_mismatched_mnli_is_the_best_of_its_own_evaluations(tmp_path: Path):
    """As the release reports it; the matched set, by which the checkpoint was chosen, is the checkpoint's."""
    halves = {"accuracy": Metric(80.0, "%"), "mismatched_accuracy": Metric(70.0, "%")}
    highest = {"accuracy": {"value": 81.0, "step": 4}, "mismatched_accuracy": {"value": 71.0, "step": 2}}
    text_task(tmp_path / "1", "unimo2_table3", "UNIMO-2", "MNLI", halves, seed=1, highest_on_the_way=highest)
    text_task(tmp_path / "2", "unimo2_table3", "UNIMO-2", "MNLI", halves, seed=2)
    found = {line.number.split: line.mean for line in read_reproduction(tmp_path).lines if line.runs}
    assert found == {"dev-matched": 80.0, "dev-mismatched": (71 + 70) / 2}, "of the second no evaluation is known"


@pytest.mark.parametrize(
    "change",
    [
        {"paper": FLICKR | {"table": "Table 1"}},
        {"paper": FLICKR | {"row": "UNIMO"}},
        {"paper": FLICKR | {"row": "UNITER-base"}},  # another system's
        {"paper": FLICKR | {"dataset": "COCO"}},  # has no recalls
        {"paper": FLICKR | {"dataset": None}},
        {"paper": FLICKR | {"mode": "zero_shot"}},
        {"split": "dev"},
    ],
    ids=str,
)
def test_a_run_that_joins_nothing_is_named(tmp_path: Path, change: dict):
    retrieval(tmp_path / "alone", 1, **change)
    text = report(tmp_path).output
    assert "0 have a number of ours beside them" in text
    named = text.split("## Runs that name a row but stand beside no number")[1]
    assert named.count("- `alone`: table ") == 1 and "it measured image_recall@1, image_recall@5" in named


def test_numbers_of_general_knowledge_are_marked(tmp_path: Path):
    text = report(tmp_path, "--output", str(tmp_path / "out")).output
    doubtful = [
        entry["value"]
        for table in PRINTED.values()
        for entry in table["entries"]
        if "general_knowledge_verify" in (entry.get("certainty"), table["certainty"])
    ]
    marked = [cell for cell in published(text) if cell.endswith(" (to verify)")]
    assert sorted(marked) == sorted(f"{value} (to verify)" for value in doubtful) and len(doubtful) == 2
    section = text.split("## oner_survey")[1]
    assert "**General knowledge: nobody saw these numbers" in section and text.count("**General") == 1
    rows = read_csv(tmp_path / "out")
    assert [r["published"] for r in rows if r["certainty"] == "general_knowledge_verify"] == doubtful
    page = Page((tmp_path / "out" / "paper.html").read_text(encoding="utf-8"))
    assert page.count("td", **{"class": "number verify"}) == 2 and page.count("p", **{"class": "verify"}) == 1


def test_an_entrys_own_certainty_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from unimo import paper

    table = paper.tables()["unimo_table1"]
    first = table.entries[0].model_copy(update={"certainty": "general_knowledge_verify"})
    changed = {**paper.tables(), "unimo_table1": table.model_copy(update={"entries": [first, *table.entries[1:]]})}
    monkeypatch.setattr("unimo.report.reproduction.tables", lambda: changed)
    section = report(tmp_path).output.split("## unimo_table1")[1].split("\n## ")[0]
    assert [cell for cell in published(section) if "verify" in cell] == ["58.20 (to verify)"]


def test_rows_of_ours_name_recipe_and_command(tmp_path: Path):
    section = report(tmp_path).output.split("## unimo_table1")[1].split("\n## ")[0]
    script, start = (
        "bash run_scripts/finetune/retrieval/Flickr30k/run.sh base",
        "model_configs/pretrain/unimo_base.yaml",
    )
    assert (
        f"- UNIMO-base: recipe `model_configs/finetune/flickr30k_base.yaml`, `{script}`; "
        f"pre-training `{start}`, `bash run_scripts/pretrain/unimo_base.sh`\n"
    ) in section.split("\n### ")[1]
    assert "UNITER" not in "".join(line for line in section.splitlines() if line[:1] == "-"), "others have none"
    transfer = report(tmp_path).output.split("## oner_transfer")[1]
    assert "- SBU / one tower: no recipe yet\n" in transfer


def read_csv(folder: Path) -> list[dict[str, str]]:
    with open(folder / "paper.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_say_the_same(tmp_path: Path):
    for seed in (1, 2):
        retrieval(tmp_path / "runs" / str(seed), seed, 0.1 * seed)
    output = tmp_path / "new" / "folder"
    for _ in range(2):  # the second replaces the first
        shown = report(tmp_path / "runs", "--output", str(output))
        assert sorted(p.name for p in output.iterdir()) == ["paper.csv", "paper.html", "paper.md"]
    assert (output / "paper.md").read_text(encoding="utf-8") == shown.output
    rows = read_csv(output)
    assert [row["published"] for row in rows] == [entry["value"] for entry in ALL]
    joined = [row for row in rows if row["ours"]]
    assert len(joined) == 12 and {row["n"] for row in joined} == {"2"} and {row["runs"] for row in joined} == {"1; 2"}
    first = joined[0]
    assert float(first["difference"]) == pytest.approx(float(first["ours"]) - 74.66, abs=1e-5)
    assert first["key"] == "image_recall@1" and float(first["deviation"]) > 0
    assert first["recipe"].startswith("model_configs/finetune/flickr30k_base.yaml; ")
    assert first["command"].startswith("bash run_scripts/finetune/retrieval/Flickr30k/run.sh base; ")
    assert {row["n"] for row in rows if row["role"] == "baseline"} == {""}
    assert {row["n"] for row in rows if row["role"] != "baseline"} == {"0", "2"}
    html = (output / "paper.html").read_text(encoding="utf-8")
    page = Page(html)
    bodies = [cell for cell in re.findall(r"<td>paper</td>(.*?)</tr>", html, re.DOTALL)]
    cells = [cell for body in bodies for cell in re.findall(r">([^<]+)</td>", body) if cell != "-"]
    assert len(cells) == 520 and "(n 2)" in page.text
    assert not re.search(r"<script|https?:|src=", html)


def test_only_the_page_needs_jinja2(tmp_path: Path):
    program = "import sys; sys.modules['jinja2'] = None; from unimo.cli import main; main()"
    command = [sys.executable, "-c", program, "report", "paper", "--runs", str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True)
    assert printed.returncode == 0 and len(published(printed.stdout)) == 520
    written = subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True)
    assert written.returncode == 2 and "pip install -e .[report]" in written.stderr and not written.stdout
    assert not (tmp_path / "out").exists()


def test_what_runs_say_cannot_inject_anything(tmp_path: Path):
    name = "a | `b` <i>\n| c \x1b[31m"
    retrieval(tmp_path / "runs" / name, 1, items=HOSTILE, provenance={"command": f"`{HOSTILE}\x1b"})
    retrieval(tmp_path / "runs" / f"{name}2", 1, split=HOSTILE)
    shown = report(tmp_path / "runs", "--output", str(tmp_path / "out"))
    assert shown.exit_code == 0 and "\x1b" not in shown.output and "`b`" not in shown.output
    assert len(published(shown.output)) == 520
    page = Page((tmp_path / "out" / "paper.html").read_text(encoding="utf-8"))
    assert page.count("script") == page.count("i") == 0 and "<script>" in page.text


def refused(runs: Path) -> str:
    shown = report(runs)
    assert shown.exit_code == 2 and shown.stdout == "" and shown.stderr.startswith("error: ")
    assert "Traceback" not in shown.stderr
    return shown.stderr


def test_two_runs_of_one_seed_are_never_averaged(tmp_path: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", None)):
        retrieval(tmp_path / name, seed)
    said = refused(tmp_path)
    assert "a, b: one seed, 1 (unimo_table1, UNIMO-base, Flickr30k, finetuned, test)" in said
    assert "d: no seed, where several runs are of one number" in said
    assert len(said.splitlines()) == 3, "once, not for each metric"


def test_seeds_are_of_one_data_set(tmp_path: Path):
    retrieval(tmp_path / "a", 1)
    retrieval(tmp_path / "b", 2, captions=50)
    retrieval(tmp_path / "c", 3)
    assert "a, c | b: evaluated on other data" in refused(tmp_path)


def test_another_unit_than_the_papers_is_refused(tmp_path: Path):
    text_task(tmp_path / "a", "unimo_table1", "UNIMO-base", "COCO", {"cider": Metric(1.244, "")}, "test")
    text_task(tmp_path / "b", "unimo_table1", "UNIMO-large", "COCO", {"cider": Metric(120.0, "points")}, "test")
    said = refused(tmp_path)
    assert "a: cider is in '', the number of unimo_table1, UNIMO-base, COCO, finetuned, test in 'points'" in said
    assert "b:" not in said


def test_a_value_that_is_not_finite_is_refused(tmp_path: Path):
    content = retrieval(tmp_path / "a", 1)
    content["metrics"]["image_recall@1"]["value"] = float("nan")
    write(tmp_path / "a" / "metrics.json", content)
    assert "a: image_recall@1 is nan" in refused(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path):
    assert f"{tmp_path / 'no'} is not a folder" in refused(tmp_path / "no")
    (tmp_path / "file").touch()
    assert "is not a folder" in refused(tmp_path / "file")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"task": 1}', "\x00", json.dumps({"paper": {"no": 1}})])
def test_a_damaged_file_is_named(tmp_path: Path, content: str):
    retrieval(tmp_path / "whole", 1)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "metrics.json").write_text(content)
    assert str(tmp_path / "deep" / "er" / "metrics.json") in refused(tmp_path)
    classification(tmp_path / "deep" / "er", "whole again", [1, 0])
    assert report(tmp_path).exit_code == 0
