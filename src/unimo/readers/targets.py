"""What the examples of a benchmark are answered by: a class, a number, or a score of each of several answers."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from unimo.config import find
from unimo.errors import ConfigError, DataError
from unimo.readers.examples import Example
from unimo.storage.encodings import text_of

# class: one of the labels, by name. number: a value. answers: answer -> score in 0..1; what is no label scores nowhere.
Target = Literal["class", "number", "answers"]


def read_labels(given: Sequence[str], target: Target) -> tuple[str, ...]:
    """The labels in the order of a model's outputs: those given, or the lines of the one .txt file given.

    Raises:
        ConfigError: labels for a number, none for a class, fewer than two, or one twice.
        DataError: the file is no text.
    """
    if target == "number":
        if given:
            raise ConfigError("labels: a number has none; leave them out, or set target to class")
        return ()
    source, names = listed(given, "label")
    doubles = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if doubles or len(names) < 2:
        wrong = f"{doubles[0]!r} is there twice" if doubles else f"there are {len(names)}"
        raise ConfigError(f"{source}: {wrong}; expected at least two different labels, in the order of the outputs")
    return tuple(names)


def listed(given: Sequence[str], what: str) -> tuple[str, list[str]]:
    """Where some values are from, for people, and the values: those given, or the lines of the one .txt file given.

    Raises:
        DataError: the file is no text.
    """
    if len(given) != 1 or not given[0].endswith(".txt"):
        return f"{what}s", list(given)
    try:
        return given[0], [line.strip() for line in text_of(find(given[0]).read_bytes()).split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{given[0]} is no list of {what}s: {error}; expected text, one {what} a line") from error


class Targets:
    """The answers of some examples as arrays.

    Raises:
        DataError: an example without an answer, one of another kind than `target`, or a class that is no label; the
            first is named, with how many there are.
    """

    def __init__(self, examples: Sequence[Example], target: Target, labels: Sequence[str]):
        self.target, self.labels = target, labels
        places = {name: place for place, name in enumerate(labels)}
        wrong = [(example, reason) for example in examples if (reason := _wrong(example.target, target, places))]
        if wrong:
            example, reason = wrong[0]
            raise DataError(f"example {example.id!r} ({len(wrong):,} of {len(examples):,} like it): {reason}")
        self._given = [example.target for example in examples]
        self._places = places

    def __len__(self) -> int:
        return len(self._given)

    def scores(self, row: int) -> dict[str, float]:
        """The answers of one example with their scores."""
        given = self._given[row]
        assert isinstance(given, dict)
        return given

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Places of the classes int64 [n], numbers float32 [n], or scores of all labels float32 [n, labels]."""
        chosen = [self._given[row] for row in rows]
        if self.target == "class":
            return np.array([self._places[str(given)] for given in chosen], np.int64)
        if self.target == "number":
            return np.array(chosen, np.float32)
        found = np.zeros([len(chosen), len(self.labels)], np.float32)
        for row, given in zip(found, chosen):
            assert isinstance(given, dict)
            for answer, score in given.items():
                if answer in self._places:
                    row[self._places[answer]] = score
        return found


def _wrong(given: object, target: Target, places: dict[str, int]) -> str | None:
    """What is wrong with an answer; None where nothing is."""
    if given is None:
        return "it has no answer; a test set whose answers are not public can only be predicted"
    if target == "number":
        return None if isinstance(given, int | float) else f"its target is {given!r}, expected a number"
    if target == "answers":
        fits = isinstance(given, dict) and all(0 <= score <= 1 for score in given.values())
        return None if fits else f"its target is {given!r}, expected answers with scores from 0 to 1"
    if str(given) in places and not isinstance(given, float | dict):
        return None
    shown = ", ".join(list(places)[:5]) + (", ..." if len(places) > 5 else "")
    return f"its target is {given!r}, expected one of the {len(places)} labels {shown}"
