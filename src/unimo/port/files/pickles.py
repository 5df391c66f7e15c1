"""Pickles of weights read as data: nothing of a file is imported, called or built but the few kinds written here.

Python's own Unpickler calls what a file names, and even with a list of allowed names it hands numpy's functions the
file's arguments and reserves the memory that a file asks for. This reader knows the opcodes that `paddle.save` and
`torch.save` write, and for each exact name of a table a function of ours that checks its arguments and gives a plain
value. Any other name or opcode is an error that says which. Large values are views of the mapped file.
Source of the format: Python's Lib/pickletools.py.
"""

import math
import pickle  # for the numbers of the opcodes only
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unimo.errors import CheckpointError
from unimo.port.files.mapped import Order, array_in, checked_sizes, damage, map_file
from unimo.port.weights import Stored
from unimo.storage.bfloat16 import widen_bfloat16

# What a file may name -> what stands for it: a function of the arguments of the call, or None where none is allowed
Names = Mapping[tuple[str, str], Callable[[tuple], Any] | None]

_MAX_STEPS = 200_000  # opcodes; a tensor takes about 30
_SHORT = 1 << 16  # bytes; longer texts are not decoded before they are asked for
_FIXED = {  # opcode -> the number that follows it
    **{name: struct.Struct("<B") for name in ("PROTO", "BININT1", "BINPUT", "BINGET")},
    **{name: struct.Struct("<I") for name in ("LONG_BINPUT", "LONG_BINGET")},
    "BININT": struct.Struct("<i"),
    "BININT2": struct.Struct("<H"),
    "BINFLOAT": struct.Struct(">d"),
    "FRAME": struct.Struct("<Q"),
}
_COUNTED = {  # opcode -> the size of the bytes that follow it
    **{name: struct.Struct("<B") for name in ("SHORT_BINUNICODE", "SHORT_BINBYTES", "LONG1")},
    **{name: struct.Struct("<I") for name in ("BINUNICODE", "BINBYTES")},
    **{name: struct.Struct("<Q") for name in ("BINUNICODE8", "BINBYTES8")},
}
_OPCODES = {code: name for name, code in vars(pickle).items() if name.isupper() and isinstance(code, bytes)}


@dataclass(frozen=True)
class Name:
    """A name that a pickle mentions and that the reader knows."""

    module: str
    name: str
    call: Callable[[tuple], Any] | None


@dataclass(frozen=True)
class LongText:
    """A text too long to decode before it is asked for: protocol 2 writes an array's bytes as one."""

    data: memoryview

    @cached_property
    def characters(self) -> int:
        """Bytes that start a character; those that go on with one are 0x80 to 0xbf."""
        return int(np.count_nonzero(np.frombuffer(self.data, np.int8) >= -64))

    def __len__(self) -> int:
        return self.characters

    def __str__(self) -> str:
        return str(self.data, "utf-8")


def parse(
    data: memoryview, names: Names, persistent: Callable[[Any], Any] | None = None, at: int = 0
) -> tuple[Any, int]:
    """The value of the pickle that starts at `at`, and the place behind it. Bytes are views of `data`.

    Args:
        persistent: makes a value of a persistent id; a pickle that has one is refused without.

    Raises:
        ValueError, struct.error: damaged, too long, or it asks for something else than weights.
    """
    machine = _Machine(data, names, persistent, at)
    for _ in range(_MAX_STEPS):
        code = bytes(data[machine.at : machine.at + 1])
        if not code:
            raise ValueError(f"a pickle that is cut off after {len(data)} bytes")
        machine.at += 1
        if code == pickle.STOP:
            return machine.pop(), machine.at
        machine.step(_OPCODES.get(code, code.hex()))
    raise ValueError(f"more than {_MAX_STEPS} steps, which no file of weights needs")


@dataclass
class _Machine:
    """The stack and memo of a pickle in the middle of reading."""

    data: memoryview
    names: Names
    persistent: Callable[[Any], Any] | None
    at: int
    stack: list = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str) -> None:
        argument = self.argument(opcode)
        match opcode:  # in about the order of how often they occur
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top(object)
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top(object)
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self.marks.append(len(self.stack))
            case "NONE":
                self.stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                self.stack.append(opcode == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "BINFLOAT" | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8":
                self.stack.append(argument)
            case "LONG1":
                self.stack.append(int.from_bytes(argument, "little", signed=True))
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                self.stack.append(LongText(argument) if len(argument) > _SHORT else str(argument, "utf-8"))
            case "EMPTY_TUPLE":
                self.stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [self.pop() for _ in range(int(opcode[-1]))]
                self.stack.append(tuple(reversed(items)))
            case "TUPLE":
                self.stack.append(tuple(self.pop_mark()))
            case "EMPTY_LIST":
                self.stack.append([])
            case "APPEND" | "APPENDS":
                items = [self.pop()] if opcode == "APPEND" else self.pop_mark()
                self.top(list).extend(items)
            case "EMPTY_DICT":
                self.stack.append({})
            case "SETITEM" | "SETITEMS":
                items = [self.pop(), self.pop()][::-1] if opcode == "SETITEM" else self.pop_mark()
                self.top(dict).update(_pairs(items))
            case "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise ValueError(f"a reference to value {argument}, which does not exist")
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                module = self.line()
                self.stack.append(self.known(module, self.line()))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                self.stack.append(self.known(module, name))
            case "REDUCE":
                arguments, name = self.pop(), self.pop()
                if type(name) is not Name or name.call is None or type(arguments) is not tuple:
                    raise ValueError("a call of something that cannot be called")
                self.stack.append(name.call(arguments))
            case "BUILD":
                _build(state=self.pop(), target=self.top(object))
            case "BINPERSID" if self.persistent:
                self.stack.append(self.persistent(self.pop()))
            case _:
                raise ValueError(f"pickle opcode {opcode}, which no file of weights needs")

    def argument(self, opcode: str) -> Any:
        """What follows an opcode: a number, a view of bytes, or None."""
        if opcode in _FIXED:
            (number,) = _FIXED[opcode].unpack_from(self.data, self.at)
            self.at += _FIXED[opcode].size
            return number
        if opcode in _COUNTED:
            (size,) = _COUNTED[opcode].unpack_from(self.data, self.at)
            start = self.at + _COUNTED[opcode].size
            self.at = start + size
            if self.at > len(self.data):
                raise ValueError(f"a value of {size} bytes where {len(self.data) - start} are left")
            return self.data[start : self.at]
        return None

    def line(self) -> str:
        """The text up to the next newline, at most 200 bytes away."""
        text, newline, _ = bytes(self.data[self.at : self.at + 200]).partition(b"\n")
        if not newline:
            raise ValueError("a name that does not end")
        self.at += len(text) + 1
        return str(text, "utf-8")

    def known(self, module: Any, name: Any) -> Name:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is no text")
        if (module, name) not in self.names:
            asked = f"{module[:100]}.{name[:100]}"
            raise ValueError(
                f"a pickle that asks for {asked!r}, which no weights need; nothing of it was run. "
                "If you trust its source, load it where it was made and save its tensors alone"
            )
        return Name(module, name, self.names[module, name])

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("a pickle that takes more values than it gives")
        return self.stack.pop()

    def pop_mark(self) -> list:
        if not self.marks:
            raise ValueError("a pickle with an end of a group that has no start")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"a pickle that adds to something that is no {kind.__name__}")
        return self.stack[-1]


def _pairs(items: list) -> dict:
    """Keys and values in turn -> dict; other keys than texts and numbers could take for ever to hash."""
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values) or any(type(key) not in (str, int) for key in keys):
        raise ValueError("a dict with other keys than texts and whole numbers")
    return dict(zip(keys, values))


def _build(state: Any, target: Any) -> None:
    """Give an object its state: arrays and their data types take one; what else a dict carries is dropped."""
    if isinstance(target, Array | _Type):
        target.set_state(state)
    elif type(target) is not dict or type(state) is not dict:
        raise ValueError("a pickle that sets the state of something else than an array")


def ordered_dict(arguments: tuple) -> dict:
    """`collections.OrderedDict()`, or of one list of pairs."""
    pairs = arguments[0] if len(arguments) == 1 else []
    if len(arguments) > 1 or type(pairs) is not list or any(type(p) not in (list, tuple) or len(p) != 2 for p in pairs):
        raise ValueError("an OrderedDict of something else than pairs")
    return _pairs([item for pair in pairs for item in pair])


class _Type:
    """numpy.dtype of a pickle. Paddle keeps bfloat16 as uint16, and has no tensors of 16 bits without a sign."""

    def __init__(self, arguments: tuple) -> None:
        code = arguments[0] if arguments else None
        if code not in ("b1", "i1", "u1", "i2", "u2", "i4", "i8", "f2", "f4", "f8"):
            raise ValueError(f"data type {code[:20] if type(code) is str else 'unknown'}, expected numbers")
        self.stored = np.dtype(code).newbyteorder("<")

    def set_state(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 2 or type(state[1]) is not str or state[1] not in "<|=":
            raise ValueError("numbers that are not little endian")


class Array:
    """A numpy array of a pickle, as a Stored: empty until its state is set; bfloat16 becomes float32 on read."""

    def __init__(self, arguments: tuple) -> None:
        if len(arguments) != 3 or type(arguments[0]) is not Name or arguments[0].name != "ndarray":
            raise ValueError("an array of an unknown kind")
        self.shape: tuple[int, ...] = (0,)
        self.data: memoryview | str | LongText = memoryview(b"")
        self._stored: np.dtype = np.dtype("u1")
        self._order: Order = "C"

    def set_state(self, state: Any) -> None:
        """Shape, type, order and bytes, as numpy pickles them. Raises ValueError where they do not agree."""
        if type(state) is not tuple or len(state) != 5 or type(state[2]) is not _Type or type(state[3]) is not bool:
            raise ValueError("an array without shape, data type and values")
        _, shape, kind, fortran, data = state
        shape = checked_sizes(shape)
        size = math.prod(shape) * kind.stored.itemsize
        if not isinstance(data, memoryview | str | LongText) or len(data) != size:
            raise ValueError(f"an array that has not the {size} bytes of {kind.stored.name} {list(shape)}")
        self.shape, self.data, self._stored, self._order = shape, data, kind.stored, "F" if fortran else "C"

    @property
    def dtype(self) -> np.dtype:
        """Type of what `read` gives."""
        return np.dtype(np.float32) if self._stored == np.uint16 else self._stored

    def read(self) -> np.ndarray:
        """The values: a view of the file, or of a copy where they had to be converted."""
        data = self.data
        if not isinstance(data, memoryview):
            try:
                data = memoryview(str(data).encode("latin-1"))
            except UnicodeError as error:
                raise CheckpointError(f"bytes of an array of shape {list(self.shape)} are damaged: {error}") from error
        values = array_in(data, self._stored, self.shape, self._order)
        return widen_bfloat16(values) if self._stored == np.uint16 else values


def _encode(arguments: tuple) -> str | LongText:
    """_codecs.encode(text, "latin1"): how protocol 2 writes bytes. They stay a text until an array is read."""
    if len(arguments) != 2 or not isinstance(arguments[0], str | LongText) or arguments[1] != "latin1":
        raise ValueError("bytes in another encoding than latin1")
    return arguments[0]


def _tuple(arguments: tuple) -> tuple:
    """builtins.tuple(items): how paddle.save writes a tensor that is in no state dict, as (name, array)."""
    if len(arguments) != 1 or type(arguments[0]) is not tuple:
        raise ValueError("a tuple of something else than a tuple")
    return arguments[0]


PADDLE: Names = {
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Type,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("_codecs", "encode"): _encode,
    ("builtins", "tuple"): _tuple,
    ("__builtin__", "tuple"): _tuple,
    ("collections", "OrderedDict"): ordered_dict,
}
_SLICED = "UnpackBigParamInfor@@"  # the key under which protocols 2 and 3 tell how a tensor over 1 GiB was cut


def read_pickle(path: str | Path) -> dict[str | int, Any]:
    """The dict in a file of `paddle.save`: tensors are Stored, everything else is plain values.

    A tensor that is no entry of a state dict is a pair (name, Stored); a file of one such gives a dict of it.

    Raises:
        CheckpointError: damaged, of more than weights and plain values, or a tensor over 1 GiB of protocol 2 or 3.
    """
    path = Path(path)
    data = map_file(path)
    with damage(path, "a pickle of paddle.save"):
        value, end = parse(data, PADDLE)
        if end != len(data):
            raise ValueError(f"{len(data) - end} bytes behind the pickle's end")
        if _is_named(value):
            return dict([value])
        if type(value) is not dict:
            raise ValueError("a pickle of something else than a dict or a tensor")
        if _SLICED in value:
            raise ValueError("tensors that were cut in slices; save the file again with paddle.save(..., protocol=4)")
    return value


def open_pdparams(path: str | Path) -> dict[str, Stored]:
    """The tensors of a `.pdparams` or `.pdopt` file by name; its other entries (`read_pickle` has them) are left out.

    Raises:
        CheckpointError: as `read_pickle`, or no tensor in it.
    """
    values = {name: value[1] if _is_named(value) else value for name, value in read_pickle(path).items()}
    tensors: dict[str, Stored] = {
        name: value for name, value in values.items() if isinstance(value, Array) and type(name) is str
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no tensor; its entries are {list(values)[:5]}")
    return tensors


def _is_named(value: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and type(value[0]) is str and isinstance(value[1], Array)
