"""Any foreign file of named tensors, opened lazily and without running code: `open_tensors`.

What a file is shows in its bytes, not in its name: `.bin`, `.pt` and `.pth` name several formats.
"""

import json
import math
import re
import zipfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from unimo.errors import CheckpointError
from unimo.port.files.mapped import array_in, checked_sizes, damage, map_file, stored_entry, zip_entries
from unimo.port.files.pickles import open_pdparams
from unimo.port.files.torch_files import LEGACY_MAGIC, open_torch
from unimo.port.weights import Lazy, Stored, of_array
from unimo.storage.bfloat16 import widen_bfloat16

# what a folder of weights may hold, in the order in which they are looked for
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "model_state.pdparams",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_MAX_INDEX = 1 << 24  # bytes of json; an entry takes about 80
_SAFETENSORS = {
    "BOOL": "b1",
    "U8": "u1",
    "I8": "i1",
    "I16": "i2",
    "U16": "u2",
    "I32": "i4",
    "U32": "u4",
    "I64": "i8",
    "U64": "u8",
    "F16": "f2",
    "BF16": "u2",
    "F32": "f4",
    "F64": "f8",
}
# numpy/lib/format.py: magic, version 1 (uint16 length) to 3 (uint32 length), a dict literal, spaces, newline.
# "|V2" is bfloat16: jax saves it so.
_NPY = re.compile(
    rb"\x93NUMPY(?:\x01\0(?P<short>..)|[\x02\x03]\0(?P<long>....))(?P<header>"
    rb"\{'descr': '(?P<kind>[<|](?:b1|[iu][1248]|f[248]|V2))', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>[0-9, ]*)\),? *\} *\n)",
    re.DOTALL,
)
_NPY_START = 1024  # bytes; a header takes 128


def kind_of(path: str | Path) -> str:
    """What a file's first bytes say that it is: "safetensors", "index", "torch", "pdparams", "npz", "variable"
    (one or, in a combined file, many variables of the release) or "unknown".

    Raises:
        CheckpointError: no such file, not a regular file, empty, or not readable.
    """
    path = Path(path)
    data = map_file(path)
    head = bytes(data[:64])
    if head.startswith(b"PK\3\4"):
        with damage(path, "a zip file"):
            return "torch" if any(name.endswith("/data.pkl") for name in zip_entries(path, data)) else "npz"
    if head.startswith(LEGACY_MAGIC):
        return "torch"
    if head.startswith(b"\x80") and head[1:2] in (b"\2", b"\3", b"\4"):
        return "pdparams"
    if head[8:9] == b"{" and head[6:8] == b"\0\0":  # the length of a header; a text has no zeros there
        return "safetensors"
    if head.lstrip().startswith(b"{"):
        return "index"
    return "variable" if len(head) >= 20 and not any(head[:16]) else "unknown"


def open_tensors(path: str | Path) -> dict[str, Stored]:
    """The tensors of a weight file, of an index of several, or of a folder with one of WEIGHT_FILES, by name.

    bfloat16 becomes float32 on read; numbers and texts beside the tensors are left out. NaN is read as it is.

    Raises:
        CheckpointError: no such file, of another kind, damaged, hostile, or its values do not fit its size.
    """
    path = Path(path)
    if path.is_dir():
        found = [name for name in WEIGHT_FILES if (path / name).exists()]
        if not found:
            raise CheckpointError(f"{path} holds no weights; expected one of {', '.join(WEIGHT_FILES)}")
        path = _inside(path, found[0])
    kind = kind_of(path)
    if kind not in _READERS:
        raise CheckpointError(
            f"{path} is {'a file of the release, without names' if kind == 'variable' else 'of an unknown kind'}; "
            f"expected one of {', '.join(_READERS)}"
        )
    return _READERS[kind](path)


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder itself.

    Raises:
        CheckpointError: the name or a symbolic link leads elsewhere.
    """
    path = folder / name
    if name != path.name or not path.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(f"{name[:200]!r} leads out of {folder}; put a copy of the file itself there")
    return path


def _open_safetensors(path: Path) -> dict[str, Stored]:
    """The library checks the file (offsets in order, no gaps, no overlap, sizes); the values are mapped here."""
    data = map_file(path)
    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: expected a safetensors file, got: {error}") from error
    with damage(path, "a safetensors file"):
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(str(data[8:start], "utf-8"))
        header.pop("__metadata__", None)
        return {name: _safetensor(data[start:], name, entry) for name, entry in header.items()}


def _safetensor(values: memoryview, name: str, entry: dict) -> Stored:
    if entry["dtype"] not in _SAFETENSORS:
        raise ValueError(f"{name[:200]!r}: data type {entry['dtype']}, expected one of {', '.join(_SAFETENSORS)}")
    dtype, (first, last) = np.dtype(_SAFETENSORS[entry["dtype"]]).newbyteorder("<"), entry["data_offsets"]
    array = array_in(values[first:last], dtype, checked_sizes(entry["shape"]))
    return _widened(array) if entry["dtype"] == "BF16" else of_array(array)


def _widened(array: np.ndarray) -> Stored:
    return Lazy(array.shape, lambda: widen_bfloat16(array))


def _open_index(path: Path) -> dict[str, Stored]:
    """`weight_map` of an index names a file of the same folder for each tensor."""
    data = map_file(path)
    if len(data) > _MAX_INDEX:
        raise CheckpointError(f"{path}: a json file of {len(data)} bytes, expected an index of at most {_MAX_INDEX}")
    with damage(path, "an index of weight files"):
        index = json.loads(str(data, "utf-8"))
        places = index.get("weight_map")
        if type(places) is not dict or any(type(place) is not str for place in places.values()):
            raise ValueError("no weight_map from tensors to files")
        files = {}
        for name in dict.fromkeys(places.values()):
            shard = _inside(path.parent, name)
            if kind_of(shard) == "index":
                raise ValueError(f"the index {name!r} inside an index")
            files[name] = open_tensors(shard)
    missing = [name for name, place in places.items() if name not in files[place]]
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} tensors are not in the files it names, first {missing[:3]}")
    return {name: files[place][name] for name, place in places.items()}


def _open_npz(path: Path) -> dict[str, Stored]:
    data = map_file(path)
    with damage(path, "an npz file of numbers"):
        entries = zip_entries(path, data)
        if not entries or not all(name.endswith(".npy") for name in entries):
            raise ValueError(f"a zip file of {list(entries)[:3]}")
        return {name.removesuffix(".npy"): _npy(path, data, info) for name, info in entries.items()}


def _npy(path: Path, data: memoryview, info: zipfile.ZipInfo) -> Stored:
    """An entry of an npz file: a view of the file where it is stored as it is, else unpacked when it is read."""
    plain = info.compress_type == zipfile.ZIP_STORED
    found = _NPY.match(stored_entry(data, info)[:_NPY_START] if plain else _unpack(path, info, _NPY_START))
    if not found or int.from_bytes(found["short"] or found["long"], "little") != len(found["header"]):
        raise ValueError(f"{info.filename[:200]!r}: no header of an array of little endian numbers")
    shape = checked_sizes([int(size) for size in found["shape"].split(b",") if size.strip()])
    kind = found["kind"].decode()
    dtype = np.dtype("<u2") if kind == "|V2" else np.dtype(kind)
    if info.file_size - found.end() != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{info.filename[:200]!r}: {info.file_size} bytes, which do not fit {kind} {list(shape)}")

    def make() -> np.ndarray:
        with damage(path, "an npz file of numbers"):
            whole = stored_entry(data, info) if plain else _unpack(path, info, info.file_size)
            array = array_in(whole[found.end() :], dtype, shape, "F" if found["fortran"] == b"True" else "C")
        return widen_bfloat16(array) if kind == "|V2" else array

    return Lazy(shape, make, np.dtype(np.float32) if kind == "|V2" else dtype)


def _unpack(path: Path, info: zipfile.ZipInfo, most: int) -> memoryview:
    """The first bytes of a compressed entry; inside `damage`."""
    with zipfile.ZipFile(path) as file, file.open(info) as entry:
        return memoryview(entry.read(most))


_READERS = {
    "safetensors": _open_safetensors,
    "index": _open_index,
    "pdparams": open_pdparams,
    "torch": open_torch,
    "npz": _open_npz,
}
