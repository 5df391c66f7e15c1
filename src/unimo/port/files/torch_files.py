"""Files of torch.save, read without torch and without running anything: today's zip files, and the older stream.

A zip file holds `<root>/data.pkl` and one uncompressed entry `<root>/data/<key>` for each storage. The older format
(before torch 1.6, and many files of Hugging Face) is five pickles (magic number, protocol, machine, value, storage
keys) and then, for each key, an int64 count and the values. Source of both: torch/serialization.py.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimo.errors import CheckpointError
from unimo.port.files.mapped import array_in, checked_sizes, damage, map_file, stored_entry, zip_entries
from unimo.port.files.pickles import Name, Names, ordered_dict, parse
from unimo.port.weights import Stored
from unimo.storage.bfloat16 import widen_bfloat16

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"  # pickle of 0x1950a86a20f9469cfc6c
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",  # the upper half of a float32
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
_NESTED = ("state_dict", "model", "model_state_dict", "module")  # where most training programs put the weights


@dataclass
class Storage:
    """The values that one or several tensors look at; they are found only after the pickle is read."""

    key: str
    kind: str  # a key of _TYPES
    count: int
    data: memoryview = memoryview(b"")

    @property
    def stored(self) -> np.dtype:
        """Type of a value in the file, little endian; bfloat16 as the uint16 that holds it."""
        return np.dtype(_TYPES[self.kind]).newbyteorder("<")

    def place(self, data: memoryview) -> None:
        """Say where the values are.

        Raises:
            ValueError: of another size.
        """
        array_in(data, self.stored, (self.count,))
        self.data = data


@dataclass(frozen=True)
class Tensor:
    """A tensor of a torch file, as a Stored; bfloat16 becomes float32 on read."""

    storage: Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements

    @property
    def dtype(self) -> np.dtype:
        """Type of what `read` gives."""
        return np.dtype(np.float32) if self.storage.kind == "BFloat16Storage" else self.storage.stored

    def read(self) -> np.ndarray:
        """The values: a read-only view of the file, but for bfloat16, which is copied."""
        flat = np.frombuffer(self.storage.data, self.storage.stored)[self.offset :]
        strides = [stride * flat.itemsize for stride in self.strides]
        values = np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)
        return widen_bfloat16(values) if self.storage.kind == "BFloat16Storage" else values


def _tensor(arguments: tuple) -> Tensor:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])"""
    if len(arguments) not in (6, 7) or type(arguments[0]) is not Storage:
        raise ValueError("a tensor without storage, offset, size and stride")
    storage = arguments[0]
    (offset,), shape, strides = (checked_sizes(a) for a in ((arguments[1],), arguments[2], arguments[3]))
    if len(shape) != len(strides):
        raise ValueError(f"a tensor of {len(shape)} sizes and {len(strides)} strides")
    values = math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides)) if values else 0
    if values > storage.count or last >= max(storage.count, 1):
        raise ValueError(f"a tensor of shape {list(shape)} that lies outside its storage of {storage.count} values")
    return Tensor(storage, offset if values else 0, shape, strides if values else (0,) * len(shape))


def _parameter(arguments: tuple) -> Tensor:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks)"""
    if len(arguments) != 3 or type(arguments[0]) is not Tensor:
        raise ValueError("a parameter of something else than a tensor")
    return arguments[0]


TORCH: Names = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): ordered_dict,
    **{("torch", kind): None for kind in _TYPES},
}


def open_torch(path: str | Path) -> dict[str, Stored]:
    """The tensors of a file of torch.save by name; what else it holds is left out.

    They are the entries of the dict that has the most of them: the file's own, or one inside of it (state_dict, model).

    Raises:
        CheckpointError: damaged, compressed, of more than tensors and plain values, or of two such dicts.
    """
    path = Path(path)
    data = map_file(path)
    with damage(path, "a file of torch.save"):
        value = _read_legacy(data) if data[: len(LEGACY_MAGIC)] == LEGACY_MAGIC else _read_zip(path, data)
    found = {place: tensors for place, inner in _dicts(value) if (tensors := _tensors(inner))}
    if not found:
        raise CheckpointError(f"{path} holds no dict of tensors; save the model's state_dict() and nothing else")
    most = max(map(len, found.values()))
    places = [place for place, tensors in found.items() if len(tensors) == most]
    usual = [place for place in places if not place or place[-1] in _NESTED]
    if len(places) > 1 and not usual:
        names = " and ".join(".".join(place) for place in places[:3])
        raise CheckpointError(f"{path} holds {most} tensors in each of {names}; save the one that is meant alone")
    return found[(usual or places)[0]]


def _dicts(value: Any) -> list[tuple[tuple[str, ...], dict]]:
    """The dict of a file and those inside of it, two levels down, by the keys that lead there; usual keys first."""
    found: dict[int, tuple[tuple[str, ...], dict]] = {id(value): ((), value)} if type(value) is dict else {}
    for _ in range(2):
        for place, outer in list(found.values()):
            for key, inner in sorted(outer.items(), key=lambda item: _rank(item[0])):
                if type(key) is str and type(inner) is dict:
                    found.setdefault(id(inner), ((*place, key), inner))
    return list(found.values())


def _rank(key: Any) -> int:
    return _NESTED.index(key) if key in _NESTED else len(_NESTED)


def _tensors(value: Any) -> dict[str, Stored]:
    items = value.items() if type(value) is dict else ()
    return {name: tensor for name, tensor in items if type(tensor) is Tensor and type(name) is str}


def _read_zip(path: Path, data: memoryview) -> Any:
    entries = zip_entries(path, data)
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1 or f"{roots[0]}constants.pkl" in entries:
        raise ValueError("a zip file without data.pkl, or a TorchScript program; save its state_dict() instead")
    root = roots[0]
    if f"{root}byteorder" in entries and stored_entry(data, entries[f"{root}byteorder"]) != b"little":
        raise ValueError("numbers that are not little endian")
    pickled = stored_entry(data, entries[f"{root}data.pkl"])
    value, storages, end = _parse(pickled, 0)
    if end != len(pickled):
        raise ValueError(f"{len(pickled) - end} bytes behind the end of data.pkl")
    for storage in storages:
        entry = entries.get(f"{root}data/{storage.key}")
        if entry is None:
            raise ValueError(f"a zip file without the entry data/{storage.key[:100]} that its tensors need")
        storage.place(stored_entry(data, entry))
    return value


def _read_legacy(data: memoryview) -> Any:
    at, heads = 0, []
    for _ in range(3):
        head, at = parse(data, TORCH, at=at)
        heads.append(head)
    if heads[:2] != [_MAGIC, _PROTOCOL] or type(heads[2]) is not dict or heads[2].get("little_endian") is not True:
        raise ValueError("another version of torch's format, or numbers that are not little endian")
    value, storages, at = _parse(data, at)
    keys, at = parse(data, TORCH, at=at)
    known: dict[str, list[Storage]] = {}
    for storage in storages:
        known.setdefault(storage.key, []).append(storage)
    if type(keys) is not list or any(type(key) is not str for key in keys) or sorted(keys) != sorted(known):
        raise ValueError("a list of storages that are not those of its tensors")
    for key in keys:
        start = at + 8
        at = start + known[key][0].count * known[key][0].stored.itemsize
        if at > len(data) or int.from_bytes(data[start - 8 : start], "little") != known[key][0].count:
            raise ValueError(f"a file that is cut off in storage {key[:100]}, or whose count is not its tensors'")
        for storage in known[key]:
            storage.place(data[start:at])
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the last storage")
    return value


def _parse(data: memoryview, at: int) -> tuple[Any, list[Storage], int]:
    """The value of a pickle, the storages that it mentions, and the place behind it."""
    storages: dict[tuple[str, str, int], Storage] = {}

    def storage(identifier: Any) -> Storage:
        """('storage', type, key, location, count), and None in the older format unless it is a view of another"""
        if type(identifier) is not tuple or len(identifier) not in (5, 6) or identifier[5:] not in ((), (None,)):
            raise ValueError("a reference to something else than a storage")
        _, kind, key, _, count = identifier[:5]
        if type(kind) is not Name or kind.name not in _TYPES or type(key) is not str or len(key) > 100:
            raise ValueError("a storage of an unknown kind")
        (count,) = checked_sizes((count,))
        return storages.setdefault((key, kind.name, count), Storage(key, kind.name, count))

    value, end = parse(data, TORCH, storage, at)
    return value, list(storages.values()), end
