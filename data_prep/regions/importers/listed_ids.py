"""Ids of public features -> the ids that `corpora pairs` gives the same pictures."""

import re
from collections.abc import Callable, Iterator
from functools import partial

from data_prep.regions.importers.dump import Dump, Item
from unimo.errors import DataError

_FILE = r"(?:\.npz|\.jpg|\.jpeg|\.png)?"
LISTS = {  # list -> how features call its pictures: by number, by file name, in a folder or not
    "coco": re.compile(rf"(?:.*/)?(?:coco-|(?:coco_)?(?:train|val|test)\d{{4}}_)?([0-9]+){_FILE}", re.IGNORECASE),
    "flickr30k": re.compile(rf"(?:.*/)?(?:flickr30k[-_])?([0-9]+){_FILE}", re.IGNORECASE),
}


def listed_id(image_id: str, name: str) -> str:
    """The id of the picture in the list of this name, such as coco-391895.

    Raises:
        DataError: the id is spelt in no known way.
    """
    match = LISTS[name].fullmatch(image_id)
    if match is None:
        shown = repr(image_id[:100])
        raise DataError(f"id {shown} is none of {name}, expected a number or a file name with one; leave --ids out")
    return f"{name}-{int(match[1])}"


def listed(items: Iterator[Item], name: str) -> Iterator[Item]:
    """The same images by the ids of the list; one whose id is spelt in no known way cannot be read."""
    for image_id, read in items:
        try:
            yield listed_id(image_id, name), read
        except DataError as error:
            yield image_id, partial(_refuse, read, error)


def _refuse(read: Callable[[], Dump], error: DataError) -> Dump:
    read()  # what is wrong with the record itself is said first
    raise error
