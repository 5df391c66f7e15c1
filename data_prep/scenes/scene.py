"""What a scene holds, drawn by chance, and whether a statement about it is true. Lengths are shares of the side.

Every pair of things stands in one of six relations, or in none where that would not be clear to the eye.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np

from unimo.errors import DataError

Relation = Literal["left", "right", "above", "below", "front", "behind"]
RELATIONS: tuple[Relation, ...] = ("left", "right", "above", "below", "front", "behind")
INVERSE: dict[Relation, Relation] = {
    "left": "right",
    "right": "left",
    "above": "below",
    "below": "above",
    "front": "behind",
    "behind": "front",
}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SIDES = {"small": (0.12, 0.15), None: (0.19, 0.23), "large": (0.3, 0.35)}  # roots of a thing's opaque area
LONGEST = 0.55  # at most of a thing's longer side
SIZED = (0.4, 2.5)  # heights over widths of things that may be called small or large
COUNTS = (0.15, 0.4, 0.3, 0.15)  # how often a scene has 1, 2, 3, 4 things
PLAIN, MEDIUM, TWINS = 0.25, 0.4, 0.2  # how often a thing has its own colour, no size to speak of; two of a kind
COVERED = (0.2, 0.5)  # share of what is seen of the thing behind that the one in front covers
GRID = 16  # cells a side in which a cut-out is measured
DOMINANT = 2.0  # so many times farther apart in one direction than in the other
SLIGHT = 1 / 3  # a direction in which two things are apart by less, to the other, may be denied
MARGIN = 0.02  # between boxes that do not overlap
TRIES = 2000  # of a scene
HELD_OUT = 10  # one in so many combinations is never seen in training


@dataclass(frozen=True, eq=False)
class Cutout:
    """A picture of a thing on a transparent ground, as far as places go."""

    name: str
    tall: float  # height over width
    mask: np.ndarray  # [GRID, GRID] float, how opaque each part is


Kinds = Mapping[str, Sequence[Cutout]]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Thing:
    """One cut-out in a scene. Later things are in front of earlier ones."""

    kind: str
    cutout: Cutout
    colour: str | None  # None: its own colours
    size: str | None  # small, large or neither
    box: Box


@dataclass(frozen=True)
class Scene:
    """Things from back to front."""

    things: tuple[Thing, ...]

    def relation(self, a: int, b: int) -> Relation | None:
        """How thing a stands to thing b: a is left of b, in front of b, and so on."""
        return _relation(self.things[a], self.things[b], a > b)

    def may_stand(self, a: int, name: Relation, b: int) -> bool:
        """Whether someone might say so of things a and b: what may be denied is clearer than what is not asserted."""
        one, other = self.things[a].box, self.things[b].box
        if name in ("front", "behind"):
            return _overlap(one, other) and (a > b) == (name == "front")
        x, y = _apart(one, other)
        along, across = {"left": (-x, y), "right": (x, y), "above": (-y, x), "below": (y, x)}[name]
        return along > SLIGHT * abs(across)

    @cached_property
    def relations(self) -> list[tuple[int, Relation, int]]:
        """All that hold, each also in the other direction."""
        every = range(len(self.things))
        return [(a, name, b) for a in every for b in every if a != b and (name := self.relation(a, b))]

    @cached_property
    def novel(self) -> bool:
        """Whether it has a combination that no scene of training has."""
        return any(held_out(t.kind, t.colour) for t in self.things if t.colour) or any(
            held_out(self.things[a].kind, name, self.things[b].kind) for a, name, b in self.relations
        )


def held_out(*combination: str) -> bool:
    """Whether training never sees this kind in this colour, or these kinds in this relation: a function of the names.

    A relation and its inverse, seen from the other side, go together.
    """
    if len(combination) == 3:
        a, name, b = combination
        combination = min(combination, (b, INVERSE[name], a))  # type: ignore[index]
    return crc32(" ".join(combination).encode()) % HELD_OUT == 0


class Phrase(NamedTuple):
    """What a noun phrase asks of a thing."""

    kind: str
    colour: str | None = None
    size: str | None = None

    def fits(self, thing: Thing, perhaps: bool = False) -> bool:
        """Whether the thing is what is named; or may be, as one in its own colours may be of any."""
        unknown = (None,) if perhaps else ()
        same = thing.kind == self.kind
        same = same and (self.colour in (None, thing.colour) or thing.colour in unknown)
        return same and (self.size in (None, thing.size) or thing.size in unknown)


@dataclass(frozen=True)
class Statement:
    """A sentence's meaning: there are these things, each another one, and the first stands so to the second."""

    phrases: tuple[Phrase, ...]
    relation: Relation | None = None

    def holds(self, scene: Scene, perhaps: bool = False) -> bool:
        """Whether it is true of the scene; `perhaps`: whether it may be, so that it is false where this is not so."""
        return self._from(scene, [], perhaps)

    def novel(self) -> bool:
        """Whether it names a combination that no sentence of training names, true or false."""
        if self.relation and held_out(self.phrases[0].kind, self.relation, self.phrases[1].kind):
            return True
        return any(held_out(phrase.kind, phrase.colour) for phrase in self.phrases if phrase.colour)

    def _from(self, scene: Scene, chosen: list[int], perhaps: bool) -> bool:
        """Whether things after those chosen can be found for the other phrases."""
        if len(chosen) == 2 and self.relation:
            a, b = chosen
            if scene.relation(a, b) != self.relation and not (perhaps and scene.may_stand(a, self.relation, b)):
                return False
        if len(chosen) == len(self.phrases):
            return True
        phrase = self.phrases[len(chosen)]
        return any(
            phrase.fits(thing, perhaps) and i not in chosen and self._from(scene, [*chosen, i], perhaps)
            for i, thing in enumerate(scene.things)
        )


def draw(rng: np.random.Generator, kinds: Kinds, wanted: Callable[[Scene], bool]) -> Scene:
    """A scene by chance, of those that are `wanted`.

    How many things there are, whether two are of a kind, and how the first two stand is drawn once: these are as
    frequent as they are meant to be, however often their places have to be drawn again.

    Raises:
        DataError: none of TRIES was wanted, as with few kinds, of which no combination is held out.
    """
    count = 1 + int(rng.choice(len(COUNTS), p=COUNTS))
    twins, relation = rng.random() < TWINS, RELATIONS[rng.integers(len(RELATIONS))]
    for _ in range(TRIES):
        scene = _drawn(rng, kinds, count, twins, relation)
        if scene and wanted(scene):
            return scene
    raise DataError(f"none of {TRIES} scenes of {len(kinds)} kinds was of the sort wanted; give more kinds")


def _drawn(rng: np.random.Generator, kinds: Kinds, count: int, twins: bool, relation: Relation) -> Scene | None:
    """One try; None where the things find no place."""
    names = [*kinds]
    chosen = [names[i] for i in rng.choice(len(names), count, replace=False)]
    if count > 1 and twins:
        chosen[1] = chosen[0]
    looks = [_look(rng, kind, kinds[kind]) for kind in chosen]
    if count > 1 and twins and looks[0].colour == looks[1].colour:
        return None  # two of a kind differ in colour
    things: list[Thing] = []
    for place, look in enumerate(looks):
        for _ in range(30):
            thing = _moved(look, rng)
            if place == 1 and _relation(things[0], thing, relation == "front") != relation:
                continue
            overlapping = things[:1] if place == 1 and relation in ("front", "behind") else []
            if all(_clear(other.box, thing.box) for other in things if other not in overlapping):
                things.append(thing)
                break
        else:
            return None
    if count > 1 and relation == "front":
        things[0], things[1] = things[1], things[0]
    return Scene(tuple(things))


def _look(rng: np.random.Generator, kind: str, cutouts: Sequence[Cutout]) -> Thing:
    """A thing in the corner of the picture."""
    cutout = cutouts[int(rng.integers(len(cutouts)))]
    colour = None if rng.random() < PLAIN else COLOURS[rng.integers(len(COLOURS))]
    size = ("small", "large")[int(rng.integers(2))]
    named = rng.random() >= MEDIUM and SIZED[0] <= cutout.tall <= SIZED[1]
    root = float(rng.uniform(*SIDES[size if named else None]))
    width = root / float(np.sqrt(cutout.tall * cutout.mask.mean()))
    width *= min(1.0, LONGEST / (width * max(1.0, cutout.tall)))
    return Thing(kind, cutout, colour, size if named else None, (0.0, 0.0, width, width * cutout.tall))


def _moved(thing: Thing, rng: np.random.Generator) -> Thing:
    """The thing anywhere in the picture."""
    _, _, width, height = thing.box
    left, top = float(rng.uniform(0, 1 - width)), float(rng.uniform(0, 1 - height))
    return replace(thing, box=(left, top, left + width, top + height))


def _relation(a: Thing, b: Thing, a_in_front: bool) -> Relation | None:
    """Overlapping things stand in front of each other or behind, and only where none is clearly beside the other."""
    beside = _beside(a.box, b.box)
    if not _overlap(a.box, b.box):
        return beside
    front, behind = (a, b) if a_in_front else (b, a)
    if beside or not COVERED[0] <= _covered(front, behind) <= COVERED[1]:
        return None
    return "front" if a_in_front else "behind"


def _beside(a: Box, b: Box) -> Relation | None:
    x, y = _apart(a, b)
    if abs(x) > DOMINANT * abs(y):
        return "left" if x < 0 else "right"
    if abs(y) > DOMINANT * abs(x):
        return "above" if y < 0 else "below"
    return None


def _apart(a: Box, b: Box) -> tuple[float, float]:
    """From the centre of b to that of a."""
    return ((a[0] + a[2]) - (b[0] + b[2])) / 2, ((a[1] + a[3]) - (b[1] + b[3])) / 2


def _clear(a: Box, b: Box) -> bool:
    """Whether there is room between two boxes."""
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) >= MARGIN


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _covered(front: Thing, behind: Thing) -> float:
    """Share of the opaque parts of the thing behind over which the one in front is opaque."""
    middle = (np.arange(GRID) + 0.5) / GRID
    columns = behind.box[0] + middle * (behind.box[2] - behind.box[0])
    rows = behind.box[1] + middle * (behind.box[3] - behind.box[1])
    left, top, right, bottom = front.box
    x, y = np.floor(GRID * (columns - left) / (right - left)), np.floor(GRID * (rows - top) / (bottom - top))
    mask = front.cutout.mask[np.clip(y, 0, GRID - 1).astype(int)[:, None], np.clip(x, 0, GRID - 1).astype(int)]
    inside = ((y >= 0) & (y < GRID))[:, None] & ((x >= 0) & (x < GRID))
    return float((mask * inside * behind.cutout.mask).sum() / behind.cutout.mask.sum())
