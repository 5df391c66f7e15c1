"""Region features of an image set: a folder of safetensors shards that is read by memory map and written resumably.

    index.json        format, version, extractor, class names, shards (file, bytes, rows, hashes), committed images,
                      and the XXH3 checksums of images.jsonl and of the index itself
    images.jsonl      one image a line: id, width, height, shard, first row, count
    shard_00000.safetensors, ...    one row a region: features, boxes, classes, scores,
                                                    and optionally class_probs and attributes

`index.json` is the commit point: what it does not list (a torn shard, a line too many) does not exist.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from safetensors.numpy import save
from tqdm import tqdm

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write
from unimo.storage.locks import alone
from unimo.storage.mapped_shards import (
    FAST,
    MappedShard,
    check_bytes,
    hashes,
    read_index,
    without_checksums,
    write_index,
)

FORMAT, VERSION = "unimo-features", 1
HEADER: dict[str, type] = {"feature_dim": int, "class_names": list, "extractor": dict, "class_probs": object}
IMAGES_SUM = f"images_{FAST}"  # of the committed part of images.jsonl; stores of earlier versions have none
HEADER |= {"complete": bool, "images": int, "images_bytes": int, "shards": list}


# Of an import, how the files of others were read: one way within a store, but nothing that made the features.
AS_READ = ("boxes", "size_order_swapped", "ids")


def made_by(extractor: Mapping[str, Any]) -> dict[str, Any]:
    """What made a store's features, without how they were read: stores that agree in it are of one kind."""
    return {key: value for key, value in extractor.items() if key not in AS_READ}


@dataclass(frozen=True, eq=False)
class RegionRecord:
    """Detector regions of one image, best first. Arrays that a store returns are read-only views of its files."""

    image_id: str
    width: int  # pixels
    height: int
    features: np.ndarray  # [n, feature_dim] float16
    boxes: np.ndarray  # [n, 4] float32, pixels: x1, y1, x2, y2
    classes: np.ndarray  # [n] int64, index into the store's class_names
    scores: np.ndarray  # [n] float32
    class_probs: np.ndarray | None = None  # [n, num_classes] float16
    attributes: np.ndarray | None = None  # [n] int64, 0 = none

    def locations(self) -> np.ndarray:
        """[n, 5] float32: x1/w, y1/h, x2/w, y2/h and the box's share of the image area."""
        x1, y1, x2, y2 = (self.boxes / np.array([self.width, self.height] * 2, np.float32)).T
        return np.stack([x1, y1, x2, y2, (y2 - y1) * (x2 - x1)], axis=1)


class FeatureStore:
    """Random access by image id. Opening verifies the index alone; a shard is mapped and verified when first needed.

    Raises:
        DataError: at opening for a missing, unfinished, newer, changed or inconsistent index; at reading for an unknown
            image id, and for a shard that is missing, cut short, changed or not what the index says.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.header = _read_header(self.path)
        if not self.header["complete"]:
            raise DataError(
                f"feature store {self.path} is unfinished ({self.header['images']} images so far); "
                "run the command that writes it again, it resumes"
            )
        self.feature_dim: int = self.header["feature_dim"]
        self.class_names: list[str] = self.header["class_names"]
        self.num_classes = len(self.class_names)
        self.extractor: dict[str, Any] = self.header["extractor"]
        self._rows, self._table = _read_images(self.path, self.header)
        self._shards: dict[int, MappedShard] = {}

    @property
    def ids(self) -> list[str]:
        """All image ids, in the order written."""
        return list(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

    @property
    def fingerprint(self) -> str:
        """Changes when any image, shard or the extractor changes; checksums besides sha256 do not count."""
        shown = json.dumps([without_checksums(self.header), self.ids, self._table.tolist()], sort_keys=True)
        return hashlib.sha256(shown.encode()).hexdigest()

    def counts(self, image_ids: Sequence[str]) -> np.ndarray:
        """Regions per image, without touching a shard. [len(image_ids)] int64"""
        return self._table[[self._row(i) for i in image_ids], 4]

    def read(self, image_id: str) -> RegionRecord:
        """Views of one image's rows; nothing is copied."""
        width, height, shard, first, count = self._table[self._row(image_id)].tolist()
        if shard not in self._shards:
            self._shards[shard] = _map_shard(self.path, self.header, self.header["shards"][shard])
        rows = {name: array[first : first + count] for name, array in self._shards[shard].arrays().items()}
        return RegionRecord(image_id, width, height, **rows)

    def _row(self, image_id: str) -> int:
        try:
            return self._rows[image_id]
        except KeyError:
            raise DataError(
                f"image {image_id!r} is not in feature store {self.path} ({len(self)} images, such as "
                f"{list(self._rows)[:3]}); extract its regions, or check that ids are spelt the same way"
            ) from None

    def verify(self) -> None:
        """Check every shard against its hash, size and shapes. Raises one DataError that lists all that fail."""
        problems = []
        for shard in tqdm(self.header["shards"], desc="verify", unit="shard"):
            try:
                _map_shard(self.path, self.header, shard).arrays()
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise DataError(f"feature store {self.path}: {len(problems)} bad shard(s)\n  - " + "\n  - ".join(problems))


class StoreWriter:
    """Appends records; a shard is committed when it is full, at `flush` and at `close`.

    Opening an existing folder goes on after its last committed shard; `image_id in writer` tells what can be skipped.
    As a context manager it closes on success, and on an error commits what it holds and leaves the store unfinished.

    Args:
        extractor: name and version of what made the features, and whatever else must not differ within one store.
        shard_bytes: size at which a shard is written; also the most that a kill can lose.

    Raises:
        DataError: a duplicate or malformed record, or a folder that another extractor wrote.
        ConfigError: another process writes the folder; it is held until `close`, or until this object is gone.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        feature_dim: int,
        class_names: Sequence[str],
        extractor: dict[str, Any],
        shard_bytes: int = 64 << 20,
    ):
        self.path, self.shard_bytes = Path(path), shard_bytes
        if not {"name", "version"} <= extractor.keys():
            raise DataError(f"extractor needs the keys name and version, got {sorted(extractor)}")
        fixed = {"feature_dim": feature_dim, "class_names": list(class_names), "extractor": extractor}
        self._ids: set[str] = set()
        self._images_sum = xxhash.xxh3_128()
        self._buffer: list[RegionRecord] = []
        self._buffered_bytes = 0
        self._held = ExitStack()
        self._held.enter_context(alone(self.path))
        if (self.path / "index.json").exists():
            self._header = _read_header(self.path)
            changed = [k for k, v in fixed.items() if self._header[k] != v]
            if changed:
                raise DataError(
                    f"feature store {self.path} was written with another {' and '.join(changed)}; "
                    f"write to a new folder (there: {self._header['extractor']}, now: {extractor})"
                )
            self._ids = set(_read_images(self.path, self._header)[0])
            if self._ids:
                self._images_sum.update((self.path / "images.jsonl").read_bytes()[: self._header["images_bytes"]])
        else:
            self._header = {"format": FORMAT, "version": VERSION, **fixed, "class_probs": None}
            self._header |= {"complete": False, "images": 0, "images_bytes": 0, "shards": []}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        if error_type is None:
            self.close()
        else:
            self.stop()

    def add(self, record: RegionRecord) -> None:
        """Check and buffer one image; arrays are cast to the store's dtypes."""
        if record.image_id in self._ids:
            raise DataError(f"image {record.image_id!r} is already in feature store {self.path}")
        if self._header["class_probs"] is None:
            self._header["class_probs"] = record.class_probs is not None
            if record.attributes is not None:  # a key that stores of earlier versions do not have
                self._header["attributes"] = True
        record = _checked(record, self._header)
        self._ids.add(record.image_id)
        self._buffer.append(record)
        self._buffered_bytes += sum(getattr(record, name).nbytes for name in _layout(self._header))
        if self._buffered_bytes >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Commit what is buffered as one shard: shard file, then image lines, then the index that names them."""
        if self._buffer:
            self._commit(complete=False)

    def stop(self) -> None:
        """Commit what is buffered, leave the store unfinished and let go of it; another writer goes on."""
        with self._held:
            self.flush()

    def close(self) -> None:
        """Commit the rest, mark the store finished and let go of it; another writer may add more."""
        with self._held:
            self._commit(complete=True)

    def _commit(self, complete: bool) -> None:
        header = {**self._header, "complete": complete, "shards": list(self._header["shards"])}
        images_sum = self._images_sum.copy()  # another try after an error starts from what was committed
        if self._buffer:
            number = len(header["shards"])
            name = f"shard_{number:05d}.safetensors"
            content = save({k: np.concatenate([getattr(r, k) for r in self._buffer]) for k in _layout(header)})
            with atomic_write(self.path / name) as file:
                file.write(content)
            rows = sum(len(r.features) for r in self._buffer)
            header["shards"].append({"file": name, "bytes": len(content), "rows": rows, **hashes(content)})
            lines = self._image_lines(number)
            images_sum.update(lines)
            header["images_bytes"] = self._append_images(lines)
            header["images"] += len(self._buffer)
        header[IMAGES_SUM] = images_sum.hexdigest()
        write_index(self.path, header)
        self._header, self._images_sum, self._buffer, self._buffered_bytes = header, images_sum, [], 0

    def _image_lines(self, shard: int) -> bytes:
        """The buffered images' lines."""
        first, lines = 0, []
        for r in self._buffer:
            line = {"id": r.image_id, "width": r.width, "height": r.height}
            lines.append(json.dumps(line | {"shard": shard, "first": first, "count": len(r.features)}) + "\n")
            first += len(r.features)
        return "".join(lines).encode()

    def _append_images(self, lines: bytes) -> int:
        """Write lines after the committed ones, over whatever a kill left there; new size."""
        path = self.path / "images.jsonl"
        try:
            with open(path, "ab") as file:
                file.truncate(self._header["images_bytes"])
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
                return file.tell()
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}; free some space and run again") from error


def _layout(header: dict[str, Any]) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Array name -> dtype and shape of one row, as every shard of this store holds them."""
    layout: dict[str, tuple[type, tuple[int, ...]]] = {
        "features": (np.float16, (header["feature_dim"],)),
        "boxes": (np.float32, (4,)),
        "classes": (np.int64, ()),
        "scores": (np.float32, ()),
    }
    if header["class_probs"]:
        layout["class_probs"] = (np.float16, (len(header["class_names"]),))
    if header.get("attributes"):
        layout["attributes"] = (np.int64, ())
    return layout


def _checked(record: RegionRecord, header: dict[str, Any]) -> RegionRecord:
    """The record in the store's dtypes, or a DataError that names the image and what is wrong with it."""
    where = f"image {record.image_id!r}"
    if not isinstance(record.image_id, str) or not record.image_id:
        raise DataError(f"image id must be a non-empty string, got {record.image_id!r}")
    if record.width <= 0 or record.height <= 0:
        raise DataError(f"{where}: width and height must be positive, got {record.width} x {record.height}")
    for name in ("class_probs", "attributes"):
        if (getattr(record, name) is not None) != bool(header.get(name)):
            raise DataError(f"{where}: {name} must be given for all images of a store or for none")
    n = len(record.features)
    cast: dict[str, np.ndarray] = {}
    for name, (dtype, row) in _layout(header).items():
        array = np.asarray(getattr(record, name))
        if array.shape != (n, *row):
            raise DataError(f"{where}: {name} has shape {array.shape}, expected {(n, *row)}")
        with np.errstate(over="ignore"):
            cast[name] = array.astype(dtype, order="C")  # safetensors 0.8 writes the memory as it lies
        if not np.isfinite(cast[name]).all():
            raise DataError(f"{where}: {name} holds nan, inf or a value beyond {np.dtype(dtype).name}")
    if n and not 0 <= cast["classes"].min() <= cast["classes"].max() < len(header["class_names"]):
        raise DataError(f"{where}: class index outside 0..{len(header['class_names']) - 1}")
    return replace(
        record,
        width=int(record.width),
        height=int(record.height),
        features=cast["features"],
        boxes=cast["boxes"],
        classes=cast["classes"],
        scores=cast["scores"],
        class_probs=cast.get("class_probs"),
        attributes=cast.get("attributes"),
    )


def _read_header(path: Path) -> dict[str, Any]:
    hint = "`regions extract` or `regions import` writes one"
    header = read_index(path, "a feature store", FORMAT, VERSION, HEADER, hint)
    names, numbers = header["class_names"], [header[key] for key in ("feature_dim", "images", "images_bytes")]
    if not all(isinstance(name, str) for name in names) or min(numbers) < 0:
        raise DataError(
            f"{path / 'index.json'} is damaged: class names {str(names)[:100]} and sizes {numbers}, expected texts and "
            f"numbers from 0 on; {hint}"
        )
    return header


def _read_images(path: Path, header: dict[str, Any]) -> tuple[dict[str, int], np.ndarray]:
    """Image id -> row of a table [images, 5] int64: width, height, shard, first row, count."""
    file = path / "images.jsonl"
    try:
        content = file.read_bytes()[: header["images_bytes"]] if header["images"] else b""
        if len(content) == header["images_bytes"]:
            check_bytes(file, content, header.get(IMAGES_SUM), "restore it from a copy, or extract the regions again")
        lines = [json.loads(line) for line in content.splitlines()]
        rows = {line["id"]: i for i, line in enumerate(lines)}
        keys = ("width", "height", "shard", "first", "count")
        table = np.array([[line[k] for k in keys] for line in lines], np.int64).reshape(-1, 5)
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise DataError(f"{file} is missing or damaged ({error}); restore it or extract the regions again") from error
    sizes = np.array([s["rows"] for s in header["shards"]], np.int64)
    if len(rows) != header["images"] or len(lines) != header["images"]:
        raise DataError(f"{file} holds {len(rows)} images, index.json says {header['images']}; restore both files")
    if len(content) != header["images_bytes"]:
        raise DataError(
            f"{file} has {len(content)} bytes, index.json says {header['images_bytes']}; restore both files"
        )
    shard, first, count = table[:, 2:].T
    if len(rows) and not ((0 <= shard) & (shard < len(sizes)) & (0 <= first) & (0 <= count)).all():
        raise DataError(f"{file} points to shards or rows that do not exist; restore it from a copy")
    if len(rows) and (first + count > sizes[shard]).any():
        raise DataError(f"{file} points to rows past the end of a shard; restore it from a copy")
    return rows, table


def _map_shard(path: Path, header: dict[str, Any], shard: dict[str, Any]) -> MappedShard:
    layout = {name: (dtype, (shard["rows"], *row)) for name, (dtype, row) in _layout(header).items()}
    hint = "restore it from a copy, or extract the regions again into a new folder"
    return MappedShard(path / shard["file"], shard, layout, hint)
