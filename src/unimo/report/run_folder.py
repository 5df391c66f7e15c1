"""What a run folder holds, read and checked. Every file may be missing: a pre-training run has no gallery."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    ConfigDict,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from unimo.config import Paper
from unimo.errors import DataError
from unimo.evaluate.results import Difference, Metric
from unimo.readers.annotations import SHOWN, Negatives, Positives, Record, problem
from unimo.storage.locks import held

FILES = ("config.yaml", "log.jsonl", "state.json", "metrics.json", "gallery.json", "codes.json")


class Means(Record):
    """Of some updates."""

    losses: dict[str, float] = {}  # objective -> mean over its items
    total: float | None = None
    grad_norm: float | None = None
    items_per_s: float | None = None


class LogRecord(Means):
    """A line of log.jsonl: means of the updates since the last one (`losses`), or an evaluation (`metrics`)."""

    step: int
    stream: str = ""  # of the one update that earlier versions logged
    streams: dict[str, Means] = {}  # the updates of each stream alone
    lr: float | None = None
    observed: dict[str, float] = {}  # what the task says of itself
    metrics: dict[str, float] = {}
    metric: str | None = None  # the one that checkpoints are chosen by
    best: bool = False  # of the evaluations so far


class State(Record):
    """What state.json says: how the run stands."""

    status: str
    exit_code: int | None = None
    message: str = ""


class Highest(Record):
    """The best that a metric was in any evaluation on the way."""

    value: FiniteFloat
    step: NonNegativeInt


class Metrics(Record):
    """What metrics.json holds: a task's metrics on one split; further keys (model, seed) are shown as provenance."""

    model_config = ConfigDict(extra="allow")
    task: str
    label: str
    split: str
    captions: int | None = None
    images: int | None = None
    items: str | None = None  # what was evaluated, as "872 sentences"
    seen: str | None = None  # what the model was trained on
    metrics: dict[str, Metric]
    differences: list[Difference] = []
    paper: Paper | None = None  # where the paper's numbers are
    highest_on_the_way: dict[str, Highest] = {}  # on dev, of each metric by itself
    provenance: dict[str, Any] = {}

    @field_validator("metrics", mode="before")
    @classmethod
    def _in_percent(cls, found: Any) -> Any:
        """Files of before metrics had units hold recalls as fractions of 1."""
        if not isinstance(found, dict):
            return found
        return {name: _percent(m) if isinstance(m, dict) and "unit" not in m else m for name, m in found.items()}

    @property
    def hashes(self) -> dict[str, str]:
        """Of the files that were evaluated on, by key; empty where the file does not say."""
        data = (self.model_extra or {}).get("data")
        return {key: str(data[key]) for key in sorted(data) if key.endswith("sha256")} if isinstance(data, dict) else {}

    @property
    def title(self) -> str:
        """What was evaluated, for people."""
        pictures = f"{self.captions} captions of {self.images} images" if self.captions and self.images else None
        return ", ".join(filter(None, [f"{self.split} split", self.items or pictures]))


def _percent(fractions: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: 100 * v for key, v in fractions.items() if isinstance(v, float | int) and key != "n"}
    return fractions | numbers | {"unit": "%"}


class RankedImage(Record):
    """An image that a caption found; paths are relative to the gallery's folder, or absolute."""

    image_id: str
    image: str
    score: float
    hit: bool


class RankedCaption(Record):
    """A caption with its own image and the images found for it, best first."""

    caption_id: str
    caption: str
    image_id: str
    image: str
    top: list[RankedImage]


class RewrittenCaption(Record):
    """A caption with its X+ and X-."""

    caption_id: str | None = None  # of its scores among the candidates
    caption: str
    positives: Positives
    negatives: Negatives


class Gallery(Record):
    """What gallery.json holds: what a person wants to look at. `candidates`: kind -> caption id -> match scores."""

    captions: list[RankedCaption] = []
    candidates: dict[str, dict[str, list[FiniteFloat]]] = {}
    rewrites: list[RewrittenCaption] = []


class Shown(Record):
    """A picture; the path is relative to the folder of the file, or absolute."""

    image_id: str
    image: str


class NearPatch(Shown):
    """A picture's patch by its number, row by row."""

    patch: NonNegativeInt


class Code(Record):
    """A code: the share of pictures and captions that choose it alone, in percent, and what comes nearest to it."""

    code: int
    pictures: FiniteFloat
    captions: FiniteFloat
    patches: list[NearPatch]
    words: list[str]


class HeatMap(Record):
    """How close a pair's patches and words are to a code, 0 to 1."""

    code: int
    patches: list[FiniteFloat]
    words: list[FiniteFloat]


class MappedPair(Shown):
    """A picture and a caption with their heat-maps."""

    caption: str
    words: list[str]
    maps: list[HeatMap]


class Codes(Record):
    """What codes.json holds: the most used codes of a dictionary, and pairs with heat-maps of theirs."""

    image_size: PositiveInt  # pixels of a picture's side
    patch: PositiveInt  # of a patch's
    shift: NonNegativeInt  # pixels of the first patch that lie outside the picture
    codes: list[Code]
    pairs: list[MappedPair]

    @property
    def grid(self) -> int:
        """Patches of a side."""
        return (self.image_size + 2 * self.shift - self.patch) // self.patch + 1

    @model_validator(mode="after")
    def _on_the_grid(self) -> "Codes":
        patches = self.grid**2
        if any(near.patch >= patches for code in self.codes for near in code.patches):
            raise ValueError(f"a patch's number is beyond the {patches} patches of a picture")
        for pair in self.pairs:
            if any(len(one.patches) != patches or len(one.words) != len(pair.words) for one in pair.maps):
                raise ValueError(f"a heat-map needs {patches} patches and a value for each word")
        return self


@dataclass(frozen=True)
class RunFolder:
    """A run with what its folder holds; None or empty where there is no file."""

    path: Path
    name: str  # short, unique among the runs of a report
    config: str | None
    log: list[LogRecord]
    state: State | None
    metrics: Metrics | None
    gallery: Gallery | None
    codes: Codes | None

    @property
    def updates(self) -> list[LogRecord]:
        """The log's means of updates, each of one stream."""
        found = []
        for record in self.log:
            parts = [record.model_copy(update={"stream": name, **dict(part)}) for name, part in record.streams.items()]
            found += parts or ([record] if record.losses else [])
        return found

    @property
    def observed(self) -> list[LogRecord]:
        """The records in which the task says something of itself."""
        return [record for record in self.log if record.observed]

    @property
    def evaluations(self) -> list[LogRecord]:
        """The log's evaluations on the way."""
        return [record for record in self.log if record.metrics]

    @property
    def taken(self) -> LogRecord | None:
        """The evaluation whose checkpoint is the run's best."""
        return next((record for record in reversed(self.evaluations) if record.best), None)


def open_runs(paths: Sequence[Path]) -> list[RunFolder]:
    """Read run folders, in the order given.

    Raises:
        DataError: a folder that is none or holds no file of a run, or a file that is not what the engine writes.
    """
    return [_open(path, name) for path, name in zip(paths, _names(paths))]


def _open(path: Path, name: str) -> RunFolder:
    if not any((path / file).is_file() for file in FILES):
        reason = "holds none of the files of a run" if path.is_dir() else "is not a folder"
        raise DataError(f"{path} {reason}; looked for {', '.join(FILES)}. Give the folder after a command's --output")
    config = _content(path / "config.yaml")
    return RunFolder(
        path=path,
        name=name,
        config=None if config is None else config.decode("utf-8", errors="replace"),
        log=_read_log(path / "log.jsonl"),
        state=_state(path),
        metrics=read_metrics(path),
        gallery=_read(path / "gallery.json", Gallery),
        codes=_read(path / "codes.json", Codes),
    )


def read_metrics(path: Path) -> Metrics | None:
    """The results alone of a folder; None where it has none.

    Raises:
        DataError: metrics.json cannot be read, or is not what an evaluation writes.
    """
    return _read(path / "metrics.json", Metrics)


def _state(path: Path) -> State | None:
    """How the run stands. One that nobody holds does not go on, whatever it last said: a kill leaves no time to say."""
    state = _read(path / "state.json", State)
    if state and state.status == "running" and not held(path):
        return State(status="killed", message="it ended without a word; the same command goes on")
    return state


def _names(paths: Sequence[Path]) -> list[str]:
    """Each path from the folder that all have in common: the shortest names that differ."""
    folders = [path.resolve() for path in paths]
    common = Path(os.path.commonpath(folders))
    return [folder.name if folder == common else str(folder.relative_to(common)) for folder in folders]


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


R = TypeVar("R", bound=Record)


def _read(path: Path, schema: type[R]) -> R | None:
    content = _content(path)
    if content is None:
        return None
    try:
        return schema.model_validate_json(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
        shown = "".join(f"\n  - {problem(e)}" for e in found[:SHOWN])
        raise DataError(
            f"{path}: {len(found)} problem(s); write it again with the command that made it{shown}"
        ) from None


def _read_log(path: Path) -> list[LogRecord]:
    """Records of a log. A last line without its line end is left out: the run is still writing it, or was killed."""
    records = []
    for number, line in enumerate((_content(path) or b"").split(b"\n")[:-1], start=1):
        try:
            records.append(LogRecord.model_validate_json(line))
        except ValidationError as error:
            wrong = "; ".join(problem(e) for e in error.errors(include_url=False))
            raise DataError(f"{path} line {number}: {wrong}; remove the line") from None
    return records
