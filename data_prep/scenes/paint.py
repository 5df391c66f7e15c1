"""Cut-outs, their colours, and pictures composed of them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image, ImageFont, UnidentifiedImageError, features

from data_prep.demo import bulk, contents
from data_prep.scenes.scene import GRID, Cutout, Scene
from data_prep.sources.packages import Package
from unimo.errors import DataError

LISTED = Path(__file__).parent / "cutouts.yaml"
STAMPS, FONT = "tuxpaint-stamps-default", "fonts-noto-color-emoji"
PACKAGES = (STAMPS, FONT)
SIDE = 128  # pixels of the longer side that a cut-out is kept in; emoji are of this size
# Kinds that someone might take for each other: none is denied by naming another.
ALIKE = ({"chick", "duck"}, {"cat", "lion", "tiger"}, {"bus", "train", "truck"}, {"castle", "house"})
QUALITY = 95  # of JPEG
SHADES = {  # red, green, blue
    "red": (214, 32, 36),
    "orange": (245, 130, 20),
    "yellow": (250, 214, 30),
    "green": (46, 150, 60),
    "blue": (36, 92, 214),
    "purple": (128, 52, 168),
    "pink": (246, 130, 180),
    "brown": (124, 76, 36),
}
DARKER, PALER = 0.7, 0.55  # shares of the way to black and to white that the darkest and lightest parts go


@dataclass(frozen=True)
class Cutouts:
    """Things to put into pictures."""

    groups: dict[str, dict[str, list[str]]]  # category -> kind -> names
    pictures: dict[str, np.ndarray]  # name -> [h, w, 4] uint8, red first, cropped to what is not transparent

    def others(self) -> dict[str, list[str]]:
        """Kind -> the others of its category that it is not like."""
        alike = {(a, b) for some in ALIKE for a in some for b in some}
        groups = [set(group) for group in self.groups.values()]
        return {
            kind: sorted(b for b in group if b != kind and (kind, b) not in alike) for group in groups for kind in group
        }

    def kinds(self) -> dict[str, list[Cutout]]:
        """Kind -> its cut-outs, by name."""
        kinds = {kind: names for group in self.groups.values() for kind, names in group.items()}
        return {kind: [self._measured(name) for name in kinds[kind]] for kind in sorted(kinds)}

    def _measured(self, name: str) -> Cutout:
        picture = self.pictures[name]
        opaque = cv2.resize(picture[..., 3], (GRID, GRID), interpolation=cv2.INTER_AREA)
        return Cutout(name, picture.shape[0] / picture.shape[1], opaque / 255)


def of_packages(packages: Mapping[str, Package]) -> Cutouts:
    """Those that LISTED names. Raises DataError where one is missing, or is no picture with a transparent ground."""
    groups = yaml.safe_load(LISTED.read_text(encoding="utf-8"))
    wanted = {name for kinds in groups.values() for names in kinds.values() for name in names}
    found = {}
    for item in contents.tuxpaint(packages[STAMPS].archive, lambda *_: None):
        if item.image_id in wanted:
            found[item.image_id] = _cropped(item.image_id, io.BytesIO(item.content))
    if not features.check("raqm"):
        raise DataError("Pillow has no raqm here, and would draw the parts of an emoji side by side: install libraqm")
    font = bulk.opened(packages[FONT].archive)
    for name in wanted:
        if name.startswith(bulk.ID):
            found[name] = _cropped(name, _emoji(bulk.text_of(name), font))
    if missing := sorted(wanted - found.keys()):
        raise DataError(f"{STAMPS} lacks {len(missing)} of the cut-outs of {LISTED.name}, the first {missing[0]}")
    return Cutouts(groups, found)


def of_folder(folder: Path) -> Cutouts:
    """FOLDER/KIND/NAME.png: own cut-outs. The name of a folder is the word of its kind.

    Raises:
        DataError: there are fewer than five kinds, or a file is no picture with a transparent ground.
    """
    files = sorted(folder.glob("*/*.png"))
    kinds: dict[str, list[str]] = {}
    for file in files:
        kinds.setdefault(file.parent.name, []).append(f"{file.parent.name}/{file.stem}")
    if len(kinds) < 5:
        raise DataError(f"{folder} has cut-outs of {len(kinds)} kinds; expected 5 or more, as {folder}/KIND/NAME.png")
    return Cutouts({"thing": kinds}, {f"{f.parent.name}/{f.stem}": _cropped(str(f), f) for f in files})


def _emoji(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """An emoji with its own colours where it is half transparent, too: Pillow mixes these with the black ground."""
    drawn = np.asarray(bulk.glyph(text, font, "RGBA", (0, 0, 0, 0))).astype(np.float32)
    drawn[..., :3] /= np.maximum(drawn[..., 3:] / 255, 1e-3)
    return Image.fromarray(np.clip(drawn + 0.5, 0, 255).astype(np.uint8), "RGBA")


def _cropped(name: str, source: Path | io.BytesIO | Image.Image) -> np.ndarray:
    """What is not transparent, SIDE pixels on its longer side. [h, w, 4] uint8"""
    try:
        image = source if isinstance(source, Image.Image) else Image.open(source)
        picture = np.asarray(image.convert("RGBA"))
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"cut-out {name} is no picture: {error}") from error
    seen = picture[..., 3] > 16
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows) or seen.all():
        raise DataError(f"cut-out {name} has no transparent ground, or nothing on it")
    picture = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = SIDE / max(picture.shape[:2])
    size = [max(1, round(n * scale)) for n in picture.shape[1::-1]]
    # colours count by their opacity: what is transparent often is black underneath
    weighted = picture.astype(np.float32)
    weighted[..., :3] *= weighted[..., 3:] / 255
    small: np.ndarray = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    colours = small[..., :3] / np.maximum(small[..., 3:] / 255, 1e-3)
    return np.clip(np.dstack([colours, small[..., 3]]) + 0.5, 0, 255).astype(np.uint8)


def painted(cutout: np.ndarray, colour: str) -> np.ndarray:
    """A cut-out in shades of one colour: its median grey becomes the colour, so that black and white cut-outs do alike.

    [h, w, 4] uint8
    """
    grey = cv2.cvtColor(cutout[..., :3], cv2.COLOR_RGB2GRAY).astype(np.float32)
    low, middle, high = np.percentile(grey[cutout[..., 3] > 16], (2, 50, 98))
    light = np.clip((grey - middle) / max(high - middle, middle - low, 40.0), -1, 1)[..., None]
    shade = np.array(SHADES[colour], np.float32)
    mixed = np.where(light < 0, shade * (1 + DARKER * light), shade + PALER * light * (255 - shade))
    return np.dstack([np.clip(mixed + 0.5, 0, 255).astype(np.uint8), cutout[..., 3]])


class Painter:
    """Scenes -> pictures.

    Args:
        cutouts: of `Cutouts`.
        grounds: photographs [h, w, 3] uint8 to take grounds from; without them grounds are plain.
        side: pixels of a picture.
    """

    def __init__(self, cutouts: Mapping[str, np.ndarray], grounds: list[np.ndarray], side: int):
        self._cutouts, self._grounds, self.side = cutouts, grounds, side
        self._coloured = cache(self._colour)

    def _colour(self, cutout: str, colour: str | None) -> np.ndarray:
        own = self._cutouts[cutout]
        return painted(own, colour) if colour else own

    def __call__(self, scene: Scene, rng: np.random.Generator) -> np.ndarray:
        """[side, side, 3] uint8, red first."""
        canvas = self._ground(rng)
        for thing in scene.things:
            left, top, right, bottom = (round(edge * self.side) for edge in thing.box)
            size = (max(1, right - left), max(1, bottom - top))
            small = cv2.resize(self._coloured(thing.cutout.name, thing.colour), size, interpolation=cv2.INTER_AREA)
            place = canvas[top : top + size[1], left : left + size[0]]
            small = small[: len(place), : place.shape[1]].astype(np.float32)
            place += small[..., 3:] / 255 * (small[..., :3] - place)
        return np.clip(canvas + 0.5, 0, 255).astype(np.uint8)

    def encoded(self, scene: Scene, rng: np.random.Generator) -> bytes:
        """The picture as a JPEG."""
        blue_first = np.ascontiguousarray(self(scene, rng)[..., ::-1])
        return cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()

    def _ground(self, rng: np.random.Generator) -> np.ndarray:
        """A square of a photograph, paled so that things stand out, or a plain pale ground. [side, side, 3] float32"""
        if not self._grounds or rng.random() < 0.5:
            return np.full([self.side, self.side, 3], rng.uniform(190, 256, 3), np.float32)
        photo = self._grounds[rng.integers(len(self._grounds))]
        cut = int(min(photo.shape[:2]) * rng.uniform(0.5, 1))
        top, left = (int(rng.integers(n - cut + 1)) for n in photo.shape[:2])
        ground = photo[top : top + cut, left : left + cut]
        small = cv2.resize(ground, (self.side, self.side), interpolation=cv2.INTER_AREA).astype(np.float32)
        return 0.6 * small + 0.4 * 255
