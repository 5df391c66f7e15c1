"""The papers' numbers: one file, read whole; how a result finds its own; no copy of them anywhere else."""

import math
import re
from collections import Counter

import pytest
import yaml

from unimo import paper
from unimo.config import ROOT, Paper, load
from unimo.finetune.retrieval import RetrievalRecipe
from unimo.zoo.catalogue import entries, scores

FILE = ROOT / "model_configs" / "paper_tables.yaml"
FLICKR = Paper(table="unimo_table1", row="UNIMO-base", dataset="Flickr30k")
NUMBER = re.compile(r"(?<![\w.-])\d+\.\d+(?![\w.])")


def test_the_file_holds_every_number_once():
    tables = paper.tables()
    assert sum(len(table.entries) for table in tables.values()) == 520
    ours = ("dev", "test", "test-dev", "test-std", "unknown")
    keys = Counter(
        (name, n.row, n.dataset, n.mode, *map(n.is_of, ours), n.key)
        for name, table in tables.items()
        for n in table.entries
    )
    assert max(keys.values()) == 1, "the join key is unique"
    assert [t.label for t in tables.values() if t.paper == "UNIMO"] == [f"Table {n}" for n in (1, 2, 3, 4)]


def test_ablations_repeat_the_tables():
    tables = paper.tables()
    pairs = 0
    for ablation in yaml.safe_load(FILE.read_text())["ablations"]:
        numbers = {(n.row, n.task, n.dataset, n.split, n.mode, n.metric): n for n in tables[ablation["table"]].entries}
        for entry in ablation["entries"]:
            place = [entry[key] for key in ("task", "dataset", "split", "mode", "metric")]
            full, ablated = (numbers[(ablation[f"{kind}_row"], *place)].value for kind in ("full", "ablated"))
            assert (full, ablated) == (entry["full"], entry["ablated"])
            assert math.isclose(ablated - full, entry["delta"], abs_tol=1e-9)
            pairs += 1
    assert pairs == 64


def test_metrics_have_our_names():
    assert paper.numbers(FLICKR, "test") == {
        "image_recall@1": 74.66,
        "image_recall@5": 93.40,
        "image_recall@10": 96.08,
        "text_recall@1": 89.70,
        "text_recall@5": 98.40,
        "text_recall@10": 99.10,
    }
    assert paper.numbers(FLICKR.model_copy(update={"dataset": "COCO"})) == {"bleu-4": 38.8, "cider": 124.4}
    image = Paper(table="unimo2_table2", row="UNIMO-2", dataset="ImageNet-1k", mode="zero_shot")
    assert paper.numbers(image, "dev") == {"accuracy": 66.3}


def test_val_and_dev_are_one_and_an_unclear_number_is_none():
    entailment = FLICKR.model_copy(update={"dataset": "SNLI-VE"})
    assert paper.numbers(entailment, "val") == paper.numbers(entailment, "dev") == {"accuracy": 80.0}
    assert paper.numbers(entailment, "test") == {"accuracy": 79.1}
    assert paper.numbers(entailment) == {}, "two splits have an accuracy"
    assert "val accuracy 80, test accuracy 79.1" in paper.describe(entailment)


def test_the_two_dev_sets_of_mnli_are_one_split_with_two_metrics():
    nli = Paper(table="unimo_table2", row="UNIMO-base", dataset="MNLI")
    for split in ("dev", "val", None):
        assert paper.numbers(nli, split) == {"accuracy": 86.8, "mismatched_accuracy": 86.7}
    assert paper.numbers(nli, "test") == {}
    assert "accuracy 86.8, mismatched_accuracy 86.7" in paper.describe(nli)
    mnli = [n for t in paper.tables().values() for n in t.entries if n.dataset == "MNLI"]
    assert len(mnli) == 28 and all((n.split == "dev-mismatched") == n.key.startswith("mismatched_") for n in mnli)
    assert not any(n.is_of("dev-mismatched") for n in mnli), "of which the metric would be called accuracy"


def test_a_row_that_tables_of_one_paper_repeat_is_found_by_either_name():
    tables = paper.tables()
    several = {
        (number.row, *names)
        for table, known in tables.items()
        for number in known.entries
        if len(names := paper.printing(table, number)) > 1
    }
    assert several == {
        ("UNIMO-base", "unimo_table1", "unimo_table3"),
        ("UNIMO-base", "unimo_table2", "unimo_table4"),
        ("UNIMO-2", "unimo2_table1", "unimo2_readme_only"),
    }


@pytest.mark.parametrize("change", [{"value": 74.67}, {"size": "large"}, {"mode": "zero_shot"}, {"role": "baseline"}])
def test_a_row_that_differs_anywhere_is_another_row(monkeypatch: pytest.MonkeyPatch, change: dict):
    first, third = (paper.tables()[name] for name in ("unimo_table1", "unimo_table3"))
    number = next(n for n in first.entries if (n.row, n.metric) == ("UNIMO-base", "R@1"))
    assert paper.printing("unimo_table1", number) == ["unimo_table1", "unimo_table3"]
    changed = [n if "value" in change and n.key != number.key else n.model_copy(update=change) for n in third.entries]
    other = {"unimo_table1": first, "unimo_table3": third.model_copy(update={"entries": changed})}
    monkeypatch.setattr(paper, "tables", lambda: other)
    assert paper.printing("unimo_table1", number) == ["unimo_table1"]


def test_numbers_are_printed_with_their_zeros():
    tables, printed = paper.tables(), paper.printed()
    assert printed.keys() == tables.keys()
    for name, table in tables.items():
        assert [float(text) for text in printed[name]] == [n.value for n in table.entries]
    assert {"84.90", "91.52", "70.5"} <= {*printed["unimo_table1"]}


@pytest.mark.parametrize(
    "change",
    [{"table": "Table 1"}, {"row": "UNIMO"}, {"dataset": "flickr"}, {"dataset": None}, {"mode": "zero_shot"}],
    ids=str,
)
def test_what_does_not_join_has_no_number(change: dict):
    assert paper.numbers(FLICKR.model_copy(update=change), "test") == {}
    assert paper.numbers(FLICKR, "train") == {}


def test_general_knowledge_is_never_the_papers(monkeypatch: pytest.MonkeyPatch):
    survey = paper.tables()["oner_survey"]
    assert survey.certainty == "general_knowledge_verify"
    for number in survey.entries:
        claim = Paper(table="oner_survey", row=number.row, dataset=number.dataset, mode=number.mode)
        assert paper.numbers(claim) == {} and paper.rows("oner_survey", number.row) == []
        assert f"{number.value:g}" not in paper.describe(claim)
    table = paper.tables()["unimo_table1"]
    doubtful = [n.model_copy(update={"certainty": "general_knowledge_verify"}) for n in table.entries]
    changed = {"unimo_table1": table.model_copy(update={"entries": doubtful})}
    monkeypatch.setattr(paper, "tables", lambda: changed)
    assert paper.numbers(FLICKR, "test") == {}, "an entry's own certainty counts"


def test_a_recipe_is_described_with_its_numbers():
    described = paper.describe(load(RetrievalRecipe, ROOT / "model_configs/finetune/flickr30k_base.yaml").paper)
    assert described.startswith("paper: Table 1, UNIMO-base; image_recall@1 74.66, image_recall@5 93.4, ")
    assert described.endswith("16 V100 by the release's README, 8 by its script, 72 h")
    own = Paper(table="a report", row="big", expected={"accuracy": 12.5}, hardware="a card", hours=2)
    assert paper.describe(own) == "paper: a report, big; accuracy 12.5; a card, 2 h"
    start = FLICKR.model_copy(update={"dataset": None})
    assert paper.describe(start) == "paper: Table 1, UNIMO-base; no number of its own"


def test_the_zoo_looks_its_scores_up():
    for entry in entries().values():
        for part in entry.rows:
            found = paper.rows(part.table, part.row, part.datasets, part.mode)
            assert found and {n.dataset for n in found} >= set(part.datasets), part
    found = scores(entries()["unimo-2-base-en"])
    assert found["Flickr30k image retrieval"] == ["R@1 80.14", "R@5 95.58", "R@10 97.75"]
    assert found["Flickr30k text retrieval, zero-shot"] == ["R@1 88.46", "R@5 96.84", "R@10 98.92"]
    assert found["SNLI-VE"] == ["accuracy 81.97 (val)", "accuracy 81.48 (test)"]
    assert found["ImageNet-1k"] == ["top-1 accuracy 80.8"]
    assert scores(entries()["unimo-mnli-base-en"]).keys() == {"MNLI", "STS-B"}


def test_no_copy_of_a_number_is_anywhere_else():
    printed = {n.value for table in paper.tables().values() for n in table.entries}
    configs = [p for p in (ROOT / "model_configs").rglob("*.yaml") if p != FILE]
    files = [*configs, *(ROOT / "run_scripts").rglob("*.sh")]
    assert len(files) > 20 and 74.66 in printed
    copies = {
        str(path.relative_to(ROOT)): found
        for path in files
        if (found := [text for text in NUMBER.findall(path.read_text()) if float(text) in printed])
    }
    assert not copies, "name the table and row instead"
