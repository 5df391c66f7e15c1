"""Formats of one image a line: bottom-up attention's TSV, LXMERT's, and the three of UNIMO's release."""

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.regions.importers.dump import Dump, Item, base64_array, whole_number
from data_prep.stage import Shard
from unimo.errors import DataError

COCO_PREFIX = 9  # characters before the number of an image id; UNIMO's reader cuts them off
# separator and columns; `_` is not read. Features, boxes and probabilities are base64 of float32, as are `conf`;
# `objects` are base64 of int64, without background.
LAYOUTS = {
    "butd": ("\t", "image_id w h n boxes features"),
    "lxmert": ("\t", "image_id h w objects conf _ _ n boxes features"),
    "unimo-flickr": ("\t", "image_id w h n boxes features probs"),
    "unimo-snli-ve": (";", "image_id _ _ _ _ _ _ w h n boxes features _ _"),
    "unimo-coco": (";", "image_id _ _ _ _ _ _ _ h w n boxes probs _ features _"),
}
REPEATING = {"unimo-snli-ve", "unimo-coco"}  # a line is a caption or hypothesis, with its image's features


def read_lines(name: str, source: Path, shard: Shard) -> Iterator[Item]:
    """The lines of a file, of all files of a folder, or of the files that `*_filelist` names; .gz or plain.

    A part of the work is a range of bytes of all files together; a .gz file belongs whole to where it begins.
    """
    separator, columns = LAYOUTS[name]
    for place, line in lines(source_files(source), shard):
        fields = line.split(separator)
        if len(fields) != len(columns.split()):
            yield place, partial(_fail, f"{len(fields)} columns, expected {len(columns.split())} ({columns})")
            continue
        values = dict(zip(columns.split(), fields))
        image_id = values["image_id"].strip()
        if name == "unimo-coco":
            number = image_id[COCO_PREFIX:]
            image_id = str(int(number)) if number.isdecimal() else ""
        if image_id:
            yield image_id, partial(_dump, values)
        else:
            yield place, partial(_fail, f"image id {values['image_id'][:40]!r} is empty, or no prefix and number")


def source_files(source: Path) -> list[Path]:
    """Files of a source in reading order. Raises DataError where there are none."""
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    elif source.name.endswith("filelist"):
        named = [Path(line.strip()) for line in _text(source) if line.strip()]
        files = [path if path.exists() else source.parent / path for path in named]
    else:
        files = [source]
    missing = [str(path) for path in files if not path.is_file()]
    if missing or not files:
        raise DataError(f"{source}: {'no such file: ' + ', '.join(missing[:3]) if missing else 'the folder is empty'}")
    return files


def lines(files: Sequence[Path], shard: Shard) -> Iterator[tuple[str, str]]:
    """Place (`FILE@byte`) and text of each line that begins in the part. A damaged .gz gives a last, broken line."""
    sizes = [path.stat().st_size for path in files]
    first, end = (sum(sizes) * k // shard.count for k in (shard.number - 1, shard.number))
    offset = 0
    with tqdm(desc="read", total=end - first, unit="B", unit_scale=True) as progress:
        for path, size in zip(files, sizes):
            start, stop = first - offset, end - offset
            offset += size
            if path.suffix == ".gz":
                if start <= 0 < stop:
                    yield from _unpacked(path)
                    progress.update(size)
            elif start < size and stop > 0:
                for place, line in _between(path, max(start, 0), stop):
                    yield place, line
                    progress.update(len(line) + 1)


def _between(path: Path, start: int, stop: int) -> Iterator[tuple[str, str]]:
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()  # the rest of a line that began before
        while (at := file.tell()) < stop and (line := file.readline()):
            if line.strip():
                yield f"{path.name}@{at}", line.rstrip(b"\r\n").decode("utf-8", "replace")


def _unpacked(path: Path) -> Iterator[tuple[str, str]]:
    at = 0
    try:
        with gzip.open(path) as file:
            for line in file:
                if line.strip():
                    yield f"{path.name}@{at}", line.rstrip(b"\r\n").decode("utf-8", "replace")
                at += len(line)
    except (OSError, EOFError, zlib.error):
        yield f"{path.name}@{at}", ""


def _text(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {os.fspath(path)}: {error}") from error


def _fail(reason: str) -> Dump:
    raise DataError(reason)


def _dump(values: dict[str, str]) -> Dump:
    n = whole_number(values["n"], "number of boxes")
    dump = Dump(
        features=base64_array(values["features"], n, "features"),
        boxes=base64_array(values["boxes"], n, "boxes"),
        size=(whole_number(values["w"], "width"), whole_number(values["h"], "height")),
    )
    if "probs" in values:
        dump.class_probs = base64_array(values["probs"], n, "probs")
    if "objects" in values:
        dump.classes = 1 + base64_array(values["objects"], n, "objects", "<i8").reshape(-1).astype(np.int64)
        dump.scores = base64_array(values["conf"], n, "conf").reshape(-1)
    return dump
