"""Formats of one image a line: bottom-up attention's TSV, LXMERT's, and the three of UNIMO's release."""

import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from data_prep.regions.importers.dump import Dump, Item, base64_array, whole_number
from data_prep.stage import Shard
from unimo.errors import DataError
from unimo.storage.encodings import LONGEST_MARK, encoding_in, encoding_of, text_of

# bytes, ours: 100 regions of 2048 features and 1601 probabilities are 2 MB; a longer line is left out
MAX_LINE = 64 << 20
_BLOCK = 1 << 20
_SHOWN = 200  # characters of a name in a message
_BYTEWISE = {"utf-8", "utf-8-sig"}  # encodings whose lines end at a byte
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

    A part of the work is a range of bytes of all files together; a .gz or UTF-16 file belongs whole to where it begins.
    """
    separator, columns = LAYOUTS[name]
    for place, line in lines(source_files(source), shard):
        if isinstance(line, DataError):
            yield place, partial(fail, str(line))
            continue
        fields = line.split(separator)
        if len(fields) != len(columns.split()):
            yield place, partial(fail, f"{len(fields)} columns, expected {len(columns.split())} ({columns})")
            continue
        values = dict(zip(columns.split(), fields))
        image_id = values["image_id"].strip()
        if name == "unimo-coco":
            number = image_id[COCO_PREFIX:]
            image_id = str(int(number)) if number.isdecimal() else ""
        if image_id:
            yield image_id, partial(_dump, values)
        else:
            yield place, partial(fail, f"image id {values['image_id'][:40]!r} is empty, or no prefix and number")


def source_files(source: Path) -> list[Path]:
    """Files of a source in reading order. Raises DataError where there are none."""
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    elif source.name.endswith("filelist"):
        named = [Path(line.strip()) for line in _text(source) if line.strip()]
        files = [path if os.path.exists(path) else source.parent / path for path in named]
    else:
        files = [source]
    missing = [str(path)[:_SHOWN] for path in files if not os.path.isfile(path)]  # of a path, which may be no name
    if missing or not files:
        raise DataError(f"{source}: {'no such file: ' + ', '.join(missing[:3]) if missing else 'the folder is empty'}")
    return files


def lines(files: Sequence[Path], shard: Shard) -> Iterator[tuple[str, str | DataError]]:
    """Place (`FILE@byte`) and text of each line that begins in the part, or why it cannot be read.

    A damaged .gz gives such an error as its last line.
    """
    sizes = [path.stat().st_size for path in files]
    first, end = (sum(sizes) * k // shard.count for k in (shard.number - 1, shard.number))
    offset = 0
    with tqdm(desc="read", total=end - first, unit="B", unit_scale=True) as progress:
        for path, size in zip(files, sizes):
            start, stop = first - offset, end - offset
            offset += size
            if path.suffix == ".gz" or encoding_in(path) not in _BYTEWISE:
                if start <= 0 < stop:
                    yield from _whole(path)
                    progress.update(size)
            elif start < size and stop > 0:
                for place, line in _between(path, max(start, 0), stop):
                    yield place, line
                    progress.update(len(line) + 1 if isinstance(line, str) else MAX_LINE)


def _between(path: Path, start: int, stop: int) -> Iterator[tuple[str, str | DataError]]:
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            _skip(file)  # the rest of a line that began before
        while (at := file.tell()) < stop and (line := _line(file)):
            if isinstance(line, DataError) or line.strip():
                yield f"{path.name}@{at}", line if isinstance(line, DataError) else _decoded(line, first=not at)


def _whole(path: Path) -> Iterator[tuple[str, str | DataError]]:
    at = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            encoding = encoding_of(file.read(LONGEST_MARK))
            file.seek(0)
            source = file if encoding in _BYTEWISE else io.TextIOWrapper(file, encoding, "replace", "\n")
            while line := _line(source):
                if isinstance(line, DataError) or line.strip():
                    yield f"{path.name}@{at}", line if isinstance(line, DataError) else _decoded(line, first=not at)
                at += MAX_LINE if isinstance(line, DataError) else len(line)
    except (OSError, EOFError, zlib.error) as error:
        yield f"{path.name}@{at}", DataError(f"cannot be read from here on, damaged or cut short ({error})")


class _Lines(Protocol):
    def readline(self, size: int, /) -> str | bytes: ...


def _line(file: _Lines) -> str | bytes | DataError:
    """The next line with its end; empty at the end of the file."""
    line = file.readline(MAX_LINE)
    if len(line) < MAX_LINE or line[-1:] in ("\n", b"\n"):
        return line
    _skip(file)
    return DataError(f"line is longer than {MAX_LINE:,} bytes")


def _skip(file: _Lines) -> None:
    while (part := file.readline(_BLOCK)) and part[-1:] not in ("\n", b"\n"):
        pass


def _decoded(line: str | bytes, first: bool) -> str:
    """Without its end and, at the beginning of a file, without a mark."""
    if isinstance(line, bytes):
        line = line.decode("utf-8-sig" if first else "utf-8", "replace")
    return line.rstrip("\r\n")


def _text(path: Path) -> list[str]:
    try:
        return text_of(path.read_bytes()).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {os.fspath(path)}: {error}") from error


def fail(reason: str) -> Dump:
    """What reads a line that cannot be read. Raises DataError."""
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
