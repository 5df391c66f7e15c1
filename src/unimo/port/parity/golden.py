"""Recorded inputs and outputs of an original model (npz of `in_*` and `out_*` arrays): reading, checking, comparing."""

import zipfile
import zlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor

from unimo.errors import DataError

Sizes = tuple[str | int, ...]  # of an array, by symbol; "N+1" is a sum
Golden = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """Largest absolute difference of one output over its valid positions; nan if either side has a nan there."""

    name: str
    difference: float
    values: int  # how many numbers were compared

    def within(self, tolerance: float) -> bool:
        """Whether the difference is at most `tolerance`; a nan never is."""
        return self.difference <= tolerance  # False for nan


def compare(name: str, got: np.ndarray, recorded: np.ndarray, valid: np.ndarray, mask: str) -> Comparison:
    """Compare an output where `valid`, which was read off the input `mask` and indexes the leading axes.

    Raises:
        DataError: it is valid nowhere.
    """
    if not valid.any():
        raise DataError(f"{name}: {mask} masks every position of it, so there is nothing to compare")
    difference = np.abs(got[valid].astype(np.float64) - recorded[valid].astype(np.float64))
    return Comparison(name, float(difference.max()), difference.size)


def read_golden(path: Path, outputs: Iterable[str]) -> Golden:
    """All arrays of a golden file that holds some of `outputs`.

    Raises:
        DataError: not an npz of plain arrays, or other outputs or none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            golden = {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: expected an npz of in_* and out_* arrays, got: {error}") from error
    recorded = [name for name in golden if name.startswith("out_")]
    unknown = [name for name in recorded if name not in outputs]
    if unknown or not recorded:
        raise DataError(f"{path}: recorded outputs {unknown or 'none'}, expected some of {', '.join(outputs)}")
    return golden


def check(
    path: Path,
    golden: Golden,
    expected: Mapping[str, Sizes],
    sizes: Mapping[str, int],
    tables: Mapping[str, str],
    masks: Container[str],
) -> dict[str, int]:
    """All sizes by symbol, once every array of `expected` has the right shape and content.

    Args:
        sizes: symbols known before; the others are read off the first array that has them.
        tables: arrays of ids -> the symbol of the size of the table that they index.
        masks: arrays of 0 and 1.

    Raises:
        DataError: listing every missing array, wrong shape, id outside its table and mask that is not 0/1.
    """
    sizes, wrong = dict(sizes), []
    for name, symbols in expected.items():
        if name not in golden:
            wrong.append(f"{name}: missing, expected {list(symbols)}")
            continue
        array = golden[name]
        if array.ndim == len(symbols):
            for symbol, size in zip(symbols, array.shape, strict=True):
                if isinstance(symbol, str) and "+" not in symbol:
                    sizes.setdefault(symbol, size)
        shape = tuple(
            s if isinstance(s, int) else sum(int(p) if p.isdigit() else sizes.get(p, 0) for p in s.split("+"))
            for s in symbols
        )
        if array.shape != shape or 0 in shape:
            wrong.append(f"{name}: shape {list(array.shape)}, expected {list(symbols)} = {list(shape)}, none of them 0")
        elif array.dtype.kind not in ("iu" if name in tables else "iuf"):
            wrong.append(f"{name}: data type {array.dtype}, expected {'integers' if name in tables else 'numbers'}")
        elif name in tables and not 0 <= array.min() <= array.max() < sizes[tables[name]]:
            wrong.append(f"{name}: {array.min()} to {array.max()}, expected 0 to {sizes[tables[name]] - 1}")
        elif name in masks and not np.isin(array, (0, 1)).all():
            wrong.append(f"{name}: other values than 0 and 1")
    if wrong:
        raise DataError(f"{path}: {len(wrong)} problem(s)\n  - " + "\n  - ".join(wrong))
    return sizes


def ids(array: np.ndarray) -> Tensor:
    """Recorded ids without their last axis. [B, S, 1] -> [B, S] int64"""
    return paddle.to_tensor(array[..., 0].astype(np.int64))


def floats(array: np.ndarray) -> Tensor:
    """An array as a float32 tensor."""
    return paddle.to_tensor(array.astype(np.float32))
