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

from unimo.errors import DataError

_DTYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32, "I64": np.int64}
_DTYPES |= {"U16": np.uint16, "U32": np.uint32}
Layout = Mapping[str, tuple[type, tuple[int, ...]]]


def read_index(
    folder: Path,
    kind: str,
    form: str,
    version: int,
    keys: Mapping[str, type],
    hint: str,
    counts: Sequence[str] = ("rows",),
) -> dict[str, Any]:
    """The index.json of a folder.

    Args:
        kind: what the folder should be, for people: "a feature store".
        form, version: the format's name, and the highest version that is understood.
        keys: that it must have besides, and their types; `object` is any.
        hint: what makes such a folder.
        counts: what each entry of `shards` says besides its file, bytes and sha256, where the folder has such.

    Raises:
        DataError: it is missing, foreign, damaged or newer.
    """
    file = folder / "index.json"
    try:
        header = json.loads(file.read_bytes())
        if header["format"] == form and header["version"] <= version and header.keys() >= keys.keys():
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
    texts = isinstance(shard["file"], str) and isinstance(shard["sha256"], str)
    numbers = all(type(shard[key]) is int and 0 <= shard[key] < 1 << 62 for key in ("bytes", *counts))
    return texts and numbers and Path(shard["file"]).name == shard["file"]


class MappedShard:
    """Read-only arrays over a memory map of one shard, checked against what the index says of it.

    safetensors' own reader copies a slice; a view needs only the offsets, which the file states in its JSON head.

    Args:
        said: the index's entry, of which `bytes` and `sha256` are used.
        layout: array name -> dtype and shape that the file must hold.
        hint: what the reader of an error can do.

    Raises:
        DataError: the file is missing, cut short or not what the index says.
    """

    def __init__(self, file: Path, said: Mapping[str, Any], layout: Layout, hint: str):
        self.file, self.size, self.sha256, self.hint = file, said["bytes"], said["sha256"], hint
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
            verify: the first time, compare the file's sha256, which reads all of it.

        Raises:
            DataError: the file was cut, or its bytes are others than were written.
        """
        self._check_size(self._mapped.size())
        if verify and not self._verified:
            with self._lock:
                if not self._verified and hashlib.sha256(self._mapped).hexdigest() != self.sha256:
                    raise DataError(f"{self.file}: content changed since it was written (sha256 differs); {self.hint}")
                self._verified = True
        return self._arrays

    def _check_size(self, found: int) -> None:
        if found != self.size:
            raise DataError(f"{self.file} has {found} bytes, the index says {self.size}; {self.hint}")
