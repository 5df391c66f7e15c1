"""Make the pictures of `openclipart/` from Debian's openclipart-png, as `openclipart/pairs.jsonl` names them.

    python -m data_prep.demo.build_openclipart

The list was chosen by hand; its captions are the drawings' titles, cleaned, put into English and completed by what is
seen. Each drawing is cut to its content, scaled to at most 128 pixels and reduced to 128 colours, which keeps the
folder below 3 MB. Needs apt-get; run only to change the set.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from data_prep.sources.archives import deb_members
from data_prep.sources.packages import fetch
from unimo.errors import DataError
from unimo.readers.pictures import read_picture, shrink
from unimo.storage.atomic import atomic_write

FOLDER = Path(__file__).parent / "openclipart"
ROOT = "usr/share/openclipart/png/"
LONGEST, COLOURS, MARGIN = 128, 128, 0.03


def main() -> None:
    """Write every picture of the list; raises DataError if one is not in the package or cannot be decoded."""
    records = [json.loads(line) for line in (FOLDER / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    images = {ROOT + record["from"]: record["image"] for record in records}
    archive = fetch("openclipart-png").archive
    for path, content in tqdm(deb_members(archive, images.__contains__), total=len(images), unit="picture"):
        picture = Image.fromarray(shrink(_cut(read_picture(content)), LONGEST))
        with atomic_write(FOLDER / images.pop(path)) as file:
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    if images:
        raise DataError(f"{archive} lacks {len(images)} of the listed pictures: {sorted(images)[:5]}")
    print(f"{len(records)} pictures, {sum(p.stat().st_size for p in FOLDER.iterdir()):,} bytes in {FOLDER}")


def _cut(picture: np.ndarray) -> np.ndarray:
    """Cut away the white around the drawing, all but a small margin."""
    rows, columns = (np.flatnonzero((picture < 250).any(axis=(2, axis))) for axis in (1, 0))
    margin = int(MARGIN * max(picture.shape))
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    return picture[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]


if __name__ == "__main__":
    main()
