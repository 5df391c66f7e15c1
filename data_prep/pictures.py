"""Picture files of any common format -> RGB arrays, within limits, and back."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write

MAX_PIXELS = 50_000_000  # ours; a small file can claim billions of pixels


def read_picture(source: Path | bytes, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """Decode a picture upright and on a white ground. Returns [height, width, 3] uint8, red first.

    The size is read from the file's head and checked before any pixel is decoded. `formats` are Pillow's names of what
    may come; by default it is everything that Pillow reads.

    Raises:
        DataError: not a picture, cut short, of a kind that cannot be decoded, or larger than MAX_PIXELS.
    """
    name = "picture" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                size = f"{opened.width} x {opened.height}"
                raise DataError(f"{name} has {size} pixels, more than {MAX_PIXELS:,}: scale it down")
            image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except UnidentifiedImageError as error:  # its text holds an address in memory
        raise DataError(f"{name} cannot be decoded as a picture: its format is unknown") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(f"{name} cannot be decoded as a picture: {str(error) or type(error).__name__}") from error


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """Scale down so that no side is longer than `longest`; smaller pictures stay as they are."""
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write as JPEG (quality 90) or PNG, as the suffix says, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        if path.suffix == ".jpg":
            Image.fromarray(picture).save(file, "JPEG", quality=90)
        else:
            Image.fromarray(picture).save(file, "PNG")
