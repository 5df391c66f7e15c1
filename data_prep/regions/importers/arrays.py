"""Formats of named arrays: UNITER's LMDB (msgpack or npz records) and folders of npz files. No pickle is ever run."""

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from data_prep.regions.importers.dump import Dump, Item, whole_number
from data_prep.regions.importers.lmdb_file import LmdbFile, Place
from data_prep.stage import Shard
from unimo.errors import DataError

LARGEST = 64 << 20  # bytes of one array: 100 boxes of 2048 float32 are 0.8 MB
# our name -> names in dumps: UNITER's, bottom-up attention's, LXMERT's and MMF's
NAMES = {
    "features": ("features", "x"),
    "boxes": ("norm_bb", "bbox", "boxes"),
    "probs": ("soft_labels", "cls_prob"),
    "conf": ("conf", "objects_conf"),
    "objects": ("objects_id", "objects"),
    "n": ("num_bbox", "num_boxes"),
    "w": ("image_w", "image_width"),
    "h": ("image_h", "image_height"),
}


def read_uniter(source: Path, shard: Shard) -> Iterator[Item]:
    """Records of UNITER's LMDB, in the order of its keys: `feat_*`, or `feat_*_compressed` (npz records).

    Raises:
        DataError: not such a database, or a damaged one.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; expected the folder of an LMDB (data.mdb)")
    with LmdbFile(source / "data.mdb" if source.is_dir() else source) as database:
        places = [(key, place) for key, place in database.items() if key != b"__keys__"]
        for key, place in tqdm(shard.of(places), desc="regions", unit="image"):
            yield key.decode("utf-8", "replace").removesuffix(".npz"), partial(_record, database, place)


def read_npz(source: Path, shard: Shard) -> Iterator[Item]:
    """The .npz files below a folder; an image id is the file's path in it without the suffix."""
    files = sorted(source.rglob("*.npz"))
    if not files:
        raise DataError(f"{source} holds no .npz file")
    for path in tqdm(shard.of(files), desc="regions", unit="image"):
        yield path.relative_to(source).with_suffix("").as_posix(), partial(_npz_file, path)


def _record(database: LmdbFile, place: Place) -> Dump:
    content = database.value(place)
    return _dump(npz_arrays(io.BytesIO(content)) if content[:2] == b"PK" else msgpack_arrays(content))


def _npz_file(path: Path) -> Dump:
    if not path.is_file():
        raise DataError("is no regular file")
    return _dump(npz_arrays(path))


def npz_arrays(source: Path | io.BytesIO) -> dict[str, np.ndarray]:
    """The arrays that NAMES lists; others, such as a pickled `info`, are not touched.

    Raises:
        DataError: no zip file, a damaged one, an array of objects or one above LARGEST.
    """
    known = {name for names in NAMES.values() for name in names}
    try:
        with zipfile.ZipFile(source) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {name: _npy(archive, info) for name, info in members.items() if name in known}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"not an npz file, or a damaged one ({error})") from error


def _npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DataError(f"{info.filename} is larger than {LARGEST >> 20} MiB")
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(stream)
    except (SyntaxError, tokenize.TokenError, MemoryError, RecursionError, TypeError, KeyError) as error:
        raise DataError(f"{info.filename} has a damaged header ({type(error).__name__})") from error
    return _array(content[stream.tell() :], dtype, shape, info.filename, "F" if fortran else "C")


def msgpack_arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of one msgpack record in the layout of msgpack_numpy: maps of nd, type, kind, shape and data.

    That library itself unpickles arrays of kind O, so it is not used.
    """
    import msgpack

    try:
        record = msgpack.unpackb(content, raw=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise DataError(f"not msgpack, or cut short ({error!r})") from error
    if not isinstance(record, dict):
        raise DataError(f"msgpack of a {type(record).__name__}, expected a map of arrays")
    known = {name for names in NAMES.values() for name in names}
    return {name: _unpacked(value, name) for name, value in record.items() if name in known}


def _unpacked(value: Any, name: str) -> np.ndarray:
    if isinstance(value, int | float):
        return np.asarray(value)
    try:
        fields = {key.decode() if isinstance(key, bytes) else key: part for key, part in value.items()}
        if fields.get("kind") not in (b"", "") or not isinstance(fields["type"], str):
            raise DataError(f"{name} is an array of objects or records, which is not read")
        return _array(fields["data"], np.dtype(fields["type"]), tuple(fields["shape"]), name)
    except (AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} is not an array of msgpack_numpy ({error!r})") from error


def _array(
    content: bytes, dtype: np.dtype, shape: tuple[int, ...], name: str, order: Literal["C", "F"] = "C"
) -> np.ndarray:
    """Raw bytes -> array; the claimed shape must account for every byte."""
    if dtype.kind not in "fiu":
        raise DataError(f"{name} holds {dtype}, expected numbers; pickled objects are not read")
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise DataError(f"{name} has the shape {shape}")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise DataError(f"{name} has {len(content)} bytes, its shape {list(shape)} of {dtype} needs others")
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _dump(arrays: Mapping[str, np.ndarray]) -> Dump:
    found = {}
    for ours, names in NAMES.items():
        if name := next((name for name in names if name in arrays), None):
            found[ours] = arrays[name]
    if not {"features", "boxes"} <= found.keys():
        raise DataError(f"has {', '.join(sorted(arrays)) or 'no known array'}; expected features or x, and boxes")
    rows = [array.shape[:1] for name, array in found.items() if name not in ("n", "w", "h")]
    n = whole_number(found["n"].reshape(-1)[:1].sum(), "num_bbox") if "n" in found else sum(found["features"].shape[:1])
    if min(rows) < (n,):
        raise DataError(f"is of {n} boxes, but one of its arrays holds fewer")
    size = None
    if {"w", "h"} <= found.keys():
        width, height = (whole_number(found[side].reshape(-1)[:1].sum(), side) for side in "wh")
        size = width, height
    return Dump(
        features=found["features"][:n],
        boxes=found["boxes"][:n],
        size=size,
        classes=1 + found["objects"][:n].astype(np.int64) if "objects" in found else None,
        scores=found["conf"][:n] if "conf" in found else None,
        class_probs=found["probs"][:n] if "probs" in found else None,
    )
