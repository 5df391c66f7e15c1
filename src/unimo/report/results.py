"""The results table: runs by label, recalls both ways with interval and chance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unimo.errors import DataError
from unimo.evaluate.retrieval import KS, Recall
from unimo.report.run_folder import RunFolder

DIRECTIONS = {"image_recall": "caption -> image", "text_recall": "image -> caption"}
COLUMNS = [f"{direction}@{k}" for direction in DIRECTIONS for k in KS]
LEGEND = "recall in %, 95 % bootstrap interval over images, * = lower bound above chance"


@dataclass(frozen=True)
class Cell:
    """A recall of one run; all values are fractions of 1."""

    recall: Recall

    @property
    def value(self) -> str:
        return f"{100 * self.recall.value:.1f}"

    @property
    def interval(self) -> str:
        return f"[{100 * self.recall.low:.1f}, {100 * self.recall.high:.1f}]"

    @property
    def above_chance(self) -> bool:
        return self.recall.low > self.recall.chance


@dataclass(frozen=True)
class Table:
    """The runs that were evaluated on the same captions and images."""

    title: str
    rows: list[tuple[str, str, list[Cell | None]]]  # label, run name, a cell for each of COLUMNS
    chance: list[str]


def tables(runs: Iterable[RunFolder]) -> list[Table]:
    """One table for each split and set of chance levels among the runs that were evaluated, in the order given."""
    found: dict[tuple, Table] = {}
    for run in runs:
        if run.metrics is None:
            continue
        recalls = [run.metrics.metrics.get(column) for column in COLUMNS]
        chance = [f"{100 * recall.chance:.1f}" if recall else "-" for recall in recalls]
        title = f"{run.metrics.split} split, {run.metrics.captions} captions of {run.metrics.images} images"
        table = found.setdefault((title, *chance), Table(title, [], chance))
        table.rows.append((run.metrics.label, run.name, [recall and Cell(recall) for recall in recalls]))
    return list(found.values())


def as_text(runs: Sequence[RunFolder]) -> str:
    """The tables for a terminal, one block a direction.

    Raises:
        DataError: no run was evaluated.
    """
    found = tables(runs)
    if not found:
        looked = ", ".join(str(run.path / "metrics.json") for run in runs)
        raise DataError(f"no run was evaluated yet; looked for {looked}. `unimo evaluate retrieval` writes it")
    lines = [LEGEND]
    for table in found:
        lines += ["", table.title]
        for number, direction in enumerate(DIRECTIONS.values()):
            own = slice(number * len(KS), (number + 1) * len(KS))
            grid = [[direction, "", *(f"R@{k}" for k in KS)]]
            grid += [[label, name, *map(_cell, cells[own])] for label, name, cells in table.rows]
            grid += [["chance", "", *table.chance[own]]]
            lines += ["", *aligned(grid)]
    missing = [run.name for run in runs if run.metrics is None]
    return "\n".join(lines + ([f"\nwithout metrics.json: {', '.join(missing)}"] if missing else []))


def _cell(cell: Cell | None) -> str:
    return f"{cell.value} {cell.interval}{' *' if cell.above_chance else ''}" if cell else "-"


def aligned(grid: list[list[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*grid)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in grid]
