"""A study: arms that differ in one thing, each trained with the same seeds -> means, spread, differences seed by seed.

The folder of a study holds ARM/SEED, each a run folder that was evaluated. A study over folds holds ARM/FOLD-SEED:
every fold has a gallery of its own, and runs of one fold are averaged before folds are compared.
"""

from collections.abc import Callable, Mapping, Sequence
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
Arms = dict[str, dict[str, Mapping[str, float]]]  # arm -> seed, or fold-seed -> measure -> value in its unit


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


def read_study(folder: Path, arms_wanted: Sequence[str] = (), seeds_wanted: Sequence[str] = ()) -> Study:
    """The measures of all runs of a study, or of those arms and seeds that are wanted.

    Raises:
        DataError: no runs, a run without metrics.json, arms of other seeds, or runs evaluated on other data; a wanted
            arm or seed that is not there.
    """
    paths = sorted(path for path in folder.glob("*/*") if path.is_dir())
    there = {path.parent.name for path in paths} | {path.name for path in paths}
    if absent := [name for name in (*arms_wanted, *seeds_wanted) if name not in there]:
        raise DataError(f"{folder} has no arm or seed {absent[0]!r}; it holds {', '.join(sorted(there)) or 'nothing'}")
    paths = [path for path in paths if path.parent.name in (arms_wanted or there)]
    paths = [path for path in paths if path.name in (seeds_wanted or there)]
    if not paths:
        raise DataError(f"{folder} holds no runs; a study is ARM/SEED, each the --output of an evaluation")
    runs = {path: run for path, run in zip(paths, open_runs(paths))}
    lacking = [str(path) for path, run in runs.items() if run.metrics is None]
    if lacking:
        raise DataError(f"not evaluated yet (no metrics.json): {', '.join(lacking)}")
    galleries: dict[str, set[tuple[str, str]]] = {}
    for path, run in runs.items():
        if run.metrics:
            galleries.setdefault(draw_of(path.name), set()).add((run.metrics.task, run.metrics.title))
    if not any("-" in path.name for path in paths):  # seeds alone: one gallery for all
        galleries = {"": set().union(*galleries.values())}
    differing = [sorted(shown) for shown in galleries.values() if len(shown) > 1]
    if differing:
        raise DataError(f"the runs of {folder} were evaluated on different data: {differing[0]}")
    arms: Arms = {}
    by_run: dict[str, list[float]] = {}
    units: dict[str, str] = {}
    for path, run in runs.items():
        arms.setdefault(path.parent.name, {})[path.name] = found = measures(run)
        units |= {shown: metric.unit for shown, metric in _compared(run).items()}
        for name, chance in _chances(run, found).items():
            by_run.setdefault(name, []).append(chance)
    chances = {name: mean(values) for name, values in by_run.items()}
    seeds = {arm: sorted(found) for arm, found in arms.items()}
    if len(set(map(tuple, seeds.values()))) > 1:
        raise DataError(f"every arm needs the same seeds, there are {seeds}; run those that are missing")
    return Study(arms, units, chances)


def measures(run: RunFolder) -> dict[str, float]:
    """The task's metrics of an evaluated run, and how often a caption scores above its rewritten copies, in percent.

    A tie counts half: a model that cannot tell them apart is at 50.
    """
    found = {shown: metric.value for shown, metric in _compared(run).items()}
    found |= _mean(run, lambda metric: metric.value)
    candidates = run.gallery.candidates if run.gallery else {}
    for kind in candidates:
        if kind not in POSITIVE_KINDS:
            found[SWAP + kind] = beats(candidates, kind)
    return found


def _chances(run: RunFolder, found: Mapping[str, float]) -> dict[str, float]:
    """What each measure is by chance, where that is known."""
    chances = {shown: m.chance for shown, m in _compared(run).items() if m.chance is not None}
    return chances | _mean(run, lambda metric: metric.chance) | {name: COIN for name in found if name.startswith(SWAP)}


def _mean(run: RunFolder, value: Callable[[Metric], float | None]) -> dict[str, float]:
    """The mean of all columns of the task's tables under its heading, where that has a sense and all are there."""
    assert run.metrics is not None
    metrics = run.metrics.metrics
    layout = layout_of(run.metrics.task, metrics)
    values = [value(metrics[n]) if n in metrics else None for columns in layout.blocks.values() for n in columns]
    there = [v for v in values if v is not None]
    return {layout.mean: mean(there)} if layout.mean and len(there) == len(values) else {}


def draw_of(seed: str) -> str:
    """What a run is an independent draw of: its fold, or where there are none its seed."""
    return seed.split("-")[0]


def _drawn(found: Mapping[str, float]) -> list[float]:
    """Seed -> value: the mean of each independent draw."""
    draws: dict[str, list[float]] = {}
    for seed, value in found.items():
        draws.setdefault(draw_of(seed), []).append(value)
    return [mean(values) for values in draws.values()]


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
        means.append([arm, *(str(estimate(_drawn({s: found[s][name] for s in seeds}))) for name in names)])
        if arm != baseline:
            apart = [{s: found[s][name] - arms[baseline][s][name] for s in seeds} for name in names]
            paired = [estimate(_drawn(differences_of)) for differences_of in apart]
            differences.append([arm, *(f"{e} *" if clear(e) else str(e) for e in paired)])
    if study.chances.keys() & set(names):
        means.append(["chance", *(f"{study.chances[name]:.1f}" if name in study.chances else "-" for name in names)])
    shown_unit = {"%": "percent", None: "each in its unit"}.get(unit, unit)
    folds = sorted({draw_of(seed) for seed in seeds})
    runs = f"{len(seeds)} seeds ({', '.join(seeds)})"
    about = [
        runs if folds == seeds else f"{len(folds)} folds, {len(seeds)} runs of each arm",
        shown_unit,
        "mean ± 95 % interval by Student's t; * = excludes 0",
    ]
    head = ", ".join(filter(None, about))
    return "\n".join([head, "", *aligned(means), "", *aligned(differences)])


def clear(difference: Estimate) -> bool:
    """Whether the interval of a difference lies on one side of 0."""
    return difference.half_width is not None and abs(difference.mean) > difference.half_width
