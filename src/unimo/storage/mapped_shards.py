"""A folder of safetensors shards: its index, and arrays as views of memory maps, read when they are looked at."""

import json
import math
import mmap
import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np

from unimo.errors import DataError

_DTYPES = {"F16": np.float16, "F32": np.float32, "I32": np.int32, "I64": np.int64}
_DTYPES |= {"U16": np.uint16, "U32": np.uint32}
Layout = Mapping[str, tuple[type, tuple[int, ...]]]


def read_index(folder: Path, kind: str, form: str, version: int, keys: Set[str], hint: str) -> dict[str, Any]:
    """The index.json of a folder.

    Args:
        kind: what the folder should be, for people: "a feature store".
        form, version: the format's name, and the highest version that is understood.
        keys: that it must have.
        hint: what makes such a folder.

    Raises:
        DataError: it is missing, foreign, damaged or newer.
    """
    file = folder / "index.json"
    try:
        header = json.loads(file.read_bytes())
        if header["format"] == form and header["version"] <= version and header.keys() >= keys:
            return header
        found = f"{header['format']!r} version {header['version']} with the keys {', '.join(sorted(header))}"
    except FileNotFoundError:
        raise DataError(f"no {kind.removeprefix('a ')} at {folder}: it has no index.json; {hint}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} is damaged: it is not the index of {kind} ({error!r}); {hint}") from error
    raise DataError(
        f"{file}: it is {found}; expected {form!r} up to version {version} with {', '.join(sorted(keys))}. "
        "A higher version needs a newer release of this program"
    )


def map_arrays(file: Path, size: int, layout: Layout, hint: str) -> dict[str, np.ndarray]:
    """Read-only arrays over a memory map of one shard, checked against what the index says of it.

    safetensors' own reader copies a slice; a view needs only the offsets, which the file states in its JSON head.

    Args:
        size: bytes that the file must have.
        layout: array name -> dtype and shape that the file must hold.
        hint: what the reader of an error can do.

    Raises:
        DataError: the file is missing, cut short or not what the index says.
    """
    try:
        with open(file, "rb") as opened:
            found = os.fstat(opened.fileno()).st_size
            if found != size:
                raise DataError(f"{file} has {found} bytes, the index says {size}; {hint}")
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(mapped[:8], "little")
        entries = json.loads(mapped[8:start])
        arrays = {}
        for name, (dtype, shape) in layout.items():
            entry = entries[name]
            if _DTYPES.get(entry["dtype"]) != dtype or tuple(entry["shape"]) != shape:
                raise DataError(
                    f"{file}: {name} is {entry['dtype']} {entry['shape']}, the index says "
                    f"{np.dtype(dtype).name} {list(shape)}; {hint}"
                )
            flat = np.frombuffer(mapped, dtype, math.prod(shape), offset=start + entry["data_offsets"][0])
            arrays[name] = flat.reshape(shape)
        return arrays
    except FileNotFoundError:
        raise DataError(f"{file} is missing; {hint}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} is not a shard of this store ({error!r}); {hint}") from error
