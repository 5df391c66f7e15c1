"""The results tables: runs by label, their metrics with intervals, the paper's numbers, chance, paired differences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unimo.errors import DataError
from unimo.evaluate.results import Metric
from unimo.paper import numbers, row_name
from unimo.report.columns import Layout, layout_of
from unimo.report.paired import paired
from unimo.report.run_folder import Metrics, RunFolder

SEEN = "what the models have seen"
DIFFERENCES = "differences with 95 % paired bootstrap interval, * = excludes 0"


@dataclass(frozen=True)
class Cell:
    """A metric of one run."""

    metric: Metric

    @property
    def value(self) -> str:
        """With one decimal, in the unit of the metric."""
        return f"{self.metric.value:.1f}"

    @property
    def interval(self) -> str:
        """As `[low, high]`; empty where the metric has none."""
        low, high = self.metric.low, self.metric.high
        return "" if low is None or high is None else f"[{low:.1f}, {high:.1f}]"

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval lies above chance; False where either is not known."""
        low, chance = self.metric.low, self.metric.chance
        return low is not None and chance is not None and low > chance

    def __str__(self) -> str:
        return " ".join(filter(None, [self.value, self.interval, "*" if self.above_chance else ""]))


@dataclass(frozen=True)
class Block:
    """Some columns of a table, with all of its rows."""

    title: str
    headings: list[str]
    rows: list[tuple[str, str, list[Cell | None]]]  # label, run name, a cell for each of the headings
    paper: list[tuple[str, list[str]]]  # row of a paper's table, its numbers or "-"
    chance: list[str] | None  # None: no metric of the table has a chance level

    def grid(self) -> list[list[str]]:
        """All cells as text, headings first."""
        grid = [[self.title, "", *self.headings]]
        grid += [[label, name, *(str(cell) if cell else "-" for cell in cells)] for label, name, cells in self.rows]
        grid += [["paper", name, *cells] for name, cells in self.paper]
        return grid + ([["chance", "", *self.chance]] if self.chance else [])


@dataclass(frozen=True)
class Table:
    """The runs that were evaluated on the same task and data."""

    title: str
    layout: Layout
    blocks: list[Block]
    differences: list[str]
    seen: list[list[str]]  # label, run name, what its model was trained on; of the rows that know


def tables(runs: Iterable[RunFolder]) -> list[Table]:
    """One table for each task, split, data hash, count of items and set of chance levels among the runs, in the order
    given. Titles that would be equal end with the hash."""
    groups: dict[tuple, list[tuple[str, Metrics]]] = {}
    for run in runs:
        if run.metrics:
            metrics = run.metrics.metrics
            columns = [name for block in layout_of(run.metrics.task, metrics).blocks.values() for name in block]
            chance = tuple(_chance(metrics.get(name)) for name in columns)
            key = (run.metrics.task, run.metrics.title, tuple(columns), chance, tuple(run.metrics.hashes.items()))
            groups.setdefault(key, []).append((run.name, run.metrics))
    titles = [key[1] for key in groups]
    return [_table(found, titles.count(key[1]) > 1) for key, found in groups.items()]


def _table(runs: list[tuple[str, Metrics]], ambiguous: bool) -> Table:
    first = runs[0][1]
    shown_as = ", ".join([first.title, *(f"{key} {value[:8]}" for key, value in first.hashes.items() if ambiguous)])
    layout = layout_of(first.task, first.metrics)
    shown = {column for block in layout.blocks.values() for column in block}
    claims = {
        row_name(run.paper): found
        for _, run in runs
        if run.paper and (found := numbers(run.paper, run.split)).keys() & shown
    }
    blocks = []
    for title, columns in layout.blocks.items():
        rows = [(run.label, name, [_cell(run.metrics.get(column)) for column in columns]) for name, run in runs]
        paper = [(row, [_number(found.get(c)) for c in columns]) for row, found in claims.items()]
        chance = [_chance(first.metrics.get(column)) for column in columns]
        has_chance = any(metric.chance is not None for metric in first.metrics.values())
        blocks.append(Block(title, list(columns.values()), rows, paper, chance if has_chance else None))
    differences = [f"{run.label} minus {found.to}: {found}" for _, run in runs for found in run.differences]
    seen = [[run.label, name, run.seen] for name, run in runs if run.seen]
    return Table(shown_as, layout, blocks, differences, seen)


def _cell(metric: Metric | None) -> Cell | None:
    return None if metric is None else Cell(metric)


def _chance(metric: Metric | None) -> str:
    return "-" if metric is None or metric.chance is None else f"{metric.chance:.1f}"


def _number(printed: float | None) -> str:
    return "-" if printed is None else f"{printed:g}"


def as_text(runs: Sequence[RunFolder], baseline: str | None = None) -> str:
    """The tables for a terminal, one block of columns below the other, each task's legend above its first table.

    Args:
        baseline: label or name of the row that the others are compared with.

    Raises:
        DataError: no run was evaluated, or rows that cannot be compared with the baseline.
    """
    found = tables(runs)
    if not found:
        looked = ", ".join(str(run.path / "metrics.json") for run in runs)
        raise DataError(f"no run was evaluated yet; looked for {looked}. `unimo evaluate` writes it")
    lines: list[str] = []
    legend = None
    for table in found:
        if table.layout.legend != legend:
            legend = table.layout.legend
            lines += ["", legend] if lines else [legend]
        lines += ["", table.title]
        for block in table.blocks:
            lines += ["", *aligned(block.grid())]
        if table.differences:
            lines += ["", DIFFERENCES, *table.differences]
        if table.seen:
            lines += ["", SEEN, *(f"{label} ({name}): {seen}" for label, name, seen in table.seen)]
    if baseline is not None:
        compared = paired(runs, baseline)
        lines += ["", compared.legend]
        for grid in compared.grids:
            lines += ["", *aligned(grid)]
    missing = [run.name for run in runs if run.metrics is None]
    return "\n".join(lines + ([f"\nwithout metrics.json: {', '.join(missing)}"] if missing else []))


def aligned(grid: list[list[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*grid)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in grid]
