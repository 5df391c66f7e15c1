"""Predictions of a test set -> the file that its evaluation server takes, checked as the server would.

GLUE (gluebenchmark.com) takes a zip of tables `index<TAB>prediction`, one a task, named as `FORMS` says; tasks that
this toolkit has no model for must be there too, as its sample submission has them. VQA's server takes one JSON list of
{"question_id", "answer"}.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import NonEmpty, Record, problem
from unimo.storage.atomic import atomic_write
from unimo.storage.encodings import text_of

INFERENCE = ("entailment", "neutral", "contradiction")


class Prediction(Record):
    """An entry of predictions.json, as far as a server asks for it."""

    id: NonEmpty
    prediction: str | float


class Answered(Record):
    """An entry of the file for VQA's server."""

    question_id: int
    answer: NonEmpty


R = TypeVar("R", Prediction, Answered)


@dataclass(frozen=True)
class Form:
    """What a server takes of a set: the file's name, how many predictions in all, and how a class is written."""

    file: str
    counts: tuple[int, ...]  # of the test set; VQA: of test-std, which is the whole one, and of test-dev
    spelt: Callable[[str | float], str]  # raises ValueError for what is no answer

    @property
    def is_table(self) -> bool:
        """Whether it is one of GLUE's."""
        return self.file.endswith(".tsv")


def _as_number(classes: Sequence[str]) -> Callable[[str | float], str]:
    return lambda said: str(list(classes).index(str(said)))


def _as_name(classes: Sequence[str]) -> Callable[[str | float], str]:
    return lambda said: classes[list(classes).index(str(said))]


def _score(said: str | float) -> str:
    return f"{min(5.0, max(0.0, float(said))):.3f}"  # a regression may leave the scale


def _answer(said: str | float) -> str:
    if not str(said).strip():
        raise ValueError("blank")
    return str(said)


# Counts as data_prep/benchmarks has them, of the downloads.
FORMS = {
    "sst-2": Form("SST-2.tsv", (1_821,), _as_number(("negative", "positive"))),
    "cola": Form("CoLA.tsv", (1_063,), _as_number(("unacceptable", "acceptable"))),
    "mnli-m": Form("MNLI-m.tsv", (9_796,), _as_name(INFERENCE)),
    "mnli-mm": Form("MNLI-mm.tsv", (9_847,), _as_name(INFERENCE)),
    "ax": Form("AX.tsv", (1_104,), _as_name(INFERENCE)),
    "sts-b": Form("STS-B.tsv", (1_379,), _score),
    "vqa": Form("vqa_OpenEnded_mscoco_test2015_results.json", (447_793, 107_394), _answer),
}


def write_submission(name: str, predictions: Path, folder: Path) -> Path:
    """Write the server's file of a set (a key of FORMS) into a folder, and return its path.

    Args:
        predictions: predictions.json of an evaluation of the whole test set, in its order.

    Raises:
        ConfigError: no such set.
        DataError: it is no such file, has another number of predictions than the test set, a repeated id, or one
            that the server does not know; nothing is written then.
    """
    if name not in FORMS:
        raise ConfigError(f"no set {name!r}; there are {', '.join(FORMS)}")
    form, said = FORMS[name], _read(predictions)
    if len(said) not in form.counts:
        expected = " or ".join(f"{count:,}" for count in form.counts)
        raise DataError(
            f"{predictions}: {len(said):,} predictions, {name}'s test set has {expected}; predict all of it"
        )
    rows = []
    for place, entry in enumerate(said):
        try:
            rows.append((entry.id, form.spelt(entry.prediction)))
        except ValueError:
            raise DataError(
                f"{predictions}: entry {place}, id {entry.id!r}: {entry.prediction!r} is no answer of {name}"
            ) from None
    path = folder / form.file
    content = _table(predictions, rows) if form.is_table else _list(predictions, rows)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content.encode())
    check_submission(name, path)
    return path


def _read(path: Path) -> list[Prediction]:
    found = _listed(path, Prediction)
    if len({entry.id for entry in found}) < len(found):
        raise DataError(f"{path}: an id is there twice; predict each example once")
    return found


def _listed(path: Path, entry: type[R]) -> list[R]:
    """The entries of a JSON list. Raises DataError for a file that is none."""
    try:
        return TypeAdapter(list[entry]).validate_json(path.read_bytes())  # type: ignore[valid-type]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        raise DataError(f"{path}: {problem(error.errors(include_url=False)[0])}; expected a JSON list") from error


def _table(source: Path, rows: Sequence[tuple[str, str]]) -> str:
    """GLUE numbers the examples of a test set from 0 in its order, which their ids `test:N` tell, too."""
    for place, (number, _) in enumerate(rows):
        if number.rpartition(":")[2] != str(place):
            raise DataError(
                f"{source}: entry {place} has the id {number!r}, expected test:{place}; keep the set's order"
            )
    return "index\tprediction\n" + "".join(f"{place}\t{said}\n" for place, (_, said) in enumerate(rows))


def _list(source: Path, rows: Sequence[tuple[str, str]]) -> str:
    strange = [number for number, _ in rows if not number.isdecimal()]
    if strange:
        raise DataError(f"{source}: id {strange[0]!r} is no number of a question; keep the ids of the examples")
    return json.dumps([{"question_id": int(number), "answer": said} for number, said in rows])


def check_submission(name: str, path: Path) -> int:
    """Read a server's file again as the server would. Returns how many predictions it holds.

    Raises:
        DataError: a line or entry that is none, another number of them, or an answer that is none of the set's.
    """
    form = FORMS[name]
    said = _of_table(path) if form.is_table else _of_list(path)
    if len(said) not in form.counts:
        raise DataError(f"{path}: {len(said):,} predictions, expected {' or '.join(map(str, form.counts))}")
    spelt = _written(name)
    for place, answer in enumerate(said):
        if not spelt(answer):
            raise DataError(f"{path}: prediction {place} is {answer!r}, which is no answer of {name}")
    return len(said)


def _written(name: str) -> Callable[[str], bool]:
    """Whether a text is an answer as the set's file spells it."""
    if name in ("sst-2", "cola"):
        return lambda said: said in ("0", "1")
    if name == "sts-b":
        return lambda said: said.replace(".", "", 1).isdecimal() and float(said) <= 5
    return lambda said: said in INFERENCE if name != "vqa" else bool(said.strip())


def _of_table(path: Path) -> list[str]:
    try:
        head, *lines = text_of(path.read_bytes()).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if head != "index\tprediction":
        raise DataError(f"{path}: the first line is {head[:60]!r}, expected 'index<TAB>prediction'")
    found = []
    for place, line in enumerate(lines):
        number, tab, said = line.partition("\t")
        if not tab or number != str(place):
            raise DataError(f"{path}:{place + 2}: {line[:60]!r}, expected '{place}<TAB>prediction'")
        found.append(said)
    return found


def _of_list(path: Path) -> list[str]:
    found = _listed(path, Answered)
    if len({entry.question_id for entry in found}) < len(found):
        raise DataError(f"{path}: a question is answered twice")
    return [entry.answer for entry in found]
