"""What `--apart-from` leaves out of a set: what another set has, so that what is trained on one can be tested there."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.near_duplicates import NearIndex, alike, drawing, look, near, normalise, same_drawing, words
from data_prep.regions.threads import decoded
from unimo.errors import DataError
from unimo.readers.annotations import read_images, read_pairs


@dataclass(frozen=True)
class Other:
    """The pictures and captions of other sets, of all their splits."""

    ids: Sequence[str]
    looks: np.ndarray  # [pictures, 832], `look`
    drawings: np.ndarray  # [pictures, 833], `drawing`
    captions: dict[str, str]  # caption id -> caption
    index: NearIndex

    def picture(self, picture: np.ndarray) -> str | None:
        """Id of one that looks the same, or shows the same drawing at another place or size on white."""
        found = [*alike(self.looks, look(picture)), *same_drawing(self.drawings, drawing(picture))]
        return self.ids[found[0]] if found else None

    def caption(self, texts: Sequence[str]) -> str | None:
        """Id of a caption that one of `texts` equals or nearly does."""
        for text in texts:
            if (bag := words(text)) in self.index:
                return next(key for key, caption in self.captions.items() if near(words(caption), bag))
        return None

    def equal(self) -> set[str]:
        """The captions, as `normalise` leaves them."""
        return {normalise(caption) for caption in self.captions.values()}


def read(folders: Sequence[Path]) -> Other:
    """What the sets in `folders` hold: pairs.jsonl, and images.jsonl where there is one.

    Raises:
        DataError: a list is malformed, or a picture is missing or cannot be decoded.
    """
    names: dict[str, str] = {}  # file -> image id
    captions: dict[str, str] = {}
    for folder in folders:
        for pair in read_pairs(folder / "pairs.jsonl", pictures=True):
            names[str(folder / pair.image)] = pair.image_id
            captions |= pair.captions_by_id()
        for image in read_images(folder / "images.jsonl", pictures=True) if (folder / "images.jsonl").exists() else ():
            names[str(folder / image.image)] = image.image_id
    looks, drawings = [], []
    with closing(decoded({file: Path(file) for file in names})) as pictures:
        for _, picture in tqdm(pictures, desc="pictures of others", unit="picture", total=len(names)):
            if isinstance(picture, DataError):
                raise picture
            looks.append(look(picture))
            drawings.append(drawing(picture))
    index = NearIndex(words(caption) for caption in captions.values())
    return Other([*names.values()], np.stack(looks), np.stack(drawings), captions, index)
