"""What a dictionary's codes stand for, as pictures: nearest patches and words of a code, heat-maps over pairs."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unimo.report.run_folder import Codes, Shown
from unimo.report.thumbnails import address, read

SIDE = 128  # pixels of a picture with a heat-map
PATCH = 56  # of a patch with what is around it
AROUND = 1.5  # patches shown around it, on each side


def code_rows(codes: Codes, folder: Path) -> list[dict[str, Any]]:
    """Each code with pictures of its nearest patches."""
    return [
        {**code.model_dump(), "patches": [_patch(patch, patch.patch, codes, folder) for patch in code.patches]}
        for code in codes.codes
    ]


def mapped_pairs(codes: Codes, folder: Path) -> list[dict[str, Any]]:
    """Each pair with its heat-maps: the picture under each code's closeness, and the words with theirs."""
    found = []
    for pair in codes.pairs:
        picture = _square(pair, folder)
        maps = [
            {
                "code": one.code,
                "picture": None if picture is None else address(_heated(picture, np.array(one.patches), codes)),
                "words": list(zip(pair.words, one.words)),
            }
            for one in pair.maps
        ]
        own = None if picture is None else address(picture)
        found.append({"id": pair.image_id, "caption": pair.caption, "own": own, "maps": maps})
    return found


def _square(shown: Shown, folder: Path) -> np.ndarray | None:
    """The picture as the model sees it, squeezed into a square. [SIDE, SIDE, 3] uint8, or None if it cannot be read."""
    picture = read(folder / shown.image)
    return None if picture is None else cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _heated(picture: np.ndarray, patches: np.ndarray, codes: Codes) -> np.ndarray:
    """The picture under a colour map of its patches' values, 0 to 1."""
    grid = patches.reshape(codes.grid, codes.grid)
    place = (np.arange(codes.image_size) + codes.shift) // codes.patch
    whole = grid[np.ix_(place.clip(max=codes.grid - 1), place.clip(max=codes.grid - 1))]
    colours = cv2.applyColorMap((255 * whole).astype(np.uint8), cv2.COLORMAP_INFERNO)
    colours = cv2.resize(colours, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    return cv2.addWeighted(picture, 0.45, colours, 0.55, 0)


def _patch(shown: Shown, number: int, codes: Codes, folder: Path) -> dict[str, Any]:
    """A patch framed in what is around it."""
    picture = read(folder / shown.image)
    if picture is None:
        return {"id": shown.image_id, "picture": None}
    height, width = picture.shape[:2]
    scale = np.array([width, height]) / codes.image_size
    column, row = number % codes.grid, number // codes.grid
    corner = np.array([column, row]) * codes.patch - codes.shift
    low, high = (corner * scale, (corner + codes.patch) * scale)
    margin = AROUND * codes.patch * scale
    (left, top), (right, bottom) = (low - margin).clip(0).astype(int), np.ceil(high + margin).astype(int)
    cut = picture[top : min(bottom, height), left : min(right, width)].copy()
    factor = PATCH / np.array([cut.shape[1], cut.shape[0]])
    cut = cv2.resize(cut, (PATCH, PATCH), interpolation=cv2.INTER_AREA)
    start, end = (((edge - (left, top)) * factor).round().astype(int).tolist() for edge in (low, high))
    cv2.rectangle(cut, start, end, (255, 255, 255), 2)
    cv2.rectangle(cut, start, end, (0, 0, 0), 1)
    return {"id": shown.image_id, "picture": address(cut)}
