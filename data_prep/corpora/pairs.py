"""`corpora pairs` and `corpora images`: a public list -> pairs.jsonl or images.jsonl, its pictures local or fetched."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.corpora.crawl import Log, Wanted, crawl
from data_prep.corpora.exclusion import EXCLUDED, Exclusion, exclusion
from data_prep.corpora.fetch import Rules
from data_prep.corpora.lists import LICENCES, rows
from data_prep.corpora.local_pictures import LocalPictures
from data_prep.corpora.records import Bad, Row
from data_prep.corpora.text_files import NOTHING, whole
from data_prep.stage import WHOLE, Shard, Work, beside
from unimo.readers.annotations import Image, Pair, Split, says_nothing, write_jsonl
from unimo.storage.atomic import atomic_write
from unimo.storage.cache import sha256

DISTRIBUTIONS = ("pillow", "numpy")
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_NUMBERED = ("conceptual-captions", "sbu")  # their ids are ours and cannot repeat
NO_TEXT = "caption, address or file name is no text"
_FOLDER = 3  # hex digits: 4,096 folders, so that millions of pictures do not lie in one


def build(
    form: str,
    sources: Sequence[Path],
    out: Path,
    images: Path | None = None,
    rules: Rules | None = None,
    name: str | None = None,
    split: Split | None = None,
    small: bool = False,
    exclude: Path | None = None,
    retry_failed: bool = False,
    shard: Shard = WHOLE,
) -> str:
    """Write the list into the folder `out` and say what was done.

    Args:
        form: a key of LICENCES.
        images: folder with the pictures, at any depth; without it they are fetched into `out`/images.
        name: what ids begin with, and the source of the records; by default the format.
        split: of lists that have none; by default train, and for coco what the names of its files tell.
        small: of openimages: fetch the thumbnails, where there are any.
        exclude: pairs.jsonl; pictures that its dev or test has, as far as the list tells, stay out.
        retry_failed: fetch again what failed in passing.

    Raises:
        DataError: a source is missing or of another format, or nothing is usable.
    """
    name, rules = name or form, rules or Rules()
    out.mkdir(parents=True, exist_ok=True)
    target = shard.place(out / ("images.jsonl" if form == "openimages" else "pairs.jsonl"))
    settings: dict[str, str | bool | int | None] = {"format": form, "name": name, "split": split, "small": small}
    settings["longest"] = None if images else rules.longest
    inputs = [*sources, *([exclude] if exclude else [])]
    licence = {"name": name, "licence": LICENCES[form]}
    work = Work(f"corpora {form}", target, settings, inputs, shard, [licence], DISTRIBUTIONS)
    listing = Listing(
        form, sources, name, split, small, exclusion(exclude, form, name) if exclude else Exclusion(), shard
    )
    if images:
        records, new = _local(listing, images, target.parent), None
    else:
        head: dict[str, Any] = {
            key: settings[key] for key in ("format", "name", "small", "longest")
        }  # what rows and files depend on
        head |= {"sources": [sha256(path) for path in sources], "shard": str(shard)}
        with closing(Log(beside(target, "fetched.jsonl"), head, listing.part.stop)) as log:
            new = _fetch(listing, out, rules, log, retry_failed)
        records = _fetched(listing, log)
    counts: Counter[str] = Counter()
    with atomic_write(beside(target, "credits.jsonl")) as credits:
        good = _counted(records, work, credits, counts)
        write_jsonl(target, (_record(row, image, name, listing.captioned) for row, image in good))
    names = ("images", "captions") if listing.captioned else ("images",)
    line = work.finish({key: counts[key] for key in names}, "images", new)
    if exclude:
        line += f"; {sum(r['reason'] == EXCLUDED for r in work.rejects):,} of them excluded by {exclude}"
    return f"{line}; {_by_split(form, counts)}" if listing.captioned else line


def _by_split(form: str, counts: Counter[str]) -> str:
    """The number of pictures of each split; of lists that have several, also which has none."""
    said = [f"{split} {counts[split]:,}" for split in SPLITS if counts[split]]
    empty = [split for split in SPLITS if not counts[split]] if form in ("coco", "flickr30k") else []
    return ", ".join(said + [f"no picture in {split}" for split in empty])


@dataclass(frozen=True)
class Listing:
    """A part of a list, which is read as often as it is asked for."""

    form: str
    sources: Sequence[Path]
    name: str
    split: Split | None
    small: bool
    held_out: Exclusion
    shard: Shard

    @property
    def captioned(self) -> bool:
        """Whether its pictures have captions."""
        return self.form != "openimages"

    @cached_property
    def part(self) -> range:
        """Numbers of its rows in the whole list."""
        return self.shard.of(range(sum(1 for _ in self._rows())))

    def judged(self) -> Iterator[tuple[int, Row | Bad]]:
        """Number and row, or why it is of no use."""
        every = self._rows() if self.form in _NUMBERED else _without_repeats(self._rows())
        for number, row in enumerate(islice(every, self.part.start, self.part.stop), self.part.start):
            yield number, self._judge(row)

    def _judge(self, row: Row | Bad) -> Row | Bad:
        """The row with its captions cleaned, or why it is of no use."""
        if isinstance(row, Bad):
            return row
        if not re.fullmatch(r"[\w.-]+", row.image_id):
            return Bad(row.image_id[:100], "id is no file name")
        if not all(isinstance(text, str) for text in (row.address or "", row.file)):
            return Bad(row.image_id, NO_TEXT)
        if self.held_out.has(row, self.form, self.name):
            return Bad(row.image_id, EXCLUDED)
        captions, lost = [], []
        for number, caption in enumerate(row.captions):
            text = " ".join(whole(caption).split()) if isinstance(caption, str) else ""
            if text and not says_nothing(text):
                captions.append(text)
            else:
                reason = NOTHING if isinstance(caption, str) else "caption is no text"
                lost.append(Bad(f"{row.image_id}#{number}", reason, repr(caption)[:200]))
        if self.captioned and not captions:
            reason = NO_TEXT if any(bad.reason != NOTHING for bad in lost) else "no caption"
            return Bad(row.image_id, reason, "; ".join(f"{bad.reason}: {bad.detail}" for bad in lost[:3]))
        return replace(row, captions=tuple(dict.fromkeys(captions)), lost=tuple(lost))

    def _rows(self) -> Iterator[Row | Bad]:
        return rows(self.form, self.sources, self.name, self.split, self.small)


def _without_repeats(every: Iterator[Row | Bad]) -> Iterator[Row | Bad]:
    seen = set()
    for row in every:
        if isinstance(row, Row) and row.image_id in seen:
            yield Bad(row.image_id, "image id twice", "the first is kept")
            continue
        if isinstance(row, Row):
            seen.add(row.image_id)
        yield row


_Judged = Iterator[tuple[Row | Bad, str]]  # with the path of the picture, relative to the list


def _local(listing: Listing, folder: Path, base: Path) -> _Judged:
    pictures = LocalPictures(folder)
    for _, row in listing.judged():
        found = row if isinstance(row, Bad) else pictures.find(row.image_id, row.file, *row.other_files)
        yield (found, "") if isinstance(found, Bad) else (row, os.path.relpath(found, base))


def _place(row: Row) -> str:
    return f"images/{hashlib.sha256(row.image_id.encode()).hexdigest()[:_FOLDER]}/{row.image_id}.jpg"


def _fetch(listing: Listing, out: Path, rules: Rules, log: Log, retry_failed: bool) -> int:
    """Fetch what is neither there nor known to be not to be had."""

    def wanted() -> Iterator[Wanted]:
        for number, row in listing.judged():
            if isinstance(row, Bad) or not row.address:
                continue
            failed, file = log.failed.get(number), out / _place(row)
            if (retry_failed and failed[2]) if failed else not (number in log and file.exists()):
                yield Wanted(number, row.address, file, row.md5)

    return crawl(wanted(), len(listing.part) - log.count, rules, log)


def _fetched(listing: Listing, log: Log) -> _Judged:
    for number, row in listing.judged():
        if isinstance(row, Bad):
            yield row, ""
        elif number in log:
            yield row, _place(row)
        else:
            reason, detail, _ = log.failed.get(number, ("no address; name the pictures with --images", "", False))
            yield Bad(row.image_id, reason, detail), ""


def _counted(records: _Judged, work: Work, credits: BinaryIO, counts: Counter) -> Iterator[tuple[Row, str]]:
    """What is of use; lists the rest, and what is to be said of each picture."""
    for row, image in records:
        if isinstance(row, Bad):
            work.reject(*map(whole, row))
            continue
        for lost in row.lost:
            work.reject(*map(whole, lost))
        counts.update({"images": 1, "captions": len(row.captions), row.split: 1})
        credit = {"image_id": row.image_id, "address": row.address, **row.credit}
        credits.write(json.dumps(credit, ensure_ascii=False).encode(errors="replace") + b"\n")
        yield row, image


def _record(row: Row, image: str, name: str, captioned: bool) -> Pair | Image:
    if captioned:
        return Pair(image_id=row.image_id, image=image, captions=list(row.captions), split=row.split, source=name)
    return Image(image_id=row.image_id, image=image, source=name)
