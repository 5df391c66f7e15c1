"""The papers' tables as grids, one for each dataset and mode of a table: rows as printed, what is measured as columns.

A row of another system has one line, of the paper. A row of ours has two, and where a run stands beside it a third: the
paper's number, ours as mean ± sample deviation over n seeds, and the difference of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unimo.paper import Table, tables
from unimo.report.reproduction import Line, Reproduction, Run
from unimo.report.row_recipes import Recipe

NOT_RUN, NOTHING = "not run", "-"
TO_VERIFY = "to verify"  # mark of a number from general knowledge
WARNING = "General knowledge: nobody saw these numbers in a source of the authors. Verify them before you cite them."
MODES = {"finetuned": "fine-tuned", "zero_shot": "zero-shot", "linear_probe": "linear probe"}
LEGEND = (
    "Numbers are in %, CIDEr in points (x 100). Of a row of ours, `ours` is the mean ± the sample standard deviation "
    "over n runs of different seeds that name the row in their metrics.json, here or in a table that prints the same "
    f"row with the same values, `{NOT_RUN}` where none does; `ours - paper` is that mean minus the published number. "
    "Of MNLI's mismatched set a run counts with the highest of its evaluations on the way, as in the release, where "
    f"it has recorded them. `({TO_VERIFY})`: of general knowledge, not seen in a source of the authors; check it "
    "before you cite it. Where a table prints no split, it is the usual one, or that of the released script: "
    "`split_basis` of paper.csv says which."
)


@dataclass(frozen=True)
class Row:
    """A row of a paper's table in one dataset and mode."""

    label: str
    ours: bool
    lines: list[tuple[str, list[str]]]  # what it says, a cell for each of the headings
    recipes: list[Recipe]
    trains: bool  # whether its numbers take a training of their own after pre-training
    runs: list[Run]


@dataclass(frozen=True)
class Block:
    """The numbers of a table in one dataset and mode."""

    title: str
    headings: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Section:
    """A table of a paper."""

    name: str  # its id
    table: Table
    blocks: list[Block]

    @property
    def title(self) -> str:
        """Id, number and paper, and title."""
        printed_as = f"{self.table.label} of {self.table.paper}" if self.table.label else self.table.paper
        return f"{self.name}: {printed_as}, {self.table.title}"

    @property
    def verified(self) -> bool:
        """Whether the table's numbers were seen in a source of the authors; single ones may be marked all the same."""
        return self.table.certainty == "known"


def sections(found: Reproduction) -> list[Section]:
    """All tables with all of their numbers, in the order of the file."""
    result = []
    for name, table in tables().items():
        blocks: dict[tuple[str, str], list[Line]] = {}
        for line in found.lines:
            if line.table == name:
                blocks.setdefault((line.number.dataset, line.number.mode), []).append(line)
        result.append(Section(name, table, [_block(lines) for lines in blocks.values()]))
    return result


def summary(found: Reproduction) -> str:
    """How much is there, as a sentence."""
    beside = [line for line in found.lines if line.runs]
    runs = {run.name for line in beside for run in line.runs}
    own = sum(line.reproduced for line in found.lines)
    return (
        f"{len(found.lines)} published numbers of {len(tables())} tables, {own} of them of our three systems; "
        f"{len(beside)} have a number of ours beside them, from {len(runs)} {'run' if len(runs) == 1 else 'runs'}"
    )


def _block(lines: Sequence[Line]) -> Block:
    first = lines[0].number
    columns = {_column(line): _heading(line) for line in lines}
    rows: dict[str, dict[tuple[str, str], Line]] = {}
    for line in lines:
        rows.setdefault(line.number.row, {})[_column(line)] = line
    shown = [_row(label, [cells.get(column) for column in columns]) for label, cells in rows.items()]
    return Block(f"{first.dataset}, {MODES[first.mode]}", list(columns.values()), shown)


def _column(line: Line) -> tuple[str, str]:
    return line.number.split, line.number.key


def _heading(line: Line) -> str:
    number = line.number
    direction = number.task.removesuffix("_retrieval") if number.metric.startswith("R@") else ""
    split = "split unknown" if number.split == "unknown" else number.split
    return " ".join(filter(None, [split, direction, number.metric]))


def _row(label: str, cells: Sequence[Line | None]) -> Row:
    there = [line for line in cells if line]
    lines = [("paper", [_published(line) if line else NOTHING for line in cells])]
    if there[0].reproduced:
        lines.append(("ours", [_ours(line) if line else NOTHING for line in cells]))
    runs = {run.name: run for line in there for run in line.runs}
    if runs:
        lines.append(("ours - paper", [_difference(line) if line else NOTHING for line in cells]))
    trains = there[0].number.mode != "zero_shot"
    return Row(label, there[0].reproduced, lines, there[0].recipes, trains, list(runs.values()))


def _published(line: Line) -> str:
    return line.printed if line.certainty == "known" else f"{line.printed} ({TO_VERIFY})"


def _ours(line: Line) -> str:
    if line.mean is None:
        return NOT_RUN
    spread = "" if line.deviation is None else f" ± {line.deviation:.2f}"
    return f"{line.mean:.2f}{spread} (n {len(line.runs)})"


def _difference(line: Line) -> str:
    return NOTHING if line.difference is None else f"{line.difference:+.2f}"


def made_by(row: Row) -> list[tuple[str, Recipe | None]]:
    """What makes a row of ours, each with its recipe; None where there is none yet."""
    own = [("recipe", recipe) for recipe in row.recipes if not recipe.pretrains]
    before = [("pre-training", recipe) for recipe in row.recipes if recipe.pretrains]
    lacking: list[tuple[str, Recipe | None]] = [("no recipe yet", None)]
    return [*(own or (lacking if row.trains or not before else [])), *before]
