"""Which characters of a caption a scene graph names, and which of them a negative changed."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

from pydantic import Field, ValidationError

from unimo.readers.annotations import Negative, Record
from unimo.readers.scene_graphs import Kind, SceneGraph
from unimo.report.word_diff import word_diff

Part = tuple[Literal["same", "gone", "new"], str]


def highlighted(caption: str, graph: SceneGraph) -> list[tuple[str, Kind | None, str]]:
    """Runs of characters with the kind and title of the node that they belong to; together they are the caption.

    Where nodes lie in one another the shorter one shows.
    """
    spans = [(node.span[0], node.span[1], kind, node.title) for kind, node in graph.nodes() if node.span]
    owner: list[int | None] = [None] * len(caption)
    for number in sorted(range(len(spans)), key=lambda n: spans[n][0] - spans[n][1]):
        for place in range(max(0, spans[number][0]), min(spans[number][1], len(caption))):
            owner[place] = number
    runs = (
        (number, "".join(caption[i] for i in places))
        for number, places in groupby(range(len(caption)), owner.__getitem__)
    )
    return [(text, None, "") if number is None else (text, *spans[number][2:]) for number, text in runs]


class Change(Record):
    """Characters [start, end) of a caption, `old`, replaced by `new`."""

    old: str = Field(alias="from")
    new: str = Field(alias="to")
    span: list[int] = Field(min_length=2, max_length=2)


class _Changed(Record):
    changes: list[Change] = []


def changed(caption: str, negative: Negative) -> tuple[list[Part], bool]:
    """The negative in parts: `same` and `gone` together read as the caption, `same` and `new` as the negative.

    The second value is False where the record says what it changed and this does not give its text; the parts are
    then found by comparing words, as they are, too, where it says nothing.
    """
    extra = negative.model_extra or {}
    claimed = "span" in extra or "changes" in extra
    parts = _replaced(caption, _changes(extra)) if claimed else []
    if parts and _read(parts, "new") == negative.text:
        return parts, True
    parts = []
    for part in word_diff(caption, negative.text):
        parts += [("same", " "), part] if parts else [part]
    return parts, not claimed


def _changes(extra: dict) -> list[Change]:
    """The first change, which stands in the record itself, and further ones; in order of place, each place once."""
    try:
        changes = [Change.model_validate(extra)] if "span" in extra else []
        changes += _Changed.model_validate(extra).changes
    except ValidationError:
        return []
    places = {tuple(change.span): change for change in changes}
    return [places[place] for place in sorted(places)]


def _replaced(caption: str, changes: Sequence[Change]) -> list[Part]:
    """The caption with the changes made; nothing if they overlap or are not of this caption."""
    parts: list[Part] = []
    done = 0
    for change in changes:
        start, end = change.span
        if not done <= start <= end <= len(caption) or caption[start:end] != change.old:
            return []
        parts += [("same", caption[done:start]), ("gone", change.old), ("new", change.new)]
        done = end
    return [part for part in (*parts, ("same", caption[done:])) if part[1]]


def _read(parts: Iterable[Part], kind: Literal["gone", "new"]) -> str:
    return "".join(text for part, text in parts if part in ("same", kind))
