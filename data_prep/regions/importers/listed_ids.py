"""Ids of public features -> the ids that `corpora pairs` gives the same pictures."""

from collections.abc import Callable, Iterator
from functools import partial

from data_prep.picture_ids import named
from data_prep.regions.importers.dump import Dump, Item
from unimo.errors import DataError

LISTS = ("coco", "flickr30k")


def listed_id(image_id: str, name: str) -> str:
    """The id of the picture in the list of this name, such as coco-391895 (data_prep/picture_ids.py).

    Raises:
        DataError: the id is spelt in no known way.
    """
    found = named(image_id, name)
    if found is None or found[0].dataset != name:
        shown = repr(image_id[:100])
        raise DataError(f"id {shown} is none of {name}, expected a number or a file name with one; leave --ids out")
    return str(found[0])


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
