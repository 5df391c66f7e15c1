"""The list of answers that a classifier of VQA chooses from: one a line, the place of a line being the class."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write
from unimo.storage.encodings import text_of


def most_given(given: Counter[str], mentions: int) -> list[str]:
    """The answers given at least so often, the most frequent first and equally frequent ones in alphabetical order.

    Ours is the order. One of which normalisation leaves nothing, such as "a", is not in the list.

    Raises:
        DataError: no answer is given so often.
    """
    found = sorted((answer for answer, n in given.items() if n >= mentions and answer), key=lambda a: (-given[a], a))
    if given and not found:
        raise DataError(
            f"no answer is given {mentions} times, the most frequent one {max(given.values())} times; "
            "choose a lower --mentions, or name a list by --answers"
        )
    return found


def read_answers(path: Path) -> list[str]:
    """A published list: a line each, a JSON array, or a JSON object of answer -> class as in `ans2label.json`.

    Raises:
        DataError: none of these, or a list with a blank or repeated answer.
    """
    try:
        text = text_of(path.read_bytes())
        values = json.loads(text) if text.lstrip()[:1] in ("[", "{") else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no list of answers: {error}") from error
    if isinstance(values, dict):
        if sorted(values.values(), key=repr) != sorted(range(len(values)), key=repr):
            raise DataError(f"{path}: classes must be the numbers 0 to {len(values) - 1}, each once")
        values = sorted(values, key=values.__getitem__)
    if not all(isinstance(answer, str) and answer.strip() for answer in values) or not values:
        raise DataError(f"{path}: expected a text as each answer, got an empty list, a blank line or something else")
    if twice := [answer for answer, n in Counter(values).items() if n > 1]:
        raise DataError(f"{path} has {len(twice)} answers twice, such as {twice[0]!r}; each must be one class")
    return values


def write_answers(path: Path, answers: Sequence[str]) -> int:
    """Write a list, one answer a line. Returns their number."""
    with atomic_write(path) as file:
        file.writelines(f"{answer}\n".encode() for answer in answers)
    return len(answers)
