"""`corpora pack`: the pictures of pairs.jsonl and images.jsonl -> tar shards (`unimo.readers.picture_shards`)."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image as Picture
from tqdm import tqdm

from data_prep.regions.threads import in_order
from data_prep.stage import Work
from unimo.errors import DataError
from unimo.readers.annotations import Image, Pair, read_images, read_pairs
from unimo.readers.picture_shards import PictureShardWriter
from unimo.readers.pictures import read_picture, shrink

THREADS = 4  # that read and decode, ahead of the one that writes
AHEAD = 16
SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}


class File(NamedTuple):
    """A picture that goes into a shard, or why it cannot."""

    content: bytes = b""
    suffix: str = ""
    size: tuple[int, int] = (0, 0)
    error: str = ""


def build(
    pairs: Sequence[Path], images: Sequence[Path], out: Path, longest: int | None = None, shard_mb: int = 256
) -> str:
    """Pack every picture that the files name, in their order, and say what was done. Pictures that cannot be decoded
    are left out and listed.

    Args:
        longest: pixels of the longer side at most; larger pictures are written anew, upright, as JPEG. By default
            every file is packed as it is.

    Raises:
        DataError: a file of records is broken, an id stands for two pictures, or nothing is usable.
    """
    records = list(_records(pairs, images))
    files: dict[str, Path] = {}
    for record, path in records:
        if files.setdefault(record.image_id, path).resolve() != path.resolve():
            raise DataError(f"image {record.image_id!r} is {files[record.image_id]} and {path}: an id is one picture's")
    known = {record.image_id: _known(record) for record, _ in reversed(records)}  # pairs come first and say more
    work = Work("corpora pack", out, {"longest": longest}, [*pairs, *images], distributions=("pillow",))
    with PictureShardWriter(out, {"longest": longest}, shard_mb << 20) as shards:
        before = len(shards)
        left = {image_id: path for image_id, path in files.items() if image_id not in shards}
        pool = ThreadPoolExecutor(THREADS, "decode")
        made = in_order(pool, lambda _, path: _file(path, longest), left, AHEAD)
        for image_id, file in tqdm(made, total=len(left), desc="pack", unit="picture"):
            if file.error:
                work.reject(image_id, "picture cannot be decoded", file.error)
            else:
                shards.add(image_id, file.suffix, file.content, file.size, known[image_id])
        done = len(shards)
    return work.finish({"pictures": done}, "pictures", done - before)


def _records(pairs: Sequence[Path], images: Sequence[Path]) -> Iterator[tuple[Pair | Image, Path]]:
    for path in pairs:
        yield from ((record, path.parent / record.image) for record in read_pairs(path))
    for path in images:
        yield from ((record, path.parent / record.image) for record in read_images(path))


def _known(record: Pair | Image) -> dict[str, Any]:
    """What a reader of the shards alone is told of a picture."""
    captions = {"captions": record.captions} if isinstance(record, Pair) else {}
    return {**captions, "split": record.split, "source": record.source}


def _file(path: Path, longest: int | None) -> File:
    """A picture's file, decoded once to know that it can be."""
    try:
        content = path.read_bytes()
        picture = read_picture(content)
        with Picture.open(io.BytesIO(content)) as opened:
            suffix, size = SUFFIXES[str(opened.format)], opened.size
    except OSError as error:
        return File(error=f"{path}: {error.strerror or error}")
    except DataError as error:
        return File(error=f"{path}: {error}")
    if longest is None or max(size) <= longest:
        return File(content, suffix, size)
    smaller = Picture.fromarray(shrink(picture, longest))
    written = io.BytesIO()
    smaller.save(written, "JPEG", quality=90)
    return File(written.getvalue(), "jpg", smaller.size)
