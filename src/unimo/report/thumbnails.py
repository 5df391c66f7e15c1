"""Picture files -> small pictures inside the page."""

import base64
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

MAX_BYTES = 64 << 20  # of a file, ours; what is larger is not shown
MAX_PIXELS = 50_000_000  # ours; a small file can claim billions of pixels
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")  # whose heads are read
LONGEST = 160  # pixels of a thumbnail's longer side
QUALITY = 80  # of its JPEG


def thumbnail(path: Path, longest: int = LONGEST) -> str | None:
    """A picture as a `data:` address of a JPEG no larger than `longest`, on white; None if it cannot be read."""
    picture = read(path)
    if picture is None:
        return None
    height, width = picture.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return address(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def address(picture: np.ndarray) -> str:
    """A picture, [h, w, 3] uint8 in blue, green, red, as a `data:` address of a JPEG."""
    _, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def read(path: Path) -> np.ndarray | None:
    """A picture file, upright and on white, [h, w, 3] uint8 in blue, green, red; None if it cannot be read.

    Only regular files below MAX_BYTES are opened, and only pictures are decoded whose head says MAX_PIXELS at most.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=_FORMATS) as head:
            if head.width * head.height > MAX_PIXELS:
                return None
            orientation = _orientation(head)
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except Exception:  # Pillow and cv2 raise many kinds for damaged files and for sizes beyond their limits
        return None
    if picture is None:
        return None
    return _turned(_on_white(_eight_bits(picture)), orientation)


def _orientation(head: Image.Image) -> int:
    """What EXIF says of a JPEG, 1 where it cannot be read; of other formats cv2 does not apply it."""
    try:
        return head.getexif().get(0x0112, 1) if head.format in ("JPEG", "MPO") else 1
    except Exception:  # as many kinds as there are ways to damage it
        return 1


def _turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        picture = cv2.transpose(picture)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return picture if flip is None else cv2.flip(picture, flip)


def _eight_bits(picture: np.ndarray) -> np.ndarray:
    """Values of 16 bits scaled to 8; of others without sign, which have no known white, the largest is white."""
    if picture.dtype == np.uint8:
        return picture
    most = 65535.0 if picture.dtype == np.uint16 else max(float(np.nanmax(picture)), 1.0)
    return np.clip(np.nan_to_num(picture.astype(np.float32)) * (255 / most), 0, 255).round().astype(np.uint8)


def _on_white(picture: np.ndarray) -> np.ndarray:
    """[h, w] or [h, w, 1, 3 or 4] uint8 -> [h, w, 3]"""
    if picture.ndim == 2 or picture.shape[2] == 1:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if picture.shape[2] == 3:
        return picture
    alpha = picture[:, :, 3:].astype(np.float32) / 255
    return (picture[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
