"""A study: arms that differ in one thing, each trained with the same seeds -> means, spread, differences seed by seed.

The folder of a study holds ARM/SEED, each a run folder that was evaluated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from unimo.errors import DataError, MissingDependencyError
from unimo.evaluate.results import Metric
from unimo.report.columns import layout_of
from unimo.report.rewritten import COIN, POSITIVE_KINDS, beats
from unimo.report.run_folder import RunFolder, open_runs
from unimo.report.tables import aligned

try:
    from scipy.stats import t as student
except ModuleNotFoundError as error:
    raise MissingDependencyError(f"intervals over seeds need scipy ({error}): pip install -e .[report]") from error

SWAP = "beats "  # + kind of negative: share of the captions' negatives that score below the caption itself
CONFIDENCE = 0.95
Arms = dict[str, dict[str, Mapping[str, float]]]  # arm -> seed -> measure -> value in its unit


@dataclass(frozen=True)
class Study:
    """The measures of all runs."""

    arms: Arms
    units: Mapping[str, str]  # of the measures
    chances: Mapping[str, float]  # of those that have one


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with the half width of its 95 % interval by Student's t; without a width for one seed."""

    mean: float
    half_width: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + (f" ± {self.half_width:.1f}" if self.half_width is not None else "")


def estimate(values: Sequence[float]) -> Estimate:
    """Of values that are independent draws of one quantity."""
    n = len(values)
    if n == 1:
        return Estimate(values[0], None)
    quantile = student.ppf((1 + CONFIDENCE) / 2, n - 1)
    return Estimate(mean(values), float(quantile * stdev(values) / n**0.5))


def read_study(folder: Path) -> Study:
    """The measures of all runs of a study.

    Raises:
        DataError: no runs, a run without metrics.json, arms of other seeds, or runs evaluated on other data.
    """
    paths = sorted(path for path in folder.glob("*/*") if path.is_dir())
    if not paths:
        raise DataError(f"{folder} holds no runs; a study is ARM/SEED, each the --output of an evaluation")
    runs = {path: run for path, run in zip(paths, open_runs(paths))}
    lacking = [str(path) for path, run in runs.items() if run.metrics is None]
    if lacking:
        raise DataError(f"not evaluated yet (no metrics.json): {', '.join(lacking)}")
    shown = {(r.metrics.task, r.metrics.title) for r in runs.values() if r.metrics}
    if len(shown) > 1:
        raise DataError(f"the runs of {folder} were evaluated on different data: {sorted(shown)}")
    arms: Arms = {}
    units: dict[str, str] = {}
    chances: dict[str, float] = {}
    for path, run in runs.items():
        arms.setdefault(path.parent.name, {})[path.name] = found = measures(run)
        units |= {shown: metric.unit for shown, metric in _compared(run).items()}
        chances |= {shown: m.chance for shown, m in _compared(run).items() if m.chance is not None}
        chances |= {name: COIN for name in found if name.startswith(SWAP)}
    seeds = {arm: sorted(found) for arm, found in arms.items()}
    if len(set(map(tuple, seeds.values()))) > 1:
        raise DataError(f"every arm needs the same seeds, there are {seeds}; run those that are missing")
    return Study(arms, units, chances)


def measures(run: RunFolder) -> dict[str, float]:
    """The task's metrics of an evaluated run, and how often a caption scores above its rewritten copies, in percent.

    A tie counts half: a model that cannot tell them apart is at 50.
    """
    found = {shown: metric.value for shown, metric in _compared(run).items()}
    candidates = run.gallery.candidates if run.gallery else {}
    for kind in candidates:
        if kind not in POSITIVE_KINDS:
            found[SWAP + kind] = beats(candidates, kind)
    return found


def _compared(run: RunFolder) -> dict[str, Metric]:
    assert run.metrics is not None  # of an evaluated run
    metrics = run.metrics.metrics
    columns = layout_of(run.metrics.task, metrics).compared
    return {shown: metrics[name] for name, shown in columns.items() if name in metrics}


def as_text(study: Study, baseline: str) -> str:
    """Means by arm and what chance gives, then differences to the baseline: the mean of the differences seed by seed.

    Raises:
        DataError: no arm of that name.
    """
    arms = study.arms
    if baseline not in arms:
        raise DataError(f"no arm {baseline!r}; there are {', '.join(arms)}")
    names = [
        name
        for name in next(iter(arms[baseline].values()))
        if all(name in m for a in arms.values() for m in a.values())
    ]
    seeds = sorted(arms[baseline])
    units = [study.units.get(name, "%") for name in names]  # swaps are in percent
    unit = units[0] if len(set(units)) == 1 else None
    headings = names if unit is not None else [f"{name} ({of})" for name, of in zip(names, units)]
    means, differences = [["arm", *headings]], [[f"minus {baseline}", *headings]]
    for arm, found in arms.items():
        means.append([arm, *(str(estimate([found[s][name] for s in seeds])) for name in names)])
        if arm != baseline:
            paired = [estimate([found[s][name] - arms[baseline][s][name] for s in seeds]) for name in names]
            differences.append([arm, *(f"{e} *" if clear(e) else str(e) for e in paired)])
    if study.chances.keys() & set(names):
        means.append(["chance", *(f"{study.chances[name]:.1f}" if name in study.chances else "-" for name in names)])
    shown_unit = {"%": "percent", None: "each in its unit"}.get(unit, unit)
    about = [
        f"{len(seeds)} seeds ({', '.join(seeds)})",
        shown_unit,
        "mean ± 95 % interval by Student's t; * = excludes 0",
    ]
    head = ", ".join(filter(None, about))
    return "\n".join([head, "", *aligned(means), "", *aligned(differences)])


def clear(difference: Estimate) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    return difference.half_width is not None and abs(difference.mean) > difference.half_width
