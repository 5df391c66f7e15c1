"""A grid of runs as GLUE's are reported: settings in rows, of each the best, the median and the mean over its seeds.

The release's stat_res.py groups by the learning rate where it says seed, so that its "median" is one over rates of the
best seeds' runs; this one takes the seeds of equal settings together.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median, stdev

from unimo.errors import DataError
from unimo.report.run_folder import Metrics, read_metrics
from unimo.report.tables import aligned

Grid = dict[str, dict[str, Metrics]]  # settings -> seed -> results


def read_grid(folder: Path) -> Grid:
    """The evaluated runs of a folder that holds SETTINGS/SEED; those that are not done yet are not in it.

    Raises:
        DataError: none is evaluated, a damaged metrics.json, or runs of other tasks, splits or data.
    """
    found: Grid = {}
    for path in sorted(folder.glob("*/*/metrics.json")):
        if metrics := read_metrics(path.parent):
            found.setdefault(path.parent.parent.name, {})[path.parent.name] = metrics
    if not found:
        raise DataError(f"{folder} holds no evaluated run; a grid is SETTINGS/SEED, each the --output of a run")
    sets = {(m.task, m.title, *map(str, m.hashes.items())) for seeds in found.values() for m in seeds.values()}
    if len(sets) > 1:
        shown = sorted(" ".join(one) for one in sets)
        raise DataError(f"the runs of {folder} were evaluated on different data: {' | '.join(shown)}")
    return found


def as_text(grid: Grid) -> str:
    """A table for each metric, the settings of the highest mean first."""
    names = list(dict.fromkeys(name for seeds in grid.values() for m in seeds.values() for name in m.metrics))
    return "\n\n".join("\n".join([name, *aligned(_rows(grid, name))]) for name in names)


def _rows(grid: Grid, name: str) -> list[list[str]]:
    values = {arm: [m.metrics[name].value for m in seeds.values() if name in m.metrics] for arm, seeds in grid.items()}
    ranked = sorted((arm for arm in values if values[arm]), key=lambda arm: -mean(values[arm]))
    return [["settings", "seeds", "best", "median", "mean"], *([arm, *_over_seeds(values[arm])] for arm in ranked)]


def _over_seeds(values: Sequence[float]) -> list[str]:
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return [str(len(values)), f"{max(values):.2f}", f"{median(values):.2f}", f"{mean(values):.2f}{deviation}"]
