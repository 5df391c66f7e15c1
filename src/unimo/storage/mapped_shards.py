"""A folder of safetensors shards: its index, and arrays as views of memory maps, read when they are looked at."""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import xxhash

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write

_DTYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32, "I64": np.int64}
_DTYPES |= {"U16": np.uint16, "U32": np.uint32}
Layout = Mapping[str, tuple[type, tuple[int, ...]]]
FAST = "xxh3_128"  # a checksum at the speed of memory: of an index in it, of a shard in its entry
_CHANGED = "content changed since it was written (its checksum differs)"


def write_index(folder: Path, header: Mapping[str, Any]) -> None:
    """Write the index.json of a folder, atomically, with the checksum that `read_index` compares."""
    with atomic_write(folder / "index.json") as file:
        file.write(json.dumps({**header, FAST: _sum(header)}, indent=1).encode())


def _sum(header: Mapping[str, Any]) -> str:
    """The XXH3 checksum of what a header says, however it is laid out."""
    return xxhash.xxh3_128_hexdigest(json.dumps(header, sort_keys=True).encode())


def hashes(content: bytes) -> dict[str, str]:
    """What an index says of a shard: a hash that others can check, and one that is compared at each first read."""
    return {"sha256": hashlib.sha256(content).hexdigest(), FAST: xxhash.xxh3_128_hexdigest(content)}


def without_checksums(header: Any) -> Any:
    """A header as versions before the fast checksums wrote it, so that equal content is told by equal headers."""
    if isinstance(header, dict):
        return {key: without_checksums(value) for key, value in header.items() if not key.endswith(FAST)}
    return [without_checksums(value) for value in header] if isinstance(header, list) else header


def check_bytes(file: Path, content: bytes, said: str | None, hint: str) -> None:
    """Raise one DataError where the content of a file has another checksum than is said of it, if one is."""
    if said is not None and xxhash.xxh3_128_hexdigest(content) != said:
        raise DataError(f"{file}: {_CHANGED}; {hint}")


def read_index(
    folder: Path,
    kind: str,
    form: str,
    version: int,
    keys: Mapping[str, type],
    hint: str,
    counts: Sequence[str] = ("rows",),
) -> dict[str, Any]:
    """The index.json of a folder, without its own checksum, which those of earlier versions lack.

    Args:
        kind: what the folder should be, for people: "a feature store".
        form, version: the format's name, and the highest version that is understood.
        keys: that it must have besides, and their types; `object` is any.
        hint: what makes such a folder.
        counts: what each entry of `shards` says besides its file, bytes and sha256, where the folder has such.

    Raises:
        DataError: it is missing, foreign, damaged, changed or newer.
    """
    file = folder / "index.json"
    try:
        content = file.read_bytes()
        header = json.loads(content)
        said = header.pop(FAST, None)
        if header["format"] == form and header["version"] <= version and header.keys() >= keys.keys():
            if said != _sum(header) if said is not None else FAST.encode() in content:  # else its key was damaged
                raise DataError(f"{file}: {_CHANGED}; restore it from a copy. Else: {hint}")
            if wrong := [key for key, of in keys.items() if of is not object and type(header[key]) is not of]:
                raise DataError(f"{file} is damaged at {', '.join(wrong)}; restore it from a copy. Else: {hint}")
            if not all(_is_entry(shard, counts) for shard in header.get("shards", ())):
                raise ValueError("an entry of its shards is none")
            return header
        found = f"{header['format']!r} version {header['version']} with the keys {', '.join(sorted(header))}"
    except FileNotFoundError:
        raise DataError(f"no {kind.removeprefix('a ')} at {folder}: it has no index.json; {hint}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{file} is damaged: it is not the index of {kind} ({error!r}); {hint}") from error
    raise DataError(
        f"{file}: it is {found}; expected {form!r} up to version {version} with {', '.join(sorted(keys))}. "
        "A higher version needs a newer release of this program"
    )


def _is_entry(shard: Any, counts: Sequence[str]) -> bool:
    """Whether an entry of an index says what it must of a shard; its file lies in the folder."""
    if not isinstance(shard, dict) or not {"file", "sha256", "bytes", *counts} <= shard.keys():
        return False
    texts = all(isinstance(shard.get(key, ""), str) for key in ("file", "sha256", FAST))
    numbers = all(type(shard[key]) is int and 0 <= shard[key] < 1 << 62 for key in ("bytes", *counts))
    return texts and numbers and Path(shard["file"]).name == shard["file"]


class MappedShard:
    """Read-only arrays over a memory map of one shard, checked against what the index says of it.

    safetensors' own reader copies a slice; a view needs only the offsets, which the file states in its JSON head.

    Args:
        said: the index's entry, of which `bytes` and `xxh3_128` are used, or `sha256` where an earlier version made it.
        layout: array name -> dtype and shape that the file must hold.
        hint: what the reader of an error can do.

    Raises:
        DataError: the file is missing, cut short or not what the index says.
    """

    def __init__(self, file: Path, said: Mapping[str, Any], layout: Layout, hint: str):
        self.file, self.size, self.hint = file, said["bytes"], hint
        self._fast = FAST in said
        self._said = said[FAST if self._fast else "sha256"]
        self._lock, self._verified = Lock(), False
        try:
            with open(file, "rb") as opened:
                self._check_size(os.fstat(opened.fileno()).st_size)
                self._mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self._arrays = self._views(layout)
        except FileNotFoundError:
            raise DataError(f"{file} is missing; {hint}") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{file} is not a shard of this store ({error!r}); {hint}") from error

    def _views(self, layout: Layout) -> dict[str, np.ndarray]:
        start = 8 + int.from_bytes(self._mapped[:8], "little")
        entries = json.loads(self._mapped[8:start])
        arrays = {}
        for name, (dtype, shape) in layout.items():
            entry = entries[name]
            if _DTYPES.get(entry["dtype"]) != dtype or tuple(entry["shape"]) != shape:
                raise DataError(
                    f"{self.file}: {name} is {entry['dtype']} {entry['shape']}, the index says "
                    f"{np.dtype(dtype).name} {list(shape)}; {self.hint}"
                )
            flat = np.frombuffer(self._mapped, dtype, math.prod(shape), offset=start + entry["data_offsets"][0])
            arrays[name] = flat.reshape(shape)
        return arrays

    def arrays(self, verify: bool = True) -> Mapping[str, np.ndarray]:
        """The arrays, for a look now: a file that was cut since it was mapped would end the process by SIGBUS.

        Args:
            verify: the first time, compare the file's hash, which reads all of it.

        Raises:
            DataError: the file was cut, or its bytes are others than were written.
        """
        self._check_size(self._mapped.size())
        if verify and not self._verified:
            with self._lock:
                if not self._verified and self._hash() != self._said:
                    raise DataError(f"{self.file}: {_CHANGED}; {self.hint}")
                self._verified = True
        return self._arrays

    def _hash(self) -> str:
        return xxhash.xxh3_128_hexdigest(self._mapped) if self._fast else hashlib.sha256(self._mapped).hexdigest()

    def _check_size(self, found: int) -> None:
        if found != self.size:
            raise DataError(f"{self.file} has {found} bytes, the index says {self.size}; {self.hint}")
