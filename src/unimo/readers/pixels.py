"""Picture files -> squares of pixels: two preparations, random crops, flips and colours, and what stands in for broken
files.

`release` is what UNIMO-2's image reader does, bit for bit. `upright` shows a picture as people see it, and is faster.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
from PIL import Image as Picture
from PIL import UnidentifiedImageError
from pydantic import Field

from unimo.config import Config
from unimo.console import say
from unimo.errors import DataError
from unimo.readers.batching import fingerprint
from unimo.readers.pictures import FORMATS, check_size, read_picture

Preparation = Literal["release", "upright"]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
Crop = Callable[[int, int], Box]  # (width, height) -> what is kept of a picture
VALUES = (np.arange(256, dtype=np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)  # of a byte: -1..1
END = b"\xff\xd9"  # of a JPEG file
TAIL = 64  # bytes at the end of a file in which that mark is looked for
RATIO = (3 / 4, 4 / 3)  # width to height of a crop, relative to the picture's: those of Inception's training


def release(content: bytes, side: int, crop: Crop | None = None) -> np.ndarray:
    """RGB [side, side, 3] uint8 of a picture file as UNIMO-2's release makes it (src/utils/image_utils.py): no turn by
    EXIF, alpha dropped without a ground, squashed by Pillow's antialiased bicubic. A cut file, which the release fills
    with grey, is an error.

    Raises:
        DataError: it cannot be decoded, or is larger than MAX_PIXELS.
    """
    try:
        with Picture.open(io.BytesIO(content), formats=FORMATS) as opened:
            check_size(opened, "picture")
            opened.load()
            picture = opened if opened.mode == "RGB" else opened.convert("RGB")
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(f"cannot be decoded as a picture: {_shown(error)}") from error
    box = crop(*picture.size) if crop else None
    if box or picture.size != (side, side):
        picture = picture.resize((side, side), Picture.Resampling.BICUBIC, box)
    return np.asarray(picture)


def upright(content: bytes, side: int, crop: Crop | None = None) -> np.ndarray:
    """RGB [side, side, 3] uint8 of a picture file as people see it: turned as EXIF says, over white where transparent,
    grey of 16 bits scaled to 8, CMYK and palettes as colours; squashed by means over areas, or enlarged bicubically.

    Whole JPEG files of colour or grey are decoded by OpenCV at half, a quarter or an eighth of their size where that is
    at least `side`; what it would only guess at (a cut file, another format) goes to `pictures.read_picture`.

    Raises:
        DataError: as `release`.
    """
    picture = _fast(content, side, crop)
    if picture is None:
        picture = read_picture(content)
    height, width = picture.shape[:2]
    if crop:
        left, top, right, bottom = crop(width, height)
        picture = picture[top:bottom, left:right]
        height, width = bottom - top, right - left
    if (height, width) != (side, side):
        smaller = height >= side and width >= side
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return picture


def _fast(content: bytes, side: int, crop: Crop | None) -> np.ndarray | None:
    """An upright JPEG by OpenCV, scaled down while it is decoded; None for what is to be looked at more closely."""
    if not (content.startswith(b"\xff\xd8") and END in content[-TAIL:]):
        return None
    try:
        with Picture.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            if opened.mode not in ("RGB", "L"):
                return None
            check_size(opened, "picture")
            shorter = min(opened.size)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Picture.DecompressionBombError):
        return None
    flag = cv2.IMREAD_COLOR
    if crop is None:  # a crop would be of the scaled picture, and could be smaller than `side`
        scales = (8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2)
        flag = next((f for scale, f in scales if shorter >= scale * side), flag)
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    return None if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def _shown(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):  # its text holds an address in memory
        return "its format is unknown"
    return str(error) or type(error).__name__


PREPARATIONS: dict[str, Callable[[bytes, int, Crop | None], np.ndarray]] = {"release": release, "upright": upright}


class Augmentation(Config):
    """How training pictures vary, each way by the picture's own generator; the defaults change nothing.

    A flip makes captions false that tell left from right, a change of colour those that name one.
    """

    crop: float = Field(1.0, gt=0, le=1)  # smallest share of the area that a random crop keeps
    flip: float = Field(0.0, ge=0, le=1)  # probability of a mirror image
    jitter: float = Field(0.0, ge=0, lt=1)  # brightness, contrast and saturation change by up to this factor each

    @property
    def idle(self) -> bool:
        """Whether it changes nothing."""
        return self.crop == 1 and not self.flip and not self.jitter


def random_crop(rng: np.random.Generator, smallest: float) -> Crop:
    """A crop of a share of the area drawn from smallest..1 and a ratio from RATIO, anywhere in the picture. It draws
    when it is called, so that a picture that cannot be decoded has drawn nothing."""

    def crop(width: int, height: int) -> Box:
        area, ratio = rng.uniform(smallest, 1), np.exp(rng.uniform(*np.log(RATIO)))
        w, h = min(1.0, np.sqrt(area * ratio)) * width, min(1.0, np.sqrt(area / ratio)) * height
        left, top = int(rng.random() * (width - w)), int(rng.random() * (height - h))
        return left, top, max(left + 1, round(left + w)), max(top + 1, round(top + h))

    return crop


def vary_colours(picture: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Brightness, contrast and saturation times factors of 1 - strength..1 + strength. [..., 3] uint8, and back."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3).astype(np.float32)
    values = picture.astype(np.float32) * brightness
    values = (values - values.mean()) * contrast + values.mean()
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)  # of ITU-R BT.601
    values = (values - grey[..., None]) * saturation + grey[..., None]
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


class BrokenPicture(DataError):
    """A picture file that was read but cannot be decoded."""


class PictureFiles(Protocol):
    """Where the files of some pictures are: a folder, or tar shards."""

    @property
    def fingerprint(self) -> str:
        """Changes when the pictures do, as far as can be told without reading them all."""
        ...

    def __contains__(self, image_id: str) -> bool: ...

    def read(self, image_id: str) -> bytes:
        """A picture's file; raises a DataError where it cannot be had."""
        ...


class FolderPictures:
    """Pictures that are files of their own; the fingerprint is of their sizes."""

    def __init__(self, files: Mapping[str, Path]):
        self.files = files
        self.fingerprint = fingerprint(sorted((i, path.stat().st_size) for i, path in files.items()))

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.files

    def read(self, image_id: str) -> bytes:
        """A picture's file."""
        if image_id not in self.files:
            raise DataError(f"image {image_id!r} is not among the {len(self.files)} pictures of this run")
        try:
            return self.files[image_id].read_bytes()
        except OSError as error:
            raise DataError(f"image {image_id!r}: cannot read {self.files[image_id]}: {error.strerror}") from error


class PixelImages:
    """Pictures as squares of pixels, each one float32 [3, side, side] in -1..1.

    Args:
        files: where the pictures are.
        side: pixels of each side.
        patch: side of a patch, which is one position of the model's sequence.
        preparation: by name.
        augmentation: of training batches.

    Attributes:
        broken: id -> what is wrong with a picture that something stood in for.
    """

    key: Literal["pixels"] = "pixels"

    def __init__(
        self,
        files: PictureFiles,
        side: int,
        patch: int,
        preparation: Preparation = "release",
        augmentation: Augmentation | None = None,
    ):
        self.files, self.side, self.patch, self.preparation = files, side, patch, preparation
        self.augmentation = augmentation or Augmentation()
        self.fingerprint = fingerprint(preparation, side, files.fingerprint, self.augmentation)
        self.broken: dict[str, str] = {}

    @property
    def origin(self) -> Mapping[str, Any]:
        """The preparation: a model must be shown pictures as it learnt them."""
        return {"pixels": self.preparation}

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Class token and patches, the same for every picture. [n] int64"""
        return np.full(len(ids), (self.side // self.patch) ** 2 + 1)

    def collate(self, ids: Sequence[str], rngs: Sequence[np.random.Generator] | None = None) -> dict[str, np.ndarray]:
        """Images float32 [B, 3, side, side]; raises a DataError for a picture that cannot be had or decoded."""
        return {"images": np.stack([self.read(i, rngs[row] if rngs else None) for row, i in enumerate(ids)])}

    def read(self, image_id: str, rng: np.random.Generator | None = None) -> np.ndarray:
        """One picture, varied by `rng` if there is one."""
        content = self.files.read(image_id)
        vary, chosen = self.augmentation, PREPARATIONS[self.preparation]
        try:
            if rng is None or vary.idle:
                picture = chosen(content, self.side, None)
            else:
                picture = chosen(content, self.side, random_crop(rng, vary.crop) if vary.crop < 1 else None)
                if rng.random() < vary.flip:
                    picture = picture[:, ::-1]
                if vary.jitter:
                    picture = vary_colours(picture, rng, vary.jitter)
        except DataError as error:
            raise BrokenPicture(f"image {image_id!r} {str(error).removeprefix('picture ')}") from error
        return np.stack([cv2.LUT(channel, VALUES) for channel in cv2.split(picture)])

    def readable(
        self, samples: Sequence[int] | np.ndarray, image_ids: Sequence[str], rngs: Sequence[np.random.Generator]
    ) -> tuple[list[int], dict[str, np.ndarray]]:
        """`collate` for training: for a sample whose picture cannot be decoded, the next one whose picture can be.

        So a batch keeps its size, and what stands in is a function of the files alone. What is left out is told once
        and kept in `broken`.

        Args:
            image_ids: of all samples, of which `samples` are numbers.

        Returns:
            The samples taken, and their pictures as of `collate`.

        Raises:
            DataError: no picture can be decoded, or one cannot be had at all.
        """
        found = [self._whole(int(sample), image_ids, rng) for sample, rng in zip(samples, rngs)]
        return [sample for sample, _ in found], {"images": np.stack([picture for _, picture in found])}

    def _whole(self, sample: int, image_ids: Sequence[str], rng: np.random.Generator) -> tuple[int, np.ndarray]:
        for step in range(len(image_ids)):
            image_id = image_ids[place := (sample + step) % len(image_ids)]
            if image_id in self.broken:
                continue
            try:
                return place, self.read(image_id, rng)
            except BrokenPicture as error:
                self.broken[image_id] = str(error)
                say(f"notice: {error}; another stands in for it")
        raise DataError(f"none of {len(image_ids)} pictures can be decoded; {next(iter(self.broken.values()), '')}")
