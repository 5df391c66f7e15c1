"""What a scene holds, drawn by chance, and whether a statement about it is true. Lengths are shares of the side.

Every pair of things stands in one of six relations, or in none where that would not be clear to the eye.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
SIDES = {"small": (0.16, 0.2), None: (0.26, 0.3), "large": (0.38, 0.44)}  # of the longer side of a thing
COUNTS = (0.15, 0.4, 0.3, 0.15)  # how often a scene has 1, 2, 3, 4 things
PLAIN, MEDIUM, TWINS = 0.25, 0.4, 0.2  # how often a thing has its own colour, no size to speak of; two of a kind
COVERED = (0.25, 0.5)  # share of the thing behind that the one in front covers
DOMINANT = 2.0  # so many times farther apart in one direction than in the other
SLIGHT = 1 / 3  # a direction in which two things are apart by less, to the other, may be denied
MARGIN = 0.02  # between boxes that do not overlap
TRIES = 2000  # of a scene
HELD_OUT = 10  # one in so many combinations is never seen in training

Kinds = Mapping[str, Sequence[tuple[str, float]]]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Thing:
    """One cut-out in a scene. Later things are in front of earlier ones."""

    kind: str
    cutout: str
    colour: str | None  # None: its own colours
    size: str | None  # small, large or neither
    box: Box


@dataclass(frozen=True)
class Scene:
    """Things from back to front."""

    things: tuple[Thing, ...]

    def relation(self, a: int, b: int) -> Relation | None:
        """How thing a stands to thing b: a is left of b, in front of b, and so on."""
        return _relation(self.things[a].box, self.things[b].box, a > b)

    def may_stand(self, a: int, name: Relation, b: int) -> bool:
        """Whether someone might say so of things a and b: what may be denied is clearer than what is not asserted."""
        one, other = self.things[a].box, self.things[b].box
        if name in ("front", "behind"):
            return _overlap(one, other) > 0 and (a > b) == (name == "front")
        x, y = _apart(one, other)
        along, across = {"left": (-x, y), "right": (x, y), "above": (-y, x), "below": (y, x)}[name]
        return along > SLIGHT * abs(across)

    def relations(self) -> list[tuple[int, Relation, int]]:
        """All that hold, each also in the other direction."""
        every = range(len(self.things))
        return [(a, name, b) for a in every for b in every if a != b and (name := self.relation(a, b))]

    def novel(self) -> bool:
        """Whether it has a combination that no scene of training has."""
        return any(held_out(t.kind, t.colour) for t in self.things if t.colour) or any(
            held_out(self.things[a].kind, name, self.things[b].kind) for a, name, b in self.relations()
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

    Args:
        kinds: kind -> its cut-outs and their height over width.

    Raises:
        DataError: none of TRIES was wanted, as with few kinds, of which no combination is held out.
    """
    for _ in range(TRIES):
        scene = _drawn(rng, kinds)
        if scene and wanted(scene):
            return scene
    raise DataError(f"none of {TRIES} scenes of {len(kinds)} kinds was of the sort wanted; give more kinds")


def _drawn(rng: np.random.Generator, kinds: Kinds) -> Scene | None:
    """One try; None where the things find no place."""
    count = 1 + int(rng.choice(len(COUNTS), p=COUNTS))
    names = [*kinds]
    chosen = [names[i] for i in rng.choice(len(names), count, replace=False)]
    if count > 1 and rng.random() < TWINS:
        chosen[1] = chosen[0]
    wanted = RELATIONS[rng.integers(len(RELATIONS))]  # of the first thing to the second: all are as frequent
    looks = [_look(rng, kinds[kind]) for kind in chosen]
    if count > 1 and chosen[0] == chosen[1] and looks[0][2] == looks[1][2]:
        return None  # two of a kind differ in colour
    boxes: list[Box] = []
    for place, (_, tall, _, _, side) in enumerate(looks):
        for _ in range(20):
            box = _placed(rng, side, tall)
            found = [_relation(other, box, False) for other in boxes]
            apart = place != 1 or wanted not in ("front", "behind")
            if place == 1 and apart and found[0] != wanted:
                continue
            if not apart and _covered(boxes[0], box, wanted == "front") is None:
                continue
            if all(_clear(other, box) for other in (boxes if apart else boxes[1:])):
                boxes.append(box)
                break
        else:
            return None
    things = [
        Thing(kind, cutout, colour, size, box) for kind, (cutout, _, colour, size, _), box in zip(chosen, looks, boxes)
    ]
    if count > 1 and wanted == "front":
        things[0], things[1] = things[1], things[0]
    return Scene(tuple(things))


def _look(
    rng: np.random.Generator, cutouts: Sequence[tuple[str, float]]
) -> tuple[str, float, str | None, str | None, float]:
    """Cut-out, its height over width, colour, size and longer side of a thing."""
    colour = None if rng.random() < PLAIN else COLOURS[rng.integers(len(COLOURS))]
    size = None if rng.random() < MEDIUM else ("small", "large")[int(rng.integers(2))]
    return *cutouts[int(rng.integers(len(cutouts)))], colour, size, float(rng.uniform(*SIDES[size]))


def _placed(rng: np.random.Generator, side: float, tall: float) -> Box:
    """A box of this longer side and height to width anywhere in the picture."""
    width, height = (side, side * tall) if tall <= 1 else (side / tall, side)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return float(left), float(top), float(left + width), float(top + height)


def _clear(a: Box, b: Box) -> bool:
    """Whether there is room between two boxes."""
    return max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3]) >= MARGIN


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def _apart(a: Box, b: Box) -> tuple[float, float]:
    """From the centre of b to that of a."""
    return ((a[0] + a[2]) - (b[0] + b[2])) / 2, ((a[1] + a[3]) - (b[1] + b[3])) / 2


def _covered(a: Box, b: Box, a_in_front: bool) -> float | None:
    """Share of the box behind that the other covers, where that is enough to see and not too much."""
    share = _overlap(a, b) / _area(b if a_in_front else a)
    return share if COVERED[0] <= share <= COVERED[1] else None


def _relation(a: Box, b: Box, a_in_front: bool) -> Relation | None:
    if _overlap(a, b):
        if _covered(a, b, a_in_front) is None:
            return None
        return "front" if a_in_front else "behind"
    x, y = _apart(a, b)
    if abs(x) > DOMINANT * abs(y):
        return "left" if x < 0 else "right"
    if abs(y) > DOMINANT * abs(x):
        return "above" if y < 0 else "below"
    return None
