"""The stage itself: the pictures of pairs.jsonl and images.jsonl -> a feature store, resumably."""

from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.regions.extractor import Extractor, extracted_from
from data_prep.regions.processes import extracted
from data_prep.regions.registry import make
from data_prep.regions.threads import decoded, writing
from data_prep.stage import WHOLE, Shard, Work
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import read_images, read_pairs
from unimo.readers.feature_store import RegionRecord, StoreWriter
from unimo.storage.locks import check_free


def build(
    pairs: Path | None,
    images: Path | None,
    out: Path,
    extractor: str = "opencv-ssd",
    workers: int = 1,
    shard: Shard = WHOLE,
    **options: Any,
) -> str:
    """Add the regions of every picture that the store `out` does not hold yet, and say what was done.

    Pictures that cannot be decoded are left out and listed.

    Args:
        extractor: a name of EXTRACTORS.
        workers: processes, each with a network of its own; the store is the same for any number.
        options: what its factory takes; None stands for the default.

    Raises:
        ConfigError: no list of pictures, or options that the extractor does not have.
        DataError: no weights, no usable picture, or a store that was written with other settings.
    """
    files = dict(shard.of(list(picture_files(pairs, images, pictures=True).items())))
    out = shard.place(out)
    check_free(out)
    extract = make(extractor, options)
    inputs = [path for path in (pairs, images) if path]
    distributions = ("opencv-contrib-python", "pillow", "paddlepaddle", "numpy")
    work = Work("regions extract", out, extract.description, inputs, shard, extract.packages, distributions)
    work.threads = extract.threads
    store = StoreWriter(
        out, feature_dim=extract.feature_dim, class_names=extract.class_names, extractor=extract.description
    )
    todo = {image_id: file for image_id, file in files.items() if image_id not in store}
    workers = min(workers, len(todo))
    if workers > 1:
        del extract  # it told what the store is of, and each worker opens one of its own
        made = extracted(todo, extractor, options, workers)
    else:
        made = _in_turn(todo, extract)
    with writing(store) as behind, closing(made) as records:
        for image_id, record in tqdm(records, desc="regions", unit="image", total=len(todo)):
            if isinstance(record, DataError):
                work.reject(image_id, "picture cannot be decoded", str(record))
            else:
                behind.add(record)
    return work.finish({"images": len(store)}, "images", len(todo) - len(work.rejects))


def _in_turn(
    files: Mapping[str, Path], extract: Extractor
) -> Generator[tuple[str, RegionRecord | DataError], None, None]:
    """As `processes.extracted`, by this process."""
    with closing(decoded(files)) as pictures:
        for image_id, picture in pictures:
            yield image_id, extracted_from(image_id, picture, extract)


def picture_files(pairs: Path | None, images: Path | None, *, pictures: bool = False) -> dict[str, Path]:
    """Image id -> file, of both lists; with `pictures` all files must be there."""
    if pairs is None and images is None:
        raise ConfigError("give --pairs, --images or both")
    files: dict[str, Path] = {}
    if pairs:
        files = {pair.image_id: pairs.parent / pair.image for pair in read_pairs(pairs, pictures=pictures)}
    if images:
        for image in read_images(images, pictures=pictures):
            file = images.parent / image.image
            if files.setdefault(image.image_id, file) != file:
                raise DataError(
                    f"image id {image.image_id!r} names {files[image.image_id]} in {pairs} and {file} in {images}"
                )
    return files
