"""One result for every task: metrics in the paper's unit with intervals, differences to earlier results, the files.

`items.json` keeps what each unit (an image, a sentence) adds to each metric, so that a later evaluation of the same
units can be paired with this one: a paired difference is far sharper than two intervals side by side.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from pydantic import ValidationError

from unimo.config import Paper
from unimo.errors import DataError, NonFiniteError
from unimo.paper import numbers
from unimo.provenance import provenance
from unimo.readers.annotations import Record, problem
from unimo.storage.atomic import atomic_write

if TYPE_CHECKING:  # a report reads results without loading Paddle
    from paddle import nn

    from unimo.engine.distributed import World

ITEMS = "items.json"
QUANTILES = (0.025, 0.975)  # 95 %
BLOCK = 1 << 22  # drawn units that are in memory at a time


@dataclass(frozen=True)
class Metric:
    """A metric in the paper's unit, with what it must be read against."""

    value: float
    unit: str  # "%", or a name such as "points" (CIDEr x 100)
    low: float | None = None  # 95 % bootstrap interval
    high: float | None = None
    chance: float | None = None
    n: int | None = None  # items behind it


@dataclass(frozen=True, eq=False)
class Sample:
    """A metric as sum(values) / sum(weights) over units that are drawn whole: an image with its captions, a sentence.

    Raises:
        DataError: no units, arrays of other shapes, or a weight that is not above 0. NonFiniteError: inf or nan.
    """

    values: np.ndarray  # [units] float64
    weights: np.ndarray  # [units] float64

    def __post_init__(self) -> None:
        for name in ("values", "weights"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        shapes = self.values.shape, self.weights.shape
        if self.values.ndim != 1 or shapes[0] != shapes[1] or not len(self.values):
            raise DataError(
                f"a sample needs a value and a weight for each of its units, got {shapes[0]} and {shapes[1]}"
            )
        if not (np.isfinite(self.values).all() and np.isfinite(self.weights).all()):
            raise NonFiniteError("a metric's values hold inf or nan")
        if (self.weights <= 0).any():
            raise DataError("weights must be above 0; leave out units that do not count")

    @property
    def ratio(self) -> float:
        """The metric, before any unit."""
        return float(self.values.sum() / self.weights.sum())

    def resampled(self, bootstrap: int, seed: int) -> np.ndarray:
        """The metric of each of `bootstrap` draws of the units; equal seeds draw equal units. [bootstrap]"""
        units, rng = len(self.values), np.random.default_rng(seed)
        sizes = [min(BLOCK // units + 1, bootstrap - start) for start in range(0, bootstrap, BLOCK // units + 1)]
        blocks = (rng.integers(units, size=(size, units)) for size in sizes)
        return np.concatenate([self.values[drawn].sum(1) / self.weights[drawn].sum(1) for drawn in blocks])


class Measured(NamedTuple):
    """What an evaluation found."""

    metrics: dict[str, Metric]
    samples: dict[str, Sample]  # of those that are ratios over units
    values: dict[str, float]  # plain, of all that is measured: for the log of a run and its best checkpoint
    shown: Callable[[], dict[str, Any]] = dict  # makes further files for people: name -> json content
    facts: Mapping[str, Any] = {}  # of metrics.json: how it was measured


class Evaluator(Protocol):
    """One split of a task, opened once: a pass over it may come again and again while a model is trained."""

    best: str  # of the measures: what checkpoints are chosen by, where the recipe does not say; the highest is the best

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of metrics.json: split, counts, data."""
        ...

    @property
    def units(self) -> Sequence[str]:
        """Ids of what is resampled: images, sentences."""
        ...

    @property
    def measures(self) -> Sequence[str]:
        """Names of all values."""
        ...

    def measure(self, model: "nn.Layer", world: "World") -> Measured:
        """Evaluate the model. All processes call it, share the work and get the same numbers."""
        ...

    def plan(self, model: "nn.Layer") -> str:
        """What it will cost, for people."""
        ...


@dataclass(frozen=True)
class Difference:
    """A metric minus that of an earlier result on the same units, in the metric's unit, with its 95 % interval."""

    to: str  # the earlier result's label
    metric: str
    value: float
    low: float
    high: float

    @property
    def edges(self) -> str:
        """Value and interval, with a mark where the interval excludes 0."""
        beyond = " *" if self.low > 0 or self.high < 0 else ""
        return f"{self.value:+.1f} [{self.low:.1f}, {self.high:.1f}]{beyond}"

    def __str__(self) -> str:
        return f"{self.metric} {self.edges}"


class Item(Record):
    """A metric in items.json with its sample."""

    unit: str
    value: float  # in the unit
    values: list[float]
    weights: list[float]

    @classmethod
    def of(cls, metric: Metric, sample: Sample) -> "Item":
        """A metric with the sample that it was measured on."""
        lists = {"values": sample.values.tolist(), "weights": sample.weights.tolist()}
        return cls(unit=metric.unit, value=metric.value, **lists)

    @property
    def sample(self) -> Sample:
        """The two lists as arrays again, for resampling."""
        return Sample(np.array(self.values), np.array(self.weights))


class Items(Record):
    """What items.json holds: every unit's share in each metric, for later comparisons."""

    task: str
    split: str | None
    label: str | None
    data: dict[str, Any]
    units: list[str]  # ids, in the order of values and weights
    samples: dict[str, Item]

    @classmethod
    def of(cls, task: str, facts: Mapping[str, Any], units: Sequence[str], samples: Mapping[str, Item]) -> "Items":
        """The items of a result; `facts` may have its split, label and data hashes."""
        return cls(
            task=task,
            split=facts.get("split"),
            label=facts.get("label"),
            data=dict(facts.get("data") or {}),
            units=list(units),
            samples=dict(samples),
        )


def measure(
    sample: Sample,
    unit: str = "%",
    scale: float = 100.0,
    chance: float | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Metric:
    """The metric of a sample with its bootstrap interval over units.

    Args:
        scale: turns the sample's ratio into the unit.
        chance: as the ratio, before `scale`.
        bootstrap: draws of the units behind the interval.
    """
    low, high = (scale * float(edge) for edge in np.quantile(sample.resampled(bootstrap, seed), QUANTILES))
    chance = None if chance is None else scale * float(chance)
    return Metric(scale * sample.ratio, unit, low, high, chance, round(float(sample.weights.sum())))


def difference(
    ours: Sample, theirs: Sample, scale: float = 100.0, bootstrap: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Ours minus theirs with the 95 % interval of the paired bootstrap: both see the same draws of the units.

    Raises:
        DataError: the samples have other numbers of units.
    """
    return mean_difference([(ours, theirs, scale)], bootstrap, seed)


def mean_difference(
    pairs: Sequence[tuple[Sample, Sample, float]], bootstrap: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """`difference` of the mean of several metrics, all seen by the same draws; (ours, theirs, scale) of each."""
    value, resampled = 0.0, np.zeros(bootstrap)
    for ours, theirs, scale in pairs:
        if len(ours.values) != len(theirs.values):
            raise DataError(f"samples of {len(ours.values)} and {len(theirs.values)} units cannot be paired")
        value += scale * (ours.ratio - theirs.ratio)
        resampled += scale * (ours.resampled(bootstrap, seed) - theirs.resampled(bootstrap, seed))
    low, high = np.quantile(resampled / len(pairs), QUANTILES)
    return value / len(pairs), float(low), float(high)


def write_result(
    output: Path,
    task: str,
    metrics: Mapping[str, Metric],
    facts: Mapping[str, Any],
    samples: Mapping[str, Sample] = {},
    units: Sequence[str] = (),
    shown: Mapping[str, Any] = {},
    against: Sequence[Path] = (),
) -> list[str]:
    """Write a result into the folder `output`, and return it as lines of text.

    Args:
        facts: what else metrics.json says: label, split, items ("872 sentences"), model, seen (what the model was
            trained on), seed, data, paper.
        samples: of the metrics that are ratios over units.
        units: ids of the units of all samples.
        shown: further files, name -> json content.
        against: folders of earlier results to compare with.

    Raises:
        DataError: a sample of other units than `units`, an earlier result that cannot be paired, or a file that
            cannot be written.
    """
    wrong = [name for name, sample in samples.items() if len(sample.values) != len(units)]
    if wrong:
        raise DataError(f"samples of {', '.join(wrong)}: not one value for each of {len(units)} units")
    ours = {name: Item.of(metrics[name], sample) for name, sample in samples.items()}
    earlier = earlier_results(against, task, facts, units)
    compared = [found for theirs in earlier for found in differences(ours, theirs)]
    output.mkdir(parents=True, exist_ok=True)
    for name, content in shown.items():
        _write(output / name, content)
    _write(output / ITEMS, Items.of(task, facts, units, ours).model_dump())
    described = {name: {key: v for key, v in asdict(m).items() if v is not None} for name, m in metrics.items()}
    written = {"task": task, **facts, "metrics": described, "differences": [asdict(d) for d in compared]}
    _write(output / "metrics.json", written | {"provenance": provenance()})
    paper = numbers(Paper(**facts["paper"]), facts.get("split")) if facts.get("paper") else {}
    lines = [line_of(name, metric, paper.get(name)) for name, metric in metrics.items()]
    return lines + [f"{facts.get('label', 'this')} minus {d.to}: {d}" for d in compared]


def line_of(name: str, metric: Metric, paper: float | None = None) -> str:
    """A metric for people: value, interval, chance, and the paper's number."""
    unit = metric.unit if metric.unit in ("", "%") else f" {metric.unit}"
    line = f"{name:<16} {metric.value:5.1f}{unit}"
    if metric.low is not None and metric.high is not None:
        line += f"  95 % interval {metric.low:5.1f}{unit} to {metric.high:5.1f}{unit}"
    if metric.chance is not None:
        line += f"  chance {metric.chance:5.1f}{unit}"
    return line + ("" if paper is None else f"  paper {paper:g}")


def earlier_results(folders: Sequence[Path], task: str, facts: Mapping[str, Any], units: Sequence[str]) -> list[Items]:
    """The items of earlier results that ours can be paired with; call it before a long evaluation, too.

    The label of one that could be mistaken for another, or for ours, is its folder.

    Raises:
        DataError: no or a broken items.json, or one of another task, split, data hash or of other units.
    """
    ours, found = Items.of(task, facts, units, {}), {folder: read_items(folder) for folder in folders}
    labels = [ours.label, *(theirs.label for theirs in found.values())]
    for folder, theirs in found.items():
        check_same_units(folder, ours, theirs)
        if theirs.label is None or labels.count(theirs.label) > 1:
            found[folder] = theirs.model_copy(update={"label": str(folder)})
    return list(found.values())


def read_items(folder: Path) -> Items:
    """What a result kept of its items, or a DataError: no or a broken items.json."""
    try:
        return Items.model_validate_json((folder / ITEMS).read_bytes())
    except OSError as error:
        reason = f"{folder} has no {ITEMS} to compare with ({error.strerror}); evaluate it again, which writes one"
    except ValidationError as error:
        wrong = "; ".join(problem(e) for e in error.errors(include_url=False)[:3])
        reason = f"{folder / ITEMS}: {wrong}; evaluate it again"
    raise DataError(reason)


def check_same_units(folder: Path, ours: Items, theirs: Items) -> None:
    """Raise a DataError that says why the result of `folder`, `theirs`, cannot be paired with ours, if it cannot."""
    wrong = [
        f"{key} {getattr(theirs, key)!r}, here {getattr(ours, key)!r}"
        for key in ("task", "split")
        if getattr(theirs, key) != getattr(ours, key)
    ]
    hashes = [key for key in ours.data if key.endswith("sha256") and key in theirs.data]
    wrong += [f"another file of the data ({key})" for key in hashes if ours.data[key] != theirs.data[key]]
    if not wrong and ours.units != theirs.units:
        places = zip_longest(theirs.units, ours.units)
        there, here = next((a, b) for a, b in places if a != b)
        wrong.append(f"other units: the first that differs is {there!r}, here {here!r}")
    if wrong:
        raise DataError(f"{folder} is not a result on the same items: {'; '.join(wrong)}")


def differences(ours: Mapping[str, Item], theirs: Items, mean: str | None = None) -> list[Difference]:
    """Of all metrics that both have in one unit.

    Args:
        mean: name of a further one, the mean of all, where that has a sense; left out where one of the two lacks some.
    """
    pairs = {}
    for name, item in ours.items():
        other = theirs.samples.get(name)
        if other and other.unit == item.unit:
            scales = [i.value / ratio for i in (item, other) if (ratio := i.sample.ratio)]
            pairs[name] = (item.sample, other.sample, scales[0] if scales else 1.0)  # 0 - 0 is 0 in any unit
    found = [Difference(str(theirs.label), name, *difference(*pair)) for name, pair in pairs.items()]
    if mean and pairs.keys() == ours.keys() == theirs.samples.keys():
        found.append(Difference(str(theirs.label), mean, *mean_difference(list(pairs.values()))))
    return found


def _write(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=None if path.name == ITEMS else 1, ensure_ascii=False).encode())
