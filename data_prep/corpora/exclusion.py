"""What `--exclude` leaves out of a list: pictures of dev and test of other pairs, whatever they are called there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.corpora.records import Row
from data_prep.picture_ids import DATASETS, Picture, dataset_of, named
from data_prep.stage import beside, read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import Pair, read_pairs

EXCLUDED = "picture of the excluded dev or test"
# the datasets whose pictures a list can name, besides its own ids
NAMES = {
    "coco": {"coco", "flickr30k"},
    "flickr30k": {"flickr30k"},
    "visual-genome": {"visual-genome", "coco", "flickr30k"},
    "sbu": {"flickr30k"},
    "openimages": {"flickr30k"},
}


@dataclass(frozen=True)
class Exclusion:
    """The pictures of dev and test that another list must not have."""

    ids: frozenset[str] = frozenset()
    pictures: frozenset[Picture] = frozenset()

    def has(self, row: Row, form: str, name: str) -> bool:
        """Whether a row of a list is one of them, by its id or by the number of the picture that it is."""
        if self.ids.intersection((row.image_id, *row.also)):
            return True
        own = named(row.image_id.removeprefix(f"{name}-"), form) if form in DATASETS else None
        found = [own, *(named(other) for other in row.also)]
        return any(one[0] in self.pictures for one in found if one)


def exclusion(pairs: Path, form: str, name: str) -> Exclusion:
    """What the dev and test of `pairs` hold.

    Raises:
        DataError: they are empty, or not one of their ids has a form that a list of the format can name.
    """
    held = [pair for pair in read_pairs(pairs) if pair.split != "train"]
    if not held:
        raise DataError(f"--exclude {pairs} has no picture of dev or test, so it excludes nothing; leave it out")
    found = frozenset(_pictures(pairs, held))
    ids = frozenset(pair.image_id for pair in held)
    able = NAMES.get(form, set())
    if not any(one.dataset in able for one in found) and not any(i.startswith(f"{name}-") for i in ids):
        raise DataError(
            f"--exclude {pairs}: not one of its {len(ids)} ids of dev and test ({held[0].image_id!r}, ...) names a "
            f"picture as {form} can ({', '.join(sorted(able)) or 'own ids only'}); give pairs whose ids or source do, "
            "or leave it out"
        )
    return Exclusion(ids, found)


def _pictures(pairs: Path, held: list[Pair]) -> Iterator[Picture]:
    """The dataset is told by the manifest beside the pairs, by an id itself, or by the source."""
    name = form = None
    try:
        settings = read_manifest(pairs)["settings"] if beside(pairs, "manifest.json").exists() else {}
        name, form = settings.get("name"), settings.get("format")
    except (DataError, AttributeError):  # a manifest is not needed
        pass
    for pair in held:
        own = form in DATASETS and isinstance(name, str) and pair.image_id.startswith(f"{name}-")
        found = named(pair.image_id.removeprefix(f"{name}-"), form) if own else named(pair.image_id)
        told = dataset_of(pair.source) or (form if form in DATASETS else None)
        if not found and told:  # a number behind any prefix
            found = named(re.sub(r"^.*[-_/]", "", pair.image_id), told)
        if found:
            yield found[0]
