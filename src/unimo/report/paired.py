"""Rows minus a baseline row, item by item: both are read off the same draws of the pictures that they answered for."""

from collections.abc import Sequence
from dataclasses import dataclass

from unimo.errors import DataError
from unimo.evaluate.results import Difference, check_same_units, differences, read_items
from unimo.report.columns import layout_of
from unimo.report.run_folder import RunFolder

Grid = list[list[str]]  # rows of cells, headings first


@dataclass(frozen=True)
class Paired:
    """The differences of all rows to one, as tables."""

    legend: str
    grids: list[Grid]


def paired(runs: Sequence[RunFolder], baseline: str) -> Paired:
    """Each run that was evaluated on its task minus the one with the label, or else the name, `baseline`.

    Raises:
        DataError: not one run is called so, one has no items.json, or some were not evaluated on the items of the
            baseline; all are named.
    """
    rows = [run for run in runs if run.metrics]
    base = _baseline(rows, baseline)
    assert base.metrics  # it is one of the rows
    task, problems = base.metrics.task, []
    theirs = read_items(base.path)
    others = [run for run in rows if run is not base and run.metrics and run.metrics.task == task]
    layout = layout_of(base.metrics.task, base.metrics.metrics)
    found: dict[str, dict[str, Difference]] = {}
    for run in others:
        try:
            ours = read_items(run.path)
            check_same_units(run.path, theirs, ours)
            found[run.name] = {d.metric: d for d in differences(ours.samples, theirs, layout.mean)}
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n  - ".join([f"not to be compared with {baseline} ({base.path})", *problems]))
    blocks = {"": {layout.mean: layout.mean}} if layout.mean else {}
    grids = []
    for title, columns in {**blocks, **layout.blocks}.items():
        grid = [[", ".join(filter(None, [f"minus {baseline}", title])), "", *columns.values()]]
        for run in others:
            assert run.metrics
            cells = [found[run.name].get(column) for column in columns]
            grid.append([run.metrics.label, run.name, *(cell.edges if cell else "-" for cell in cells)])
        grids.append(grid)
    return Paired(
        f"differences to {baseline}: 95 % paired bootstrap interval over {len(theirs.units)} units, * = excludes 0",
        grids,
    )


def _baseline(rows: Sequence[RunFolder], name: str) -> RunFolder:
    labelled = [run for run in rows if run.metrics and run.metrics.label == name]
    found = labelled if len(labelled) == 1 else [run for run in rows if run.name == name]
    if len(found) != 1:
        there = ", ".join(f"{run.metrics.label} ({run.name})" for run in rows if run.metrics)
        raise DataError(f"--baseline {name}: expected the label or the name of one row, there are {there or 'none'}")
    return found[0]
