"""Safetensors files written one array at a time, so that never more than one is held."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "int32": "I32"}
DTYPES |= {"bool": "BOOL", "uint8": "U8"}


def write_safetensors(path: Path, shapes: dict[str, tuple[str, list[int]]], arrays: Iterable[np.ndarray]) -> None:
    """`write_safetensors_to` a new file."""
    with open(path, "wb") as file:
        write_safetensors_to(file, shapes, arrays)


def write_safetensors_to(
    file: BinaryIO,
    shapes: dict[str, tuple[str, list[int]]],
    arrays: Iterable[np.ndarray],
    metadata: dict[str, str] | None = None,
) -> None:
    """Write arrays as they come, so that never more than one is held; the library's writer copies them all.

    Args:
        shapes: dtype name and shape per tensor, in the order of `arrays`.
        metadata: texts for the header.
    """
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    start = 0
    for name, (dtype, shape) in shapes.items():
        end = start + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        file.write(np.ascontiguousarray(array).data)
