"""The numbers that the papers print, from model_configs/paper_tables.yaml, and how a result of ours finds its own.

A number is found by table, row, dataset, mode, split and metric. Metrics are named as in our metrics.json: R@1 of image
retrieval is `image_recall@1`; every other name is the printed one in lower case, with underscores for spaces. MNLI
has two dev sets, which one evaluation of ours measures: its `mismatched_accuracy` is the papers' of dev-mismatched.
Top-1 accuracy is `accuracy`.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Literal

import yaml

from unimo.config import Config, Mode, Paper, apply_overrides, find, load, validate
from unimo.errors import ConfigError

FILE = "model_configs/paper_tables.yaml"
Certainty = Literal["known", "general_knowledge_verify"]
JOIN = ("table", "row", "dataset", "mode")  # what metrics.json says of a `Paper`
_SAME_SPLIT = {"val": "dev"}
_HALVES_OF_DEV = ("dev-matched", "dev-mismatched")  # of MNLI
_AS_TEXT = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # leaves a number as it is written


class Number(Config):
    """One printed number; the YAML's head says what each key means."""

    system: str
    size: str | None
    task: str
    dataset: str
    split: str
    split_basis: str
    mode: Mode
    metric: str
    value: float
    row: str
    role: Literal["this_system", "ablation", "control", "baseline"]
    certainty: Certainty | None = None  # None: the table's

    @property
    def key(self) -> str:
        """The metric as metrics.json names it."""
        if self.metric.startswith("R@"):
            return f"{self.task.removesuffix('_retrieval')}_recall@{self.metric.removeprefix('R@')}"
        mismatched = "mismatched_" if self.split == "dev-mismatched" else ""
        return mismatched + self.metric.lower().removeprefix("top-1 ").replace(" ", "_")

    @property
    def chosen_by_itself(self) -> bool:
        """Whether it is the highest of the evaluations on the way, whatever checkpoint another metric chooses: of
        MNLI's two dev sets the release reports the best of each, and ours chooses checkpoints by the first."""
        return self.split == _HALVES_OF_DEV[1]

    @property
    def evaluation(self) -> tuple[str | None, ...]:
        """What was evaluated on what: numbers of one evaluation differ in their metrics alone."""
        return self.system, self.size, self.row, self.dataset, self.mode, self.split

    def is_of(self, split: str) -> bool:
        """Whether a result on a split of ours may be beside it; val and dev are one."""
        own = "dev" if self.split in _HALVES_OF_DEV else self.split
        return _SAME_SPLIT.get(own, own) == _SAME_SPLIT.get(split, split)

    @property
    def unit(self) -> str:
        """The unit as metrics.json names it."""
        return "points" if self.metric == "CIDEr" else "%"


class Table(Config):
    """One published table."""

    paper: str
    label: str | None  # "Table 1"
    title: str
    source: str
    certainty: Certainty
    entries: list[Number]

    def own(self, number: Number) -> dict[str, float]:
        """Metric -> value of all that the table prints of the evaluation of a number of our systems."""
        same = [other for other in self.entries if other.evaluation == number.evaluation and other.role != "baseline"]
        return {other.key: other.value for other in same}


class Tables(Config):
    """The content of paper_tables.yaml. Ablations and costs are for readers of the file; nothing here uses them."""

    format_version: Literal[1]
    tables: dict[str, Table]
    ablations: list[dict[str, Any]]
    training_cost: dict[str, Any]


@cache
def tables() -> dict[str, Table]:
    """All tables by id."""
    return load(Tables, find(FILE)).tables


@cache
def printed() -> dict[str, list[str]]:
    """The values of all tables by id as the papers print them, with the zeros at their end, which a float has not."""
    content = yaml.load(find(FILE).read_text(encoding="utf-8"), _AS_TEXT)
    return {name: [entry["value"] for entry in table["entries"]] for name, table in content["tables"].items()}


def printing(table: str, number: Number) -> list[str]:
    """The tables, in the file's order, by whose names a result of ours finds a number of `table`.

    Those are `table` and all others of its paper that print the same evaluation of one of our systems, with the same
    value of every metric that both print: UNIMO's tables 3 and 4 repeat rows of 1 and 2, and the README of UNIMO-2
    adds R@10 to rows of table 1.
    """
    known, own = tables(), tables()[table].own(number)
    found = {name: other.own(number) for name, other in known.items() if other.paper == known[table].paper}
    alike = {name for name, values in found.items() if values and not _differ(values, own)}
    return [name for name in known if name == table or name in alike]


def _differ(values: Mapping[str, float], others: Mapping[str, float]) -> bool:
    return any(others[key] != value for key, value in values.items() if key in others)


def rows(table: str | None, row: str | None, datasets: Collection[str] = (), mode: Mode | None = None) -> list[Number]:
    """The numbers of a row, in the file's order; without `datasets` or `mode`, of all.

    Numbers from general knowledge are left out: nobody saw them in the authors' own words. So is what the file does not
    know: a table or row that is not there has no numbers.
    """
    known = tables().get(table or "")
    if known is None:
        return []
    return [
        number
        for number in known.entries
        if number.row == row
        and (number.certainty or known.certainty) == "known"
        and (not datasets or number.dataset in datasets)
        and mode in (None, number.mode)
    ]


def numbers(paper: Paper, split: str | None = None) -> dict[str, float]:
    """Metric -> the paper's number, in the paper's unit, of a dataset in a mode; empty where no dataset is named.

    Args:
        split: a split of our own; val and dev are one. None: of all splits, but for metrics that several splits have.
    """
    if paper.dataset is None:
        return {}
    found: dict[str, list[float]] = {}
    for number in rows(paper.table, paper.row, [paper.dataset], paper.mode):
        if split is None or number.is_of(split):
            found.setdefault(number.key, []).append(number.value)
    return {key: values[0] for key, values in found.items() if len(values) == 1}


def join(paper: Paper) -> dict[str, str | None]:
    """What a result says of the paper, so that a report finds the numbers."""
    return {key: getattr(paper, key) for key in JOIN}


def row_name(paper: Paper) -> str:
    """A row of a known table beside results of ours: row, dataset, mode where it is not fine-tuned, and table."""
    table = tables()[str(paper.table)]
    mode = None if paper.mode == "finetuned" else paper.mode.replace("_", "-")
    return ", ".join(filter(None, [paper.row, paper.dataset, mode, f"{table.label or table.title} of {table.paper}"]))


def describe(paper: Paper) -> str:
    """Where a recipe comes from and what the paper reports for it, for people."""
    expected = paper.expected or numbers(paper)
    if not expected and paper.dataset:  # several splits have the metric
        own = rows(paper.table, paper.row, [paper.dataset], paper.mode)
        expected = {f"{number.split} {number.key}": number.value for number in own}
    text = ", ".join(f"{name} {value:g}" for name, value in expected.items()) or "no number of its own"
    cost = [paper.hardware, None if paper.hours is None else f"{paper.hours:g} h"]
    known = tables().get(paper.table or "")
    table = (known.label or known.title) if known else paper.table
    parts = [f"{table}, {paper.row}", text, ", ".join(filter(None, cost))]
    return "paper: " + "; ".join(filter(None, parts))


def row_of(given: Sequence[str]) -> dict[str, Any]:
    """What metrics.json says of a row that a user names by KEY=VALUE.

    Raises:
        ConfigError: an unknown key, or a row of which the file has no numbers.
    """
    paper = validate(Paper, apply_overrides({}, given), "--paper")
    if not rows(paper.table, paper.row, [paper.dataset] if paper.dataset else (), paper.mode):
        raise ConfigError(
            f"--paper {' '.join(given)}: no numbers in {FILE}; name table (one of {', '.join(tables())}), row, "
            "dataset and mode as they stand there"
        )
    return join(paper)
