"""Picture files -> small pictures inside the page."""

import base64
from pathlib import Path

import cv2
import numpy as np

LONGEST = 160  # pixels of a thumbnail's longer side
QUALITY = 80  # of its JPEG


def thumbnail(path: Path, longest: int = LONGEST) -> str | None:
    """A picture as a `data:` address of a JPEG no larger than `longest`, on white; None if it cannot be read."""
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        picture = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        has_alpha = picture is not None and picture.ndim == 3 and picture.shape[2] == 4 and picture.dtype == np.uint8
        picture = _on_white(picture) if has_alpha else cv2.imdecode(content, cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # cv2 raises for empty files and for sizes beyond its limit
        return None
    if picture is None:
        return None
    height, width = picture.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def _on_white(picture: np.ndarray) -> np.ndarray:
    """[h, w, 4] uint8 with alpha -> [h, w, 3]"""
    alpha = picture[:, :, 3:].astype(np.float32) / 255
    return (picture[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
