"""`.pdparams` files: what paddle.save writes is read, and nothing that a pickle can ask for is done."""

import builtins
import os
import pickle
import pickle as op
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import paddle
import pytest

from unimo.errors import CheckpointError
from unimo.port.files.pickles import open_pdparams, read_pickle

STATE = {
    "float": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "long": np.array([1, -(2**40)]),
    "half": np.ones((2, 1), np.float16),
    "double": np.full((1, 1, 2), 0.1),
    "bool": np.array([True, False]),
    "scalar": np.float32(3).reshape(()),
    "nan": np.array([np.nan, np.inf, 1], np.float32),
    "large": np.arange(40_000, dtype=np.float32) - 20_000,  # protocol 2 writes it as a long text
}


def write(path: Path, content: bytes | object) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 4))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_is_read(tmp_path, protocol):
    tensors = {name: paddle.to_tensor(array) for name, array in STATE.items()}
    tensors["bfloat16"] = paddle.to_tensor([1.0, -0.375, 3e38]).astype("bfloat16")
    paddle.save(tensors, str(tmp_path / "a.pdparams"), protocol=protocol)
    read = open_pdparams(tmp_path / "a.pdparams")
    assert list(read) == [*STATE, "bfloat16"]
    for name, array in (STATE | {"bfloat16": tensors["bfloat16"].astype("float32").numpy()}).items():
        values = read[name].read()
        assert (read[name].shape, read[name].dtype, values.dtype) == (array.shape, array.dtype, array.dtype)
        assert values.tobytes() == array.tobytes()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_tensor_and_tensors_inside_lists(tmp_path, protocol):
    paddle.save(paddle.to_tensor(STATE["float"]), str(tmp_path / "bare"), protocol=protocol)
    (tensor,) = open_pdparams(tmp_path / "bare").values()
    assert np.array_equal(tensor.read(), STATE["float"])
    paddle.save({"a": [paddle.ones([2])], "b": {"c": paddle.zeros([3])}, "d": 1.5}, str(tmp_path / "nested"))
    read = read_pickle(tmp_path / "nested")
    assert (read["a"][0][1].shape, read["b"]["c"][1].shape, read["d"]) == ((2,), (3,), 1.5)
    with pytest.raises(CheckpointError, match="holds no tensor"):
        open_pdparams(tmp_path / "nested")


def test_a_state_dict_carries_names_that_are_no_weights(tmp_path):
    layer = paddle.nn.Linear(2, 3)
    paddle.save(layer.state_dict(), str(tmp_path / "a.pdparams"))
    assert set(read_pickle(tmp_path / "a.pdparams")) == {"weight", "bias", "StructuredToParameterName@@"}
    read = open_pdparams(tmp_path / "a.pdparams")
    assert set(read) == {"weight", "bias"}
    assert np.array_equal(read["weight"].read(), layer.weight.numpy())


def test_optimizer_state(tmp_path):
    layer = paddle.nn.Linear(2, 3)
    schedule = paddle.optimizer.lr.NoamDecay(0.1, 10)
    optimizer = paddle.optimizer.AdamW(schedule, parameters=layer.parameters())
    layer(paddle.ones([1, 2])).sum().backward()
    optimizer.step()
    paddle.save(optimizer.state_dict(), str(tmp_path / "a.pdopt"))
    assert read_pickle(tmp_path / "a.pdopt")["LR_Scheduler"] == {"last_epoch": 0, "last_lr": 0.0}
    read, name = open_pdparams(tmp_path / "a.pdopt"), layer.weight.name
    assert len(read) == 8 and "LR_Scheduler" not in read
    expected = optimizer.state_dict()[f"{name}_moment1_0"].numpy()
    assert np.array_equal(read[f"{name}_moment1_0"].read(), expected) and expected.any()


def test_files_of_numpy_1_and_fortran_order(tmp_path):
    whole = pickle.dumps({"w": np.asfortranarray(STATE["float"])}, 2).replace(b"numpy._core.", b"numpy.core.")
    (tensor,) = open_pdparams(write(tmp_path / "a", whole)).values()
    assert np.array_equal(tensor.read(), STATE["float"])


def test_values_stay_in_the_file(tmp_path):
    path = write(tmp_path / "a", {"w": np.zeros(2**21)})  # 16 MiB
    tracemalloc.start()
    values = open_pdparams(path)["w"].read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert values.nbytes == 2**24 and peak < 2**20 and not values.flags.writeable


class Call:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


def text(value: str) -> bytes:
    return op.SHORT_BINUNICODE + bytes([len(value)]) + value.encode()


def call(module: str, name: str, argument: str, old: bool = False) -> bytes:
    """A pickle of a call, its name given as protocol 4 does, where it may have dots, or as protocol 2."""
    named = op.GLOBAL + f"{module}\n{name}\n".encode() if old else text(module) + text(name) + op.STACK_GLOBAL
    return op.PROTO + b"\4" + named + text(argument) + op.TUPLE1 + op.REDUCE + op.STOP


def test_no_file_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch, python = "touch marker", "open('marker', 'w').close()"
    hostile = {
        "system": pickle.dumps(Call(os.system, touch)),
        "system in a dict": pickle.dumps({"w": np.ones(2), "x": {"y": [(Call(os.system, touch),)]}}),
        "eval": pickle.dumps(Call(eval, python), 2),
        "exec as a key": pickle.dumps({(Call(exec, python),): 1}, 4),
        "posix": call("posix", "system", touch, old=True),
        "f2py": call("numpy.f2py.crackfortran", "myeval", f"__import__('os').system('{touch}')"),
        "numpy.testing": call("numpy.testing._private.utils", "os.system", touch),
        "through numpy": call("numpy", "testing._private.utils.os.system", touch),
        "through collections": call("collections", "_sys.modules.__class__", touch),
        "getattr": pickle.dumps(Call(getattr, Call(__import__, "os"), "system")),
        "a builtin of ours": call("builtins", "tuple.__class__", "x"),
        "paddle": call("paddle.utils.cpp_extension.extension_utils", "run_cmd", touch),
        "module of its own": call("unimo.port.files.pickles", "open_pdparams", "x"),
        "object": b"\x80\2cos\nsystem\n" + text(touch) + op.TUPLE1 + op.NEWOBJ + op.STOP,
        "instance": b"(ios\nsystem\n.",
        "build": b"\x80\2}}(" + text("__class__") + b"cos\nsystem\nub.",
    }
    for kind in ("system", "system in a dict", "eval", "posix", "f2py"):  # the files do what they say elsewhere
        pickle.loads(hostile[kind])
        Path("marker").unlink()
    for kind, content in hostile.items():
        with pytest.raises(CheckpointError, match="asks for|which no file of weights needs"):
            open_pdparams(write(Path("a.pdparams"), content))
        assert not Path("marker").exists(), kind


def test_the_error_names_what_was_asked_for(tmp_path):
    path = write(tmp_path / "a", Call(builtins.eval, "1"))
    with pytest.raises(
        CheckpointError, match=r"a: expected a pickle of paddle.save, got: .*'builtins\.eval', .* nothing"
    ):
        open_pdparams(path)


def array(shape: object = (2,), kind: str = "f4", data: object = bytes(8), order: str = "<", version: int = 1) -> bytes:
    """The pickle of a dict of one array, every part of it free. (Pickler writes real arrays; this one lies.)"""
    made = op.GLOBAL + b"numpy._core.multiarray\n_reconstruct\n" + op.GLOBAL + b"numpy\nndarray\n"
    made += pickle.dumps((0,), 2)[2:-1] + op.SHORT_BINBYTES + b"\1b" + op.TUPLE3 + op.REDUCE
    dtype = op.GLOBAL + b"numpy\ndtype\n" + text(kind) + op.NEWFALSE + op.NEWTRUE + op.TUPLE3 + op.REDUCE
    dtype += pickle.dumps((3, order, None, None, None, -1, -1, 0), 3)[2:-1] + op.BUILD
    state = [pickle.dumps(version, 3)[2:-1], pickle.dumps(shape, 3)[2:-1], dtype, op.NEWFALSE]
    state.append(pickle.dumps(data, 3)[2:-1])
    return b"\x80\4}" + text("w") + made + op.MARK + b"".join(state) + op.TUPLE + op.BUILD + op.SETITEM + op.STOP


def test_the_lying_array_can_tell_the_truth(tmp_path):
    assert open_pdparams(write(tmp_path / "a", array()))["w"].read().tolist() == [0.0, 0.0]


BOMB = op.EMPTY_TUPLE + (op.BINPUT + b"\0" + op.BINGET + b"\0" + op.TUPLE2) * 200  # 2 ** 200 leaves, were it walked
LIES = {
    "huge shape": (array((2**40,)), "an array that has not the 4398046511104 bytes"),
    "overflowing shape": (array((2**32, 2**32)), "an array that has not the"),
    "negative shape": (array((-1, -2)), "whole numbers >= 0"),
    "shape of texts": (array(("2",)), "whole numbers >= 0"),
    "shape that is a number": (array(2), "no sequence"),
    "deep shape": (array((1,) * 40), "at most 32 sizes"),
    "objects": (array((1,), "O8"), "data type O8, expected numbers"),
    "structure": (array((1,), "V8"), "data type V8"),
    "big endian": (array(order=">"), "not little endian"),
    "list of values": (array(data=[1, 2]), "has not the 8 bytes"),
    "too many bytes": (array(data=bytes(9)), "has not the 8 bytes"),
    "bytes beyond the file": (b"\x80\4" + op.BINBYTES8 + struct.pack("<Q", 2**62), "where 0 are left"),
    "text beyond the file": (b"\x80\4" + op.BINUNICODE + struct.pack("<I", 2**32 - 1), "where 0 are left"),
    "place 4294967295 of the memo": (b"\x80\4}" + op.LONG_BINPUT + b"\xff" * 4 + b".", "holds no tensor"),
    "unknown place": (b"\x80\4" + op.BINGET + b"\7.", "value 7, which does not exist"),
    "frame": (b"\x80\4" + op.FRAME + struct.pack("<Q", 2**63) + b"}.", "holds no tensor"),
    "long number": (b"\x80\4" + op.LONG4 + struct.pack("<i", 2**31 - 1), "opcode LONG4"),
    "persistent id": (b"\x80\2" + text("x") + op.BINPERSID + op.STOP, "opcode BINPERSID"),
    "extension": (b"\x80\2" + op.EXT1 + b"\1.", "opcode EXT1"),
    "unknown opcode": (b"\x80\4\xff.", "opcode"),
    "nesting": (b"\x80\4" + op.EMPTY_LIST * 20_000 + op.APPEND * 19_999 + op.STOP, "something else than a dict"),
    "tuples of tuples": (b"\x80\4" + BOMB + op.STOP, "something else than a dict"),
    "tuples as key": (b"\x80\4}" + BOMB + op.NONE + op.SETITEM + op.STOP, "other keys than texts"),
    "tuples as shape": (b"\x80\4" + BOMB + op.BUILD + op.STOP, "that adds to something"),
    "dict in itself": (b"\x80\4}" + op.BINPUT + b"\0" + text("w") + op.BINGET + b"\0" + op.SETITEM + b".", "holds no"),
    "empty stack": (b"\x80\4.", "takes more values than it gives"),
    "group without start": (b"\x80\4}" + op.SETITEMS + b".", "no start"),
    "value for a number": (b"\x80\4" + op.BININT1 + b"\1" + op.NONE + op.NONE + op.SETITEM + b".", "is no dict"),
    "odd pairs": (b"\x80\4}(N" + op.SETITEMS + b".", "other keys"),
    "state of a number": (b"\x80\4" + op.BININT1 + b"\1}b.", "sets the state of something else"),
    "call of a number": (b"\x80\4" + op.BININT1 + b"\1)R.", "cannot be called"),
    "call of ndarray": (b"\x80\4cnumpy\nndarray\n" + pickle.dumps((2**40,), 2)[2:-1] + b"R.", "cannot be called"),
    "dict of something": (b"\x80\4ccollections\nOrderedDict\n" + op.NONE + op.TUPLE1 + b"R.", "else than pairs"),
    "tuple of a text": (b"\x80\4cbuiltins\ntuple\n" + text("x") + op.TUPLE1 + b"R.", "else than a tuple"),
    "another codec": (b"\x80\4c_codecs\nencode\n" + text("x") + text("rot13") + op.TUPLE2 + b"R.", "than latin1"),
    "name without end": (b"\x80\2c" + b"x" * 10**5, "does not end"),
    "broken text": (b"\x80\4" + op.SHORT_BINUNICODE + b"\1\xff.", "decode"),
    "trailing bytes": (array() + b"x", "1 bytes behind the pickle's end"),
    "a list": (pickle.dumps([1], 4), "something else than a dict"),
    "slices of large tensors": (pickle.dumps({"UnpackBigParamInfor@@": {}}, 2), "protocol=4"),
}


@pytest.mark.parametrize("kind", LIES)
def test_odd_pickle_is_one_clear_error(kind, tmp_path):
    content, message = LIES[kind]
    path = write(tmp_path / "a", content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as caught:
            open_pdparams(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value) and len(str(caught.value)) < 600
    assert peak < 2**26, "memory"


def test_a_long_file_of_nothing_ends_early(tmp_path):
    with pytest.raises(CheckpointError, match="more than 200000 steps"):
        open_pdparams(write(tmp_path / "a", b"\x80\4" + op.EMPTY_DICT * 10**7))


@pytest.mark.parametrize("values", [2, 2**16])  # the bytes of many are a text that is decoded late
def test_text_that_is_no_bytes_is_found_when_it_is_read(tmp_path, values):
    content = array((values,), data="\u1234" * 4 * values)
    damaged = content.replace("\u1234".encode(), b"\xff\x88\xb4", 1) if values > 2 else content
    for whole in (content, damaged):
        tensor = open_pdparams(write(tmp_path / "a", whole))["w"]
        with pytest.raises(CheckpointError, match=rf"shape \[{values}\] are damaged"):
            tensor.read()


@pytest.mark.parametrize("protocol", [2, 4])
def test_every_cut_is_refused(tmp_path, protocol):
    layer = paddle.nn.Linear(2, 3)
    paddle.save(layer.state_dict(), str(tmp_path / "a.pdparams"), protocol=protocol)
    whole = (tmp_path / "a.pdparams").read_bytes()
    for size in range(len(whole)):
        with pytest.raises(CheckpointError):
            open_pdparams(write(tmp_path / "cut", whole[:size]))
