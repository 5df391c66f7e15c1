"""The stage `regions import`: a foreign source -> a feature store, resumably."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.regions.class_names import read_class_names, read_synonyms
from data_prep.regions.importers.arrays import read_npz, read_uniter
from data_prep.regions.importers.dump import Item, Layout, OutsideError, to_record, whole_number, without_padding
from data_prep.regions.importers.lines import LAYOUTS, REPEATING, read_lines, source_files
from data_prep.regions.importers.listed_ids import listed, listed_id
from data_prep.regions.importers.vinvl import Objects, read_vinvl
from data_prep.stage import Shard, Work
from unimo.errors import ConfigError, DataError
from unimo.readers.feature_store import StoreWriter
from unimo.storage.encodings import text_of

NO_CLASSES = {"butd", "unimo-snli-ve"}
ALWAYS_PROBS = {"unimo-flickr", "unimo-coco"}
_FEW, _SHARE = 3, 0.05  # boxes that do not fit: up to so many images, or this share, are bad records; more is an option


@dataclass(frozen=True)
class Choices:
    """What a format leaves open; None is what its authors' files have.

    Args:
        boxes: "pixels" or "normalised".
        size_order: "wh" or "hw", the order of the two size fields.
        sizes: json lines of id, width and height.
        class_names: one class a line, without background.
        probs: keep class probabilities, which every image must have; only `uniter` and `npz` may or may not.
        ids: one of LISTS, by whose ids the store knows its images; None keeps the source's.
    """

    boxes: str | None = None
    size_order: str | None = None
    sizes: Path | None = None
    class_names: Path | None = None
    feature_dim: int = 2048
    probs: bool = False
    ids: str | None = None


def import_features(form: str, source: Path, out: Path, choices: Choices, shard: Shard) -> str:
    """Add every image that `out` does not hold yet; bad ones are left out and listed. Says what was done.

    Raises:
        ConfigError: a choice that the format does not have.
        DataError: no such source, nothing usable, a store of another import, or boxes that a choice must set right.
    """
    out, swapped = shard.place(out), _swapped(form, choices.size_order)
    names = ["background"] if form in NO_CLASSES else read_class_names(choices.class_names)
    boxes = choices.boxes or ("normalised" if form in ("uniter", "vinvl") else "pixels")
    if form in {"vinvl", *NO_CLASSES} and choices.class_names:
        raise ConfigError(
            f"{form}: its files {'name' if form == 'vinvl' else 'hold no'} classes; leave --class-names out"
        )
    if form == "vinvl":
        if choices.boxes:
            raise ConfigError("vinvl: its boxes are always normalised; leave --boxes out")
        objects = Objects(source)
        items, names, inputs = read_vinvl(source, objects, shard), objects.class_names, objects.files
    elif form in LAYOUTS:
        items, inputs = read_lines(form, source, shard), source_files(source)
    else:
        items = (read_uniter if form == "uniter" else read_npz)(source, shard)
        inputs = [] if form == "npz" else [source / "data.mdb" if source.is_dir() else source]
    if choices.probs and form not in ("uniter", "npz"):
        raise ConfigError(f"{form}: whether there are class probabilities is fixed; leave --probs out")
    with_probs = choices.probs or form in ALWAYS_PROBS
    layout = Layout(choices.feature_dim, len(names), with_probs, swapped, boxes == "normalised", _sizes(choices))
    extractor: dict[str, Any] = {
        "name": f"import:{form}",
        "version": "1",
        "boxes": boxes,
        "size_order_swapped": swapped,
    }
    if choices.ids:
        items, extractor["ids"] = listed(items, choices.ids), choices.ids
    extractor |= read_synonyms(choices.class_names)
    inputs = [path for path in (*inputs, choices.sizes, choices.class_names) if path]
    work = Work("regions import", out, extractor, inputs, shard, (), ("msgpack", "numpy"))
    with StoreWriter(out, feature_dim=layout.feature_dim, class_names=names, extractor=extractor) as store:
        before = len(store)
        dropped = fill(store, items, layout, work, form in REPEATING)
    return work.finish({"images": len(store), **dropped}, "images", len(store) - before)


def fill(store: StoreWriter, items: Iterator[Item], layout: Layout, work: Work, repeating: bool) -> dict[str, int]:
    """Add to the store what is not in it; list in `work` what cannot be added. Returns a count of rows left out.

    Raises:
        DataError: the store cannot be written, or so many boxes do not fit that an option must be wrong.
    """
    seen: set[str] = set()
    outside = padding = 0
    for image_id, read in items:
        if image_id in seen:
            if not repeating:
                work.reject(image_id, "image id twice", "the first is kept")
            continue
        if image_id not in store:
            try:
                dump, rows = without_padding(read())
                store.add(to_record(image_id, dump, layout))
                padding += rows
            except DataError as error:
                if image_id in store:
                    raise  # the record was good: the disk is full
                work.reject(image_id, "boxes outside the image" if _is_outside(error) else "bad record", str(error))
                outside += _is_outside(error)
                if outside > max(_FEW, _SHARE * len(seen)):
                    raise DataError(
                        f"{outside} of the first {len(seen) + 1} images have boxes that do not fit, such as "
                        f"{image_id!r}: {error}. Change the option and import into a new folder"
                    ) from error
                if repeating:
                    continue  # another line of the same image may be whole
        seen.add(image_id)
    return {"rows of padding left out": padding} if padding else {}


def _is_outside(error: DataError) -> bool:
    return isinstance(error, OutsideError)


def _swapped(form: str, order: str | None) -> bool:
    """Whether the source's size fields are in the other order than its format's."""
    if order is None:
        return False
    if form not in LAYOUTS:
        raise ConfigError(f"{form}: its files name width and height; --size-order is for {', '.join(LAYOUTS)}")
    columns = LAYOUTS[form][1].split()
    return order != ("wh" if columns.index("w") < columns.index("h") else "hw")


def _sizes(choices: Choices) -> dict[str, tuple[int, int]]:
    """Image id -> width and height, of json lines."""
    file = choices.sizes
    if file is None:
        return {}
    try:
        records = [json.loads(line) for line in text_of(file.read_bytes()).splitlines()]
        ids = [listed_id(str(r["id"]), choices.ids) if choices.ids else str(r["id"]) for r in records]
        return {
            i: (whole_number(r["width"], "width"), whole_number(r["height"], "height")) for i, r in zip(ids, records)
        }
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DataError) as error:
        raise DataError(f"{file}: expected json lines of id, width and height ({error!r})") from error
