"""COCO's annotation files and Karpathy's splits -> rows. A picture's id is a number, written as one or as text."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.corpora.records import Bad, Row, each, text_or_none
from data_prep.picture_ids import flickr_number
from unimo.errors import DataError
from unimo.readers.annotations import Split
from unimo.storage.json_files import read_json

# restval: Karpathy trains on it too
SPLITS: dict[str, Split] = {"train": "train", "restval": "train", "val": "dev", "test": "test"}
# words of a file's name
WORDS: dict[str, Split] = {
    "train": "train",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "dev": "dev",
    "test": "test",
}


def karpathy_or_coco(form: str, sources: Sequence[Path], name: str, split: Split | None) -> Iterator[Row | Bad]:
    """The pictures of annotation files, of Karpathy's file, or of the former in the latter's splits.

    Raises:
        DataError: a source is missing or of another format, no split is told, or one is given that is not used.
    """
    contents = [(path, read_json(path)) for path in sources]
    annotated = [(path, content) for path, content in contents if "annotations" in content]
    with_splits = [(path, content) for path, content in contents if "annotations" not in content]
    if split and with_splits:
        raise DataError(f"--split {split} is not used: {with_splits[0][0]} has the splits of {form}; leave it out")
    if not annotated:
        for path, content in with_splits:
            yield from each(content["images"], partial(_of_karpathy, name=name), path.name)
        return
    splits: dict[Any, Split] | None = {} if with_splits else None
    for path, content in with_splits:
        assert splits is not None
        for number, image in enumerate(content["images"], start=1):
            try:
                splits[_key(image["cocoid"])] = SPLITS[image["split"]]
            except (LookupError, TypeError, ValueError) as error:
                yield Bad(f"{path.name}#{number}", "record is laid out in another way", repr(error)[:200])
    missing = dict.fromkeys(splits or ())
    for path, content in annotated:
        yield from _coco(path, content, name, split, splits, missing)
    for number in missing:
        yield Bad(f"{name}-{number}", "in the splits, but in no annotation file", str((splits or {})[number]))


def _key(value: Any) -> Any:
    """An id as a number, if it is one: "51", 51 and 51.0 are one picture."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,19}", value.strip()) else value


def _of_karpathy(image: dict[str, Any], name: str) -> Row:
    number = _key(image["cocoid"]) if "cocoid" in image else PurePosixPath(image["filename"]).stem
    captions = tuple(sentence["raw"] for sentence in image["sentences"])
    folder = text_or_none(image.get("filepath"))
    file = f"{folder}/{image['filename']}" if folder else image["filename"]
    return Row(f"{name}-{number}", SPLITS[image["split"]], captions, file=file)


def _coco(
    path: Path,
    content: dict[str, Any],
    name: str,
    given: Split | None,
    splits: dict[Any, Split] | None,
    missing: dict[Any, None],
) -> Iterator[Row | Bad]:
    """The pictures of one annotation file.

    Args:
        given: the split that was asked for; without it the file's name tells.
        splits: Karpathy's.
        missing: of these, the pictures that were in no file yet.
    """
    licences = _licences(content.get("licenses"))
    known, captions = _keys(content["images"]), dict[Any, list[Any]]()
    for number, annotation in enumerate(content["annotations"], start=1):
        place = f"{path.name} annotation#{number}"
        try:
            key, caption = _key(annotation["image_id"]), annotation["caption"]
            captions.setdefault(key, [])
        except (LookupError, TypeError) as error:
            yield Bad(place, "annotation without picture or caption", repr(error)[:200])
            continue
        if key in known:
            captions[key].append(caption)
        else:
            yield Bad(place, "annotation of a picture that the file has not", repr(key)[:200])

    def row(image: dict[str, Any]) -> Row | Bad:
        number, file = _key(image["id"]), image["file_name"]
        missing.pop(number, None)
        split = splits.get(number) if splits is not None else given or _split_of(path)
        if split is None:
            return Bad(f"{name}-{number}", "not in the splits", path.name)
        address, landing = text_or_none(image.get("coco_url")), text_or_none(image.get("flickr_url"))
        credit = {"licence": licences.get(str(image.get("license"))), "landing": landing}
        flickr = flickr_number(landing or "")
        also = (f"flickr30k-{flickr}",) if flickr else ()
        return Row(f"{name}-{number}", split, tuple(captions.get(number, ())), address, file, also, credit=credit)

    yield from each(content["images"], row, path.name)


def _keys(images: Sequence[Any]) -> set[Any]:
    keys = set()
    for image in images:
        try:
            keys.add(_key(image["id"]))
        except (LookupError, TypeError):  # `each` lists it
            continue
    return keys


def _licences(listed: Any) -> dict[str, str | None]:
    """Id -> address or name, as far as they are told: none of it is needed."""
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return {
        str(entry.get("id")): text_or_none(entry.get("url")) or text_or_none(entry.get("name")) for entry in entries
    }


def _split_of(path: Path) -> Split:
    """The split that a file's name tells by whole words."""
    told = {WORDS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in WORDS}
    if len(told) != 1:
        said = f"tells {' and '.join(sorted(told))}" if told else "tells no split"
        raise DataError(f"{path}: its name {said}, expected one of the words {', '.join(WORDS)}; give --split")
    return told.pop()
