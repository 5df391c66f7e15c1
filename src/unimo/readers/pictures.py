"""Picture files of any common format -> RGB arrays, within limits, and back."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write

MAX_PIXELS = 50_000_000  # ours; a small file can claim billions of pixels
# Pillow would start Ghostscript for EPS, and has decoders that are rarely looked at.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_ORIENTATION = 0x0112  # of EXIF
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF


def read_picture(source: Path | bytes, formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """Decode a picture upright and on a white ground. Returns [height, width, 3] uint8, red first.

    The size is read from the file's head and checked before any pixel is decoded. Grey of 16 bits is scaled to 8.
    EXIF that cannot be read is passed over. `formats` are Pillow's names of what may come.

    Raises:
        DataError: not a regular file, not a picture, cut short, of a kind that cannot be decoded, or larger than
            MAX_PIXELS.
    """
    name = "picture" if isinstance(source, bytes) else str(source)
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise DataError(f"{name} cannot be decoded as a picture: it is no regular file")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as opened:
            check_size(opened, name)
            opened.load()
            check_size(opened, name)  # a container may hold more than its head says
            image = _upright(opened, _eight_bits(opened, name))
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            return np.asarray(image.convert("RGB"))
    except DataError:
        raise
    except UnidentifiedImageError as error:  # its text holds an address in memory
        expected = ", ".join(formats)
        raise DataError(
            f"{name} cannot be decoded as a picture: its format is unknown, expected one of {expected}"
        ) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(f"{name} cannot be decoded as a picture: {str(error) or type(error).__name__}") from error


def check_size(image: Image.Image, name: str) -> None:
    """Raise a DataError for a picture of more than MAX_PIXELS, by what its head says."""
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{name} has {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: scale it down")


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Grey of more than 8 bits, which Pillow's conversion would cut off at 255, scaled to them; others as they are."""
    if not image.mode.startswith(("I", "F")):
        return image
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # older Pillows read a PNG of 16 bits as I
        kind = "float" if image.mode == "F" else "integer"
        raise DataError(
            f"{name} is a 32-bit or signed {kind} picture, whose black and white are not known, expected 8 or 16 bits "
            "without sign: convert it"
        )
    most = 2 ** tags.get(_BITS, (16,))[0] - 1
    values = np.asarray(image).astype(np.int64)
    grey = (np.clip(values, 0, most) * 255 + most // 2) // most
    if image.format == "TIFF" and tags.get(_PHOTOMETRIC) == 0:  # zero is white
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _upright(opened: Image.Image, image: Image.Image) -> Image.Image:
    """`image` turned as the EXIF of `opened` says. Pillow's own exif_transpose fails where EXIF cannot be written."""
    try:
        method = _UPRIGHT.get(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # as many kinds as there are ways to damage it
        return image
    return image if method is None else image.transpose(method)


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
