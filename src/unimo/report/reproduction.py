"""Every number of the papers' tables, and beside it what those runs below a folder measured that name its row.

A run joins a number by the table, row, dataset and mode of its `paper` block, by its split and by the name of a metric;
a row that several tables print (`unimo.paper.printing`) by any of them. Several runs that join one number are its
seeds. Rows of other systems, which the papers quote, are joined by none.
"""

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from unimo.config import Paper
from unimo.console import printable
from unimo.errors import DataError
from unimo.paper import Certainty, Number, join, printed, printing, tables
from unimo.report.row_recipes import Recipe, recipes
from unimo.report.run_folder import Metrics, read_metrics


@dataclass(frozen=True)
class Run:
    """A result that names a row of the papers."""

    name: str  # of its folder, from the folder that was searched
    paper: Paper
    metrics: Metrics

    @property
    def seed(self) -> int | None:
        """Of its training; None where it does not say one, as an evaluation without training."""
        seed = (self.metrics.model_extra or {}).get("seed")
        return seed if type(seed) is int else None

    @property
    def command(self) -> str | None:
        """The command line that made it, as it was recorded."""
        command = self.metrics.provenance.get("command")
        return None if command is None else printable(str(command))

    def joins(self, tables: Collection[str], number: Number) -> bool:
        """Whether one of its metrics is to stand beside the number, which those tables print."""
        paper, keys = self.paper, (number.row, number.dataset, number.mode)
        named = paper.table in tables and (paper.row, paper.dataset, paper.mode) == keys
        return named and number.is_of(self.metrics.split) and number.key in self.metrics.metrics

    def value(self, number: Number) -> float:
        """What it measured of a number that it joins; of one that is chosen by itself the highest on the way."""
        highest = self.metrics.highest_on_the_way.get(number.key) if number.chosen_by_itself else None
        return (highest or self.metrics.metrics[number.key]).value

    def __str__(self) -> str:
        seed = None if self.seed is None else f"seed {self.seed}"
        return ", ".join(filter(None, [self.name, seed, printable(self.metrics.title)]))


@dataclass(frozen=True)
class Line:
    """A published number with what is ours beside it."""

    table: str
    number: Number
    printed: str  # as the paper prints it
    certainty: Certainty  # its own, else the table's
    recipes: list[Recipe]  # that make its row; of a row of ours
    runs: list[Run]  # that join it, by seed

    @property
    def reproduced(self) -> bool:
        """Whether its row is of one of the three systems, so that a run may join it."""
        return self.number.role != "baseline"

    @property
    def mean(self) -> float | None:
        """Of our runs; None where there is none."""
        return mean(run.value(self.number) for run in self.runs) if self.runs else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over our runs; None where there are fewer than two."""
        return stdev(run.value(self.number) for run in self.runs) if len(self.runs) > 1 else None

    @property
    def difference(self) -> float | None:
        """The mean of ours minus the published number."""
        return None if self.mean is None else self.mean - self.number.value


@dataclass(frozen=True)
class Reproduction:
    """All published numbers, in the order of their file, and the runs below a folder."""

    folders: Sequence[Path]
    lines: list[Line]
    runs: list[Run]  # that name a row

    @property
    def beside_none(self) -> list[Run]:
        """The runs that name a row and join no number of it."""
        joined = {run.name for line in self.lines for run in line.runs}
        return [run for run in self.runs if run.name not in joined]


def read_reproduction(*folders: Path) -> Reproduction:
    """Join the results of all folders at and below `folders` that name a row of the papers; links are not followed.

    Raises:
        DataError: one is no folder, a folder or metrics.json below it cannot be read, or runs that cannot stand beside
            a number: another unit, no finite value, two of one seed or without one, or other data; all are named.
        ConfigError: a recipe that is wrong.
    """
    runs, made_by = [run for folder in folders for run in _runs_below(folder, len(folders) > 1)], recipes()
    lines, problems = [], []
    for name, table in tables().items():
        for number, text in zip(table.entries, printed()[name], strict=True):
            own = number.role != "baseline"
            names = printing(name, number)
            joined = [run for run in runs if own and run.joins(names, number)]
            problems += _problems(names[0], number, joined)
            lines.append(
                Line(
                    table=name,
                    number=number,
                    printed=text,
                    certainty=number.certainty or table.certainty,
                    recipes=[recipe for recipe in made_by if own and recipe.makes(names, number)],
                    runs=sorted(joined, key=lambda run: -1 if run.seed is None else run.seed),
                )
            )
    if problems:
        below = " and ".join(map(str, folders))
        head = f"runs below {below} cannot stand beside the papers' numbers; mend them or keep them elsewhere"
        raise DataError("\n  - ".join([head, *dict.fromkeys(problems)]))
    return Reproduction(folders, lines, runs)


def _runs_below(folder: Path, one_of_several: bool) -> list[Run]:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give one that holds run folders, at any depth")
    found = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        metrics = read_metrics(Path(place)) if "metrics.json" in files else None
        if metrics and metrics.paper:
            name = place if one_of_several else str(Path(place).relative_to(folder))
            found.append(Run(printable(name), metrics.paper, metrics))
    return found


def _refuse(error: OSError) -> None:
    raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


def _problems(table: str, number: Number, runs: Sequence[Run]) -> list[str]:
    """Why runs cannot stand beside the number that they join, or cannot be its seeds."""
    place = f"{table}, {number.row}, {number.dataset}, {number.mode}, {number.split}"
    found = []
    for run in runs:
        metric = run.metrics.metrics[number.key]
        if metric.unit != number.unit:
            unit = printable(metric.unit)
            found.append(f"{run.name}: {number.key} is in {unit!r}, the number of {place} in {number.unit!r}")
        if not math.isfinite(metric.value):
            found.append(f"{run.name}: {number.key} is {metric.value}")
    if len(runs) < 2:
        return found
    by_seed = _grouped(runs, lambda run: run.seed)
    alike = {seed: ", ".join(names) for seed, names in by_seed.items() if len(names) > 1 or seed is None}
    for seed, names in alike.items():
        said = "no seed, where several runs are of one number" if seed is None else f"one seed, {seed}"
        found.append(f"{names}: {said} ({place})")
    data = _grouped(runs, lambda run: (run.metrics.title, *run.metrics.hashes.items()))
    if len(data) > 1:
        found.append(f"{' | '.join(', '.join(names) for names in data.values())}: evaluated on other data ({place})")
    return found


def _grouped(runs: Sequence[Run], key: Any) -> dict[Any, list[str]]:
    groups: dict[Any, list[str]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run.name)
    return groups


def unjoined(run: Run) -> str:
    """A run that names a row and stands beside no number, for people."""
    named = ", ".join(f"{key} {value}" for key, value in join(run.paper).items())
    measured = ", ".join(run.metrics.metrics) or "nothing"
    return printable(f"{named}, split {run.metrics.split}; it measured {measured}")
