"""Arrays of a safetensors file as views of a memory map: nothing is read before it is looked at."""

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unimo.errors import DataError

_DTYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64, "U16": np.uint16, "U32": np.uint32}
Layout = Mapping[str, tuple[type, tuple[int, ...]]]


def map_arrays(file: Path, size: int, layout: Layout, advice: str) -> dict[str, np.ndarray]:
    """Read-only arrays over a memory map of one shard, checked against what the index says of it.

    safetensors' own reader copies a slice; a view needs only the offsets, which the file states in its JSON head.

    Args:
        size: bytes that the file must have.
        layout: array name -> dtype and shape that the file must hold.
        advice: what the reader of an error can do.

    Raises:
        DataError: the file is missing, cut short or not what the index says.
    """
    try:
        with open(file, "rb") as opened:
            found = os.fstat(opened.fileno()).st_size
            if found != size:
                raise DataError(f"{file} has {found} bytes, the index says {size}; {advice}")
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(mapped[:8], "little")
        entries = json.loads(mapped[8:start])
        arrays = {}
        for name, (dtype, shape) in layout.items():
            entry = entries[name]
            if _DTYPES.get(entry["dtype"]) != dtype or tuple(entry["shape"]) != shape:
                raise DataError(
                    f"{file}: {name} is {entry['dtype']} {entry['shape']}, the index says "
                    f"{np.dtype(dtype).name} {list(shape)}; {advice}"
                )
            flat = np.frombuffer(mapped, dtype, math.prod(shape), offset=start + entry["data_offsets"][0])
            arrays[name] = flat.reshape(shape)
        return arrays
    except FileNotFoundError:
        raise DataError(f"{file} is missing; {advice}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} is not a shard of this store ({error!r}); {advice}") from error
