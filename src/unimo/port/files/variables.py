"""The original release's checkpoint on disk: a folder of one LoD-tensor file per variable, named after the variable.

One file, little endian (Fluid's SerializeToStream): uint32 0 (LoD tensor version), uint64 number of LoD levels,
uint32 0 (tensor version), int32 size of a protobuf TensorDesc, that TensorDesc (field 1 data type, field 2 repeated
int64 dims), raw values. Paddle's own reader takes a truncated file and gives garbage for the rest; this one checks
every length against the size of the file before it allocates anything, and runs no code. Values are memory-mapped.

A combined file (save_persistables with a file name) holds such records one after another, in the order of the sorted
variable names and without the names.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unimo.errors import CheckpointError
from unimo.port.weights import Stored
from unimo.storage.atomic import atomic_write

# numbers of VarType.Type in Paddle's framework.proto
DTYPES = {0: np.bool_, 2: np.int32, 3: np.int64, 4: np.float16, 5: np.float32, 6: np.float64}
_CODES = {np.dtype(t): code for code, t in DTYPES.items()}
_REFUSED = {1: "INT16", 19: "SIZE_T", 20: "UINT8", 21: "INT8", 22: "BF16", 23: "COMPLEX64", 24: "COMPLEX128"}
_MAX_RANK = 9  # Paddle's DDim::kMaxRank
_MAX_DESC = 128  # bytes; data type and 9 dims of 11 bytes each
_HEADER = struct.Struct("<IQIi")  # LoD tensor version, LoD levels, tensor version, size of TensorDesc
# word_embedding, image_emb.w_0_moment1_0, and UNIMO-2's text.word_embedding; but not notes.txt
_PLAIN_NAME = re.compile(r"@?((text|vit|grounded)\.)?[A-Za-z]\w*(\.[a-z]+_\w+)?@?", re.ASCII)


@dataclass(frozen=True)
class Variable:
    """Checked header of a variable."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int  # bytes of the file before the values

    @property
    def end(self) -> int:
        """Bytes of the file up to the end of the values."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize  # Python integers: no overflow

    def read(self) -> np.ndarray:
        """The values as a read-only memory map."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def list_variables(folder: str | Path) -> tuple[dict[str, Path], list[str]]:
    """Variable files of a folder by name, and the names of other files, which are not opened.

    Sub-folders and hidden files are passed over.

    Raises:
        CheckpointError: no such folder, no variable file in it, or a symbolic link that leads out of it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} {kind}; expected an unpacked folder with one file per variable")
    variables, others, root = {}, [], folder.resolve()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise CheckpointError(f"{path} is a symbolic link to {path.resolve()}, outside the checkpoint folder")
        if path.is_file() and _PLAIN_NAME.fullmatch(path.name):
            variables[path.name] = path
        else:
            others.append(path.name)
    if not variables:
        raise CheckpointError(f"{folder} holds no variable file; expected files such as {folder / 'word_embedding'}")
    return variables, others


def open_variable(path: str | Path) -> Variable:
    """Read and check the header of one variable file.

    Raises:
        CheckpointError: the file is truncated or oversized, of another version, data type or kind.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            variable = _header(path, file, size)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if variable.end != size:
        raise CheckpointError(
            f"{path}: {size} bytes, expected exactly {variable.end} for {variable.dtype.name} {list(variable.shape)}"
        )
    return variable


def open_combined(path: str | Path) -> list[Variable]:
    """Read and check the headers of a combined file's variables, in their order.

    Raises:
        CheckpointError: naming the first record that is truncated, of another version, data type or kind.
    """
    path = Path(path)
    variables: list[Variable] = []
    try:
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file; expected the combined file of a release")
        with path.open("rb") as file:
            size, end = path.stat().st_size, 0
            while end < size or not variables:
                file.seek(end)
                try:
                    variable = _header(path, file, size - end, start=end)
                    if variable.end > size:
                        raise CheckpointError(f"{path}: {size} bytes, expected at least {variable.end}")
                except CheckpointError as error:
                    raise CheckpointError(f"{error} (variable {len(variables) + 1}, at byte {end})") from error
                variables.append(variable)
                end = variable.end
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    return variables


def _header(path: Path, file: BinaryIO, size: int, start: int = 0) -> Variable:
    """Check everything in front of the values. `size` counts the bytes from `start`, where `file` stands."""
    head = file.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise CheckpointError(f"{path}: {size} bytes, expected at least the {_HEADER.size} bytes of a header")
    lod_version, lod_levels, version, desc_size = _HEADER.unpack(head)
    if lod_levels and not lod_version:
        raise CheckpointError(f"{path}: {lod_levels} LoD levels, expected 0; parameters have none")
    if lod_version or version:
        raise CheckpointError(f"{path}: tensor versions {lod_version} and {version}, expected 0 and 0")
    most = min(_MAX_DESC, size - _HEADER.size)
    if not 0 < desc_size <= most:
        raise CheckpointError(f"{path}: a TensorDesc of {desc_size} bytes, expected 1 to {most}")
    code, dims = _tensor_desc(path, file.read(desc_size))
    if code not in DTYPES:
        known = ", ".join(f"{np.dtype(t).name} ({c})" for c, t in DTYPES.items())
        raise CheckpointError(f"{path}: data type {_REFUSED.get(code, 'unknown')} ({code}), expected one of {known}")
    if len(dims) > _MAX_RANK or any(d <= 0 for d in dims):
        raise CheckpointError(f"{path}: dims {dims}, expected at most {_MAX_RANK} positive ones")
    return Variable(path, np.dtype(DTYPES[code]).newbyteorder("<"), tuple(dims), start + _HEADER.size + desc_size)


def _tensor_desc(path: Path, desc: bytes) -> tuple[int, list[int]]:
    """Data type number and dims of a TensorDesc; proto2 writes each dim with its own key."""
    code, dims, at = None, [], 0
    while at < len(desc):
        key, at = _varint(path, desc, at)
        value, at = _varint(path, desc, at)
        if key == 0x08:  # field 1, varint
            code = value
        elif key == 0x10:  # field 2, varint
            dims.append(value)
        else:
            raise CheckpointError(f"{path}: protobuf key {key} in its TensorDesc, expected data type (8) and dims (16)")
    if code is None:
        raise CheckpointError(f"{path}: its TensorDesc names no data type; this is not a variable file")
    return code, dims


def _varint(path: Path, data: bytes, at: int) -> tuple[int, int]:
    """Signed 64-bit protobuf varint at `at`, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            value &= (1 << 64) - 1
            return (value - (1 << 64) if value >> 63 else value), at
    raise CheckpointError(f"{path}: a number of its TensorDesc does not end, expected at most 10 bytes inside it")


def write_folder(folder: str | Path, variables: Mapping[str, np.ndarray | Stored]) -> None:
    """Write each tensor as one variable file, byte for byte as Paddle does; each file appears whole or not at all.

    Raises:
        CheckpointError: a name that is no plain variable name, or a data type that the format does not hold here.
    """
    _check_names_and_types(variables)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, variable in variables.items():
        with atomic_write(folder / name) as file:
            _write(file, variable)


def write_combined(path: str | Path, variables: Mapping[str, np.ndarray | Stored]) -> None:
    """Write all tensors as one combined file, byte for byte as Paddle does; it appears whole or not at all.

    Raises:
        CheckpointError: as `write_folder`.
    """
    _check_names_and_types(variables)
    with atomic_write(path) as file:
        for name in sorted(variables):
            _write(file, variables[name])


def _check_names_and_types(variables: Mapping[str, np.ndarray | Stored]) -> None:
    bad = [f"{n} ({v.dtype})" for n, v in variables.items() if not _PLAIN_NAME.fullmatch(n) or v.dtype not in _CODES]
    if bad or not variables:
        raise CheckpointError(f"cannot be written as variables: {', '.join(bad) or 'no tensor at all'}")


def _write(file: BinaryIO, variable: np.ndarray | Stored) -> None:
    array = variable if isinstance(variable, np.ndarray) else variable.read()
    desc = b"\x08" + _encode(_CODES[array.dtype]) + b"".join(b"\x10" + _encode(d) for d in array.shape)
    file.write(_HEADER.pack(0, 0, 0, len(desc)) + desc)
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # C order, whatever the strides


def _encode(value: int) -> bytes:
    """Protobuf varint of a number >= 0."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
