"""What a picture is to a model: detector regions from feature stores, or pixels from files, behind one protocol."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field

from unimo.config import Config, find
from unimo.console import say
from unimo.errors import ConfigError, DataError
from unimo.models.systems import described
from unimo.readers.annotations import Image, Pair
from unimo.readers.batching import fingerprint
from unimo.readers.feature_store import FeatureStore, RegionRecord, made_by
from unimo.readers.picture_shards import PictureShards, Together
from unimo.readers.pixels import Augmentation, FolderPictures, PictureFiles, PixelImages, Preparation
from unimo.readers.region_batches import collate_regions

SHOWN = 3  # ids that an error message spells out
Rngs = Sequence[np.random.Generator]
R = TypeVar("R", Pair, Image)


def _listed(value: Any) -> Any:
    return () if value is None else (value,) if isinstance(value, str) else value


Stores = Annotated[tuple[str, ...], BeforeValidator(_listed)]  # of a config: one feature store, several, or none


class Images(Protocol):
    """The pictures that a source, an evaluation or a generation may ask for, by id."""

    fingerprint: str  # changes when pictures, as far as can be told without reading them all, or their reading do

    @property
    def key(self) -> Literal["regions", "pixels"]:
        """Of the inputs that `collate` makes."""
        ...

    @property
    def origin(self) -> Mapping[str, Any]:
        """What made these inputs of the pictures, where that is not the model: a store's extractor."""
        ...

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Positions that each takes in a model's sequence. [n] int64"""
        ...

    def collate(self, ids: Sequence[str], rngs: Rngs | None = None) -> dict[str, np.ndarray]:
        """The padded arrays of these pictures. `rngs`, one a picture, augment them; None is for evaluation."""
        ...


class RegionImages:
    """Pictures as the detector regions of one or more feature stores.

    Raises:
        ConfigError: stores of different extractors, classes or sizes.
        DataError: a picture that two stores have. At reading: one that none has.
    """

    key: Literal["regions"] = "regions"

    def __init__(self, stores: Sequence[FeatureStore], max_regions: int):
        self.stores, self.max_regions = list(stores), max_regions
        for number, other in enumerate(self.stores[1:], start=1):
            _check_alike(self.stores[0], other)
            _refuse_doubles(self.stores[:number], other)
        prints = [store.fingerprint for store in self.stores]
        self.fingerprint = prints[0] if len(prints) == 1 else fingerprint(*prints)

    @property
    def origin(self) -> Mapping[str, Any]:
        """The extractor of the stores, as it describes itself."""
        return made_by(self.stores[0].extractor)

    def __contains__(self, image_id: str) -> bool:
        return any(image_id in store for store in self.stores)

    @property
    def ids(self) -> list[str]:
        """All pictures, store after store."""
        return [image_id for store in self.stores for image_id in store.ids]

    def positions(self, ids: Sequence[str]) -> np.ndarray:
        """Slots of each picture, the global one included. [n] int64

        Raises:
            DataError: pictures that none of the stores has.
        """
        missing = [i for i in ids if i not in self]
        if missing:
            where = "not in feature store" if len(self.stores) == 1 else "in none of the feature stores"
            raise DataError(
                f"image {missing[0]!r} is {where} {self.places}: {len(ids) - len(missing):,} of {len(ids):,} pictures "
                f"have regions. Extract the others', or check that ids are spelt as there, such as {self.ids[:1]}; "
                "`regions import --ids` joins common spellings"
            )
        stores, counts = [self._store(i) for i in ids], np.empty(len(ids), np.int64)
        for store in self.stores:
            mine = [place for place, its in enumerate(stores) if its is store]
            counts[mine] = store.counts([ids[place] for place in mine])
        return np.minimum(counts, self.max_regions) + 1

    def read(self, image_id: str) -> RegionRecord:
        """All regions of one picture, as views of its store."""
        return self._store(image_id).read(image_id)

    def collate(self, ids: Sequence[str], rngs: Rngs | None = None) -> dict[str, np.ndarray]:
        """Features float16 [B, N, D], boxes float32 [B, N, 5], mask float32 [B, N]. Regions are never augmented."""
        return collate_regions([self.read(i) for i in ids], self.max_regions)

    def _store(self, image_id: str) -> FeatureStore:
        for store in self.stores:
            if image_id in store:
                return store
        if len(self.stores) == 1:
            return self.stores[0]  # it says what it holds
        raise DataError(f"image {image_id!r} is in none of the feature stores {self.places}; extract its regions")

    @property
    def places(self) -> str:
        """The folders of the stores, for people."""
        return ", ".join(str(store.path) for store in self.stores)


def _check_alike(one: FeatureStore, other: FeatureStore) -> None:
    facts = [
        (store.feature_dim, store.class_names, store.header["class_probs"], made_by(store.extractor))
        for store in (one, other)
    ]
    names = ("feature size", "class names", "class_probs", "extractor")
    different = [name for name, a, b in zip(names, *facts) if a != b]
    if different:
        raise ConfigError(
            f"feature stores {one.path} and {other.path} differ in {', '.join(different)}; the regions that a model "
            "reads must come from one extractor"
        )


def _refuse_doubles(stores: Sequence[FeatureStore], other: FeatureStore) -> None:
    doubles = [(i, store.path) for i in other.ids for store in stores if i in store]
    if doubles:
        shown = ", ".join(f"{i!r} in {path} and {other.path}" for i, path in doubles[:SHOWN])
        raise DataError(
            f"{len(doubles)} image(s) are in two feature stores ({shown}); name stores of different pictures"
        )


class PixelSettings(Config):
    """How a model of pixels gets its pictures."""

    shards: Stores = ()  # picture shards (`corpora pack`); by default the records' files are read
    preparation: Preparation = "upright"
    # Pixels of a picture's side, a multiple of a patch; null: the model's image_size. For another its position table
    # is interpolated: the release fine-tunes at 384 what it has pre-trained at 224.
    side: int | None = Field(None, gt=0, le=1 << 14)
    augmentation: Augmentation = Augmentation()  # of training pictures


def open_images(
    records: Sequence[Pair | Image],
    folder: Path,
    regions: Stores,
    config: Any,
    max_regions: int,
    pixels: PixelSettings | None = None,
) -> Images:
    """The pictures of some records as the model of these sizes reads them.

    Args:
        folder: that the records' paths are relative to; only pixels are read from there.
        regions: feature stores, for a model of regions.
        pixels: for a model of pixels.

    Raises:
        ConfigError: a model of regions without a store, or of other features; one of pixels with a store, or pictures
            whose side is no multiple of its patches.
        DataError: a picture is not in the store or the shards, or has no file.
    """
    if described(config).images == "regions":
        if not regions:
            raise ConfigError("this model reads regions: name the feature store (regions=..., --regions)")
        return open_regions(regions, config, max_regions)
    if regions:
        raise ConfigError(f"this model reads pixels, not regions: leave out the feature store {', '.join(regions)}")
    return open_pixels(records, folder, config, pixels or PixelSettings())


def open_pixels(records: Sequence[Pair | Image], folder: Path, config: Any, settings: PixelSettings) -> PixelImages:
    """The pictures of some records as pixels, for a model of these sizes; see `open_images`."""
    files: PictureFiles
    side, patch = settings.side or config.image_size, config.resolution
    if side % patch:
        raise ConfigError(f"side ({side}) is no multiple of a patch of this model, resolution ({patch})")
    if settings.shards:
        files = Together([PictureShards(find(path)) for path in settings.shards])
        missing = [record.image_id for record in records if record.image_id not in files]
        if missing:
            raise DataError(
                f"{len(missing):,} of {len(records):,} pictures are not in the shards {', '.join(settings.shards)}, "
                f"such as {', '.join(map(repr, missing[:SHOWN]))}; pack them too"
            )
    else:
        paths = {record.image_id: folder / record.image for record in records}
        absent = [str(path) for path in paths.values() if not path.is_file()]
        if absent:
            raise DataError(f"{len(absent)} picture file(s) do not exist, such as {', '.join(absent[:SHOWN])}")
        files = FolderPictures(paths)
    return PixelImages(files, side, patch, settings.preparation, settings.augmentation)


def trainable(records: Sequence[R], images: Images) -> list[R]:
    """The records to train on: those whose pictures a feature store lists as rejected are left out, with a count.

    Raises:
        DataError: another picture is missing, or all of them are.
    """
    if not isinstance(images, RegionImages) or all(record.image_id in images for record in records):
        return list(records)
    rejected = {image_id for store in images.stores for image_id in _rejects(store.path)}
    kept = [record for record in records if record.image_id in images or record.image_id not in rejected]
    images.positions([record.image_id for record in kept or records])  # raises for those that nobody rejected
    left_out = "the others, which were rejected when it was made, are left out"
    say(f"notice: {len(kept):,} of {len(records):,} pictures have regions in {images.places}; {left_out}")
    return kept


def _rejects(store: Path) -> list[str]:
    """Ids of the pictures that could not be added to a feature store (data_prep/stage.py writes the list)."""
    path = store / "rejects.jsonl"
    try:
        return [json.loads(line)["id"] for line in path.read_bytes().splitlines()] if path.exists() else []
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error!r}); restore it, or run the command that made the store") from error


def open_regions(regions: Stores, config: Any, max_regions: int) -> RegionImages:
    """The regions of one or more feature stores, for a model of these sizes; see `open_store`."""
    return RegionImages([open_store(path, config) for path in regions], max_regions)


def open_store(path: str, config: Any) -> FeatureStore:
    """A feature store whose features have the size that the model reads.

    Raises:
        ConfigError: they have not, or the model reads no regions.
    """
    if described(config).images != "regions":
        raise ConfigError(f"this model reads {described(config).images or 'no features'}, not the regions of {path}")
    store = FeatureStore(find(path))
    if store.feature_dim != config.image_embedding_size:
        raise ConfigError(
            f"feature store {path} has {store.feature_dim}-d features, the model reads {config.image_embedding_size}-d "
            "ones (image_embedding_size); extract regions with the extractor that the model was trained on"
        )
    return store
