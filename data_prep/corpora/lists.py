"""Public lists of pictures in the formats of their authors -> rows. Ours are the ids and the names of splits.

coco                  captions_*.json, and dataset_coco.json of Karpathy's splits, or either alone
flickr30k             dataset_flickr30k.json of the same
visual-genome         region_descriptions.json with image_data.json
conceptual-captions   lines of caption<TAB>address (3M) or address<TAB>caption (12M)
sbu                   sbu-captions-all.json, or the two text files of addresses and captions
openimages            image_ids_and_rotation.csv and the like; pictures without captions
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from data_prep.corpora.coco import karpathy_or_coco
from data_prep.corpora.records import Bad, Row, each, open_list
from data_prep.corpora.text_files import texts_of
from data_prep.picture_ids import flickr_number
from unimo.errors import DataError
from unimo.readers.annotations import Split
from unimo.storage.json_files import read_json

LICENCES = {
    "coco": "annotations CC BY 4.0; each picture under the licence of its author",
    "flickr30k": "for research; pictures under the terms of Flickr",
    "visual-genome": "annotations CC BY 4.0; pictures from YFCC100M and COCO",
    "conceptual-captions": "captions free for any use; pictures belong to the sites that show them",
    "sbu": "not stated; pictures belong to their authors at Flickr",
    "openimages": "annotations CC BY 4.0; pictures listed as CC BY 2.0",
}
_NOTHING: Any = object()
_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
_BLOCK, _MOST = 1 << 22, 1 << 26  # characters read at a time, and of one object at the most


def rows(
    form: str, sources: Sequence[Path], name: str, split: Split | None = None, small: bool = False
) -> Iterator[Row | Bad]:
    """Everything that the list holds, in its order.

    Args:
        name: what the ids begin with.
        split: of lists that have none; by default train, and for coco what the file's name tells.
        small: openimages: the addresses of the thumbnails, where there are any.

    Raises:
        DataError: a source is missing or not of the format.
    """
    try:
        if form in ("coco", "flickr30k"):
            yield from karpathy_or_coco(form, sources, name, split)
        elif form == "visual-genome":
            yield from _visual_genome(sources, name, split or "train")
        elif form == "conceptual-captions":
            yield from _conceptual_captions(sources, name, split or "train")
        elif form == "sbu":
            yield from _sbu(sources, name, split or "train")
        else:
            yield from _openimages(sources, name, small)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{form}: {', '.join(map(str, sources))} is laid out in another way: {error!r}") from error


def _visual_genome(sources: Sequence[Path], name: str, split: Split) -> Iterator[Row | Bad]:
    """A picture's captions are the phrases of its regions."""
    images: dict[Any, dict[str, Any]] = {}
    described = []
    for path in sources:
        if "regions" in next(array_objects(path), {}):
            described.append(path)
        else:
            images |= {image.get("image_id", image.get("id")): image for image in array_objects(path)}
    if not described or not images:
        raise DataError("visual-genome needs both region_descriptions.json and image_data.json")

    def row(entry: dict[str, Any]) -> Row | Bad:
        number = entry["id"] if "id" in entry else entry["image_id"]
        image = images.get(number)
        if image is None:
            return Bad(f"{name}-{number}", "not in image_data.json")
        phrases = tuple(region["phrase"] for region in entry["regions"])
        known = (("coco", image.get("coco_id")), ("flickr30k", image.get("flickr_id")))
        also = tuple(f"{other}-{key}" for other, key in known if key)
        return Row(f"{name}-{number}", split, phrases, image.get("url"), f"{number}.jpg", also)

    for path in described:
        yield from each(array_objects(path), row, path.name)


def _conceptual_captions(sources: Sequence[Path], name: str, split: Split) -> Iterator[Row | Bad]:
    """Which of the columns is the address shows in each line."""
    number = 0
    for path in sources:
        for line, text, reason, _ in texts_of(path):
            number += 1
            columns = text.split("\t")
            where = [i for i, column in enumerate(columns) if re.match(r"https?://", column, re.IGNORECASE)]
            if reason or len(columns) != 2 or len(where) != 1:
                reason = reason or "not a caption and an address"
                yield Bad(f"{path.name}:{line}", reason, text[:200])
            else:
                address = columns.pop(where[0]).strip()
                yield Row(f"{name}-{number:08d}", split, tuple(columns), address, f"{name}-{number:08d}.jpg")


def _sbu(sources: Sequence[Path], name: str, split: Split) -> Iterator[Row | Bad]:
    if len(sources) == 1:
        with open_list(sources[0]) as file:
            is_list = file.read(_BLOCK).lstrip().startswith("[")
        if is_list:  # LAVIS'
            every = enumerate(array_objects(sources[0]), start=1)
            yield from each(every, lambda one: _of_lavis(one[1], f"{name}-{one[0]:07d}", split), sources[0].name)
            return
        content = read_json(sources[0])
        yield from _numbered(content["image_urls"], content["captions"], sources, name, split)
        return
    if len(sources) != 2:
        raise DataError("sbu needs its json file, or two text files, of addresses and of captions")
    urls, texts = _addresses_first(sources)
    with open_list(urls, "\n") as addresses, open_list(texts, "\n") as captions:
        yield from _numbered(addresses, captions, sources, name, split)


def _of_lavis(record: dict[str, Any], row: str, split: Split) -> Row:
    """Its `image` is an address or the name of a file."""
    image, address = record.get("image") or "", record.get("url")
    if _ADDRESS.fullmatch(image):
        image, address = "", image
    return _of_flickr(row, split, record["caption"], address, image or f"{row}.jpg")


def _of_flickr(row: str, split: Split, caption: str, address: str | None, file: str) -> Row:
    """At hand a picture may have the name that it has in the address."""
    base = re.split(r"[?#]", address or "")[0].rpartition("/")[2]
    flickr = flickr_number(address or "")
    also = (f"flickr30k-{flickr}",) if flickr else ()
    return Row(row, split, (caption,), address, file, also, other_files=(base,) if base else ())


def _addresses_first(sources: Sequence[Path]) -> list[Path]:
    """The file whose lines are addresses, and the other."""
    shares = []
    for path in sources:
        with open_list(path, "\n") as file:
            told = [bool(_ADDRESS.fullmatch(line.strip())) for line in file if line.strip()]
        shares.append(sum(told) / max(len(told), 1))
    if max(shares) < 0.9 or min(shares) > 0.5:  # ours: a few lines of either may be anything
        said = " and ".join(f"{100 * share:.0f} % in {path}" for path, share in zip(sources, shares))
        raise DataError(
            f"sbu: addresses (http://...) are {said} of the lines; expected one file of addresses, one of captions"
        )
    return list(sources) if shares[0] > shares[1] else [*sources][::-1]


def _numbered(
    addresses: Iterable[str], captions: Iterable[str], sources: Sequence[Path], name: str, split: Split
) -> Iterator[Row | Bad]:
    """Line n of one belongs to line n of the other, so both must have as many."""
    for number, (address, caption) in enumerate(zip_longest(addresses, captions, fillvalue=_NOTHING), start=1):
        row = f"{name}-{number:07d}"
        if address is _NOTHING or caption is _NOTHING:
            raise DataError(f"{' and '.join(map(str, sources))} have not as many addresses as captions")
        if isinstance(address, str):
            yield _of_flickr(row, split, caption, address.strip(), f"{row}.jpg")
        else:
            yield Bad(row, "no address", repr(address)[:100])


def _openimages(sources: Sequence[Path], name: str, small: bool) -> Iterator[Row | Bad]:
    """The subsets validation and test stay out: the image stream is for training."""
    for path in sources:
        with open_list(path, "") as file:
            reader = csv.DictReader(file)
            try:
                missing = {"ImageID", "OriginalURL"} - set(reader.fieldnames or ())
            except csv.Error as error:
                raise DataError(f"{path}: its first line must name the columns of a table ({error})") from error
            if missing:
                raise DataError(f"{path} has no column {' and '.join(sorted(missing))}; its first line must name them")
            while True:
                try:
                    values = next(reader, None)
                except csv.Error as error:
                    yield Bad(f"{path.name}:{reader.line_num}", "no line of a table", str(error))
                    continue
                if values is None:
                    break
                yield _of_openimages(values, f"{path.name}:{reader.line_num}", name, small)


def _of_openimages(values: dict[str, Any], place: str, name: str, small: bool) -> Row | Bad:
    number = (values["ImageID"] or "").strip()
    original, thumbnail = (values.get(key) or "" for key in ("OriginalURL", "Thumbnail300KURL"))
    if not re.fullmatch(r"\w+", number) or not original:
        return Bad(place, "no id or no address", f"{number[:40]!r} {original[:100]!r}")
    subset = values.get("Subset") or "train"
    if subset != "train":
        return Bad(f"{name}-{number}", f"of the subset {subset}")
    flickr = re.search(r"/(\d+)_[^/]*$", original)
    chosen = thumbnail if small and thumbnail else original
    keys = ("License", "Author", "AuthorProfileURL", "Title", "OriginalLandingURL", "Rotation")
    return Row(
        f"{name}-{number}",
        "train",
        address=chosen,
        file=f"{number}.jpg",
        also=(f"flickr30k-{flickr[1]}",) if flickr else (),
        md5=(values.get("OriginalMD5") or None) if chosen == original else None,
        credit={key: values[key] for key in keys if values.get(key)},
    )


def array_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Members of the array that a file holds, one after the other: Visual Genome's has 700 MB.

    Raises:
        DataError: the file holds no array, or is cut short.
    """
    decoder, at = json.JSONDecoder(), 0
    with open_list(path) as file:
        buffer = file.read(_BLOCK)
        if not buffer.lstrip().startswith("["):
            raise DataError(f"{path} holds no array of objects; it begins {buffer[:40]!r}")
        at = buffer.index("[") + 1
        while True:
            between = re.compile(r"[\s,]*").match(buffer, at)
            assert between is not None  # it may be empty
            at = between.end()
            try:
                if buffer[at : at + 1] == "]":
                    return
                item, at = decoder.raw_decode(buffer, at)
                yield item
            except RecursionError as error:
                raise DataError(f"{path} is nested too deeply for a list; expected an array of objects") from error
            except json.JSONDecodeError as error:
                more = file.read(_BLOCK)
                buffer, at = buffer[at:] + more, 0
                if not more or len(buffer) > _MOST:
                    raise DataError(f"{path} is cut short or damaged: {error}") from error
            except ValueError as error:  # a number of more digits than Python reads
                raise DataError(f"{path} is damaged: {str(error)[:200]}") from error
