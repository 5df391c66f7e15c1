"""Every foreign weight file opens lazily under its names; damaged, lying and hostile ones give one clear error."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import paddle
import pytest
import safetensors.numpy

from unimo.errors import CheckpointError
from unimo.port.files.tensor_files import kind_of, open_tensors
from unimo.port.files.variables import write_folder

TORCH = Path(__file__).parents[2] / "fixtures" / "torch"
ARRAYS = {
    "encoder.weight": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "half": np.ones((2, 1), np.float16),
    "long": np.array([1, -(2**40)]),
    "nothing": np.zeros((0, 3), np.float32),
    "scalar": np.array(0.1),
    "nan": np.array([np.nan, np.inf], np.float32),
}


def same(path: Path, expected: dict[str, np.ndarray]) -> bool:
    tensors = open_tensors(path)
    assert list(tensors) == list(expected)
    for name, array in expected.items():
        values = tensors[name].read()
        assert (tensors[name].shape, tensors[name].dtype) == (values.shape, values.dtype) == (array.shape, array.dtype)
        assert values.tobytes() == array.tobytes(), name
    return True


def refused(path: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        for tensor in open_tensors(path).values():
            tensor.read()
    assert len(str(caught.value)) < 800


def safetensors_file(header: object, values: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


@pytest.mark.parametrize("name", ["tensors.pt", "tensors_legacy.bin"])
def test_files_of_torch(name):
    values, both = np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(8, dtype=np.float32)
    kinds = ("float16", "float64", "int64", "int32", "int16", "int8")
    assert kind_of(TORCH / name) == "torch"
    assert same(
        TORCH / name,
        {
            "float": values,
            "transposed": values.T,
            "column": values[:, 1],
            "parameter": np.array([0.5, -2], np.float32),
            "upper": both[4:],
            "lower": both[:4],
            "nothing": np.zeros((0, 3), np.float32),
            "scalar": np.array(7, np.float32),
            "nan": np.array([np.nan, np.inf, 1], np.float32),
            "bfloat16": np.array([0, 1, 3], np.float32),
            **{kind: np.array([0, 1, 3], kind) for kind in kinds},
            "uint8": np.array([0, 255], np.uint8),
            "bool": np.array([True, False]),
        },
    )


@pytest.mark.parametrize("name", ["linear.bin", "linear_legacy.bin", "nested.pth"])
def test_state_dicts_of_torch(name):
    expected = {"weight": np.full((3, 2), 0.25, np.float32), "bias": np.zeros(3, np.float32)}
    assert same(TORCH / name, expected)


def test_torch_files_of_more_than_tensors_are_refused():
    refused(TORCH / "module.pt", r"asks for 'torch\.nn\.modules\.linear\.Linear', .* save its tensors alone")
    refused(TORCH / "sparse.pt", "_rebuild_sparse_tensor")
    refused(TORCH / "script.pt", "TorchScript program; save its state_dict")


def test_safetensors(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "model.safetensors", {"format": "np"})
    read = open_tensors(tmp_path / "model.safetensors")
    assert same(tmp_path / "model.safetensors", {name: ARRAYS[name] for name in read}) and set(read) == set(ARRAYS)
    header = {"b": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    (tmp_path / "bf16").write_bytes(safetensors_file(header, b"\x80\x3f\x40\xc0\xc0\x7f"))
    assert same(tmp_path / "bf16", {"b": np.array([1, -3, np.nan], np.float32)})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    arrays = ARRAYS | {"Transformer/encoder/kernel": np.asfortranarray(ARRAYS["encoder.weight"])}
    save(tmp_path / "a.npz", **arrays)
    assert kind_of(tmp_path / "a.npz") == "npz" and same(tmp_path / "a.npz", arrays)
    np.savez(tmp_path / "b.npz", b=np.array([0x3F80, 0xC040], np.uint16).view("V2"))  # as jax saves bfloat16
    assert same(tmp_path / "b.npz", {"b": np.array([1, -3], np.float32)})


def write_index(folder: Path, places: object) -> Path:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder / "model.safetensors.index.json"


def test_shards(tmp_path):
    safetensors.numpy.save_file({"a": np.ones(2), "x": np.ones(1)}, tmp_path / "1.safetensors")
    safetensors.numpy.save_file({"b": np.zeros(3)}, tmp_path / "2.safetensors")
    write_index(tmp_path, {"b": "2.safetensors", "a": "1.safetensors"})
    assert same(tmp_path, {"b": np.zeros(3), "a": np.ones(2)})
    refused(write_index(tmp_path, {"b": "1.safetensors"}), r"1 tensors are not in the files it names, first \['b'\]")
    refused(write_index(tmp_path, {"b": "3.safetensors"}), "does not exist")
    refused(write_index(tmp_path, {"b": "model.safetensors.index.json"}), "inside an index")
    refused(write_index(tmp_path, ["1.safetensors"]), "no weight_map")
    refused(write_index(tmp_path, {"b": 1}), "no weight_map")
    (tmp_path / "deep.json").write_text('{"a":' * 10**5)
    refused(tmp_path / "deep.json", "recursion")


def test_nothing_leads_out_of_a_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "model.safetensors")
    for name in ("../model.safetensors", str(tmp_path / "model.safetensors"), "..", "", "."):
        refused(write_index(folder, {"a": name}), "leads out of|not a regular file")
    (folder / "1.safetensors").symlink_to(tmp_path / "model.safetensors")
    refused(write_index(folder, {"a": "1.safetensors"}), "put a copy of the file itself there")
    (folder / "model.safetensors").symlink_to("../model.safetensors")
    refused(folder, "leads out of")
    assert same(folder / "model.safetensors", {"a": np.ones(2)})  # the user named this very file


def test_folders(tmp_path):
    refused(tmp_path, "holds no weights; expected one of model.safetensors, ")
    paddle.save({"a": paddle.ones([2])}, str(tmp_path / "model_state.pdparams"))
    assert same(tmp_path, {"a": np.ones(2, np.float32)})
    (tmp_path / "model.safetensors").symlink_to("model.safetensors")  # leads to itself
    assert same(tmp_path, {"a": np.ones(2, np.float32)})


def test_values_stay_in_the_file(tmp_path):
    zeros = np.zeros(2**21)  # 16 MiB
    np.savez(tmp_path / "a.npz", w=zeros)
    safetensors.numpy.save_file({"w": zeros}, tmp_path / "a.safetensors")
    for path in tmp_path.iterdir():
        tracemalloc.start()
        values = open_tensors(path)["w"].read()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert values.nbytes == 2**24 and peak < 2**20 and not values.flags.writeable


def test_what_is_no_weight_file(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "page.bin").write_text("<!DOCTYPE html> 404")
    (tmp_path / "pickle0").write_bytes(pickle.dumps({"a": 1}, 0))
    (tmp_path / "zip.pt").write_bytes(repacked({"readme.txt": b"x"}))
    write_folder(tmp_path, {"word_embedding": np.ones(3, np.float32)})
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for name, message in {
        "empty": "is empty",
        "text": "of an unknown kind; expected one of safetensors, index, pdparams, torch, npz",
        "page.bin": "of an unknown kind",
        "pickle0": "of an unknown kind",
        "zip.pt": r"a zip file of \['readme.txt'\]",
        "word_embedding": "a file of the release, without names",
        "pipe": "not a regular file",
        "absent": "does not exist",
        "nul\0": "null|does not exist",
    }.items():
        refused(tmp_path / name, message)


def entry(**changes: object) -> dict:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**47) + b'{"a":1}',
        safetensors_file({"a": entry(shape=[2**40])}, bytes(8)),
        safetensors_file({"a": entry(shape=[2**32, 2**32], data_offsets=[0, 0])}),
        safetensors_file({"a": entry(data_offsets=[0, 2**50], shape=[2**48])}, bytes(8)),
        safetensors_file({"a": entry(data_offsets=[8, 0])}, bytes(8)),
        safetensors_file({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12)),  # overlap
        safetensors_file({"a": entry(), "b": entry()}, bytes(8)),
        safetensors_file({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)),  # a gap
        safetensors_file({"a": entry()}, bytes(12)),  # bytes behind
        safetensors_file(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}"),
        safetensors_file({"a": entry(dtype="F4", data_offsets=[0, 1])}, bytes(1)),
        safetensors_file({"a": entry(dtype="C64", data_offsets=[0, 16])}, bytes(16)),
        safetensors_file({"a": entry(dtype="O")}, bytes(8)),
        safetensors_file({"a": entry(shape=[-2])}, bytes(8)),
        safetensors_file(b'{"a":' * 10**5),
        safetensors_file(b"{" + b" " * 100),
    ],
)
def test_lying_safetensors(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path / "a", "expected a safetensors file, got: ")


def npy(shape: str = "(2,)", descr: str = "'<f4'", values: bytes = bytes(8), length: int | None = None) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) if length is None else length) + header + values


def repacked(entries: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", kind) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return target.getvalue()


def doubled(name: str, content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr(name, content)
        file.writestr(name, content)
    return target.getvalue()


NPZ = {
    "huge shape": (repacked({"a.npy": npy("(1099511627776,)")}), "do not fit <f4"),
    "overflowing shape": (repacked({"a.npy": npy("(4294967296, 4294967296)")}), "do not fit <f4"),
    "one value too few": (repacked({"a.npy": npy("(3,)")}), "do not fit <f4"),
    "digits without end": (repacked({"a.npy": npy(f"({'9' * 800},)")}), "no header|sizes"),
    "objects": (repacked({"a.npy": npy(descr="'|O'")}), "no header of an array of little endian numbers"),
    "structures": (repacked({"a.npy": npy(descr="[('x', '<f4')]")}), "no header"),
    "big endian": (repacked({"a.npy": npy(descr="'>f4'")}), "no header"),
    "code in the header": (repacked({"a.npy": npy("(__import__('os'),)")}), "no header"),
    "wrong length": (repacked({"a.npy": npy(length=60)}), "no header"),
    "a pickle": (repacked({"a.npy": pickle.dumps(1)}), "no header"),
    "bomb": (
        repacked({"a.npy": npy("(25000000,)", values=bytes(10**8))}, zipfile.ZIP_DEFLATED),
        "unpacks to 100000128",
    ),
    "bzip2": (repacked({"a.npy": npy()}, zipfile.ZIP_BZIP2), "packed in another way than deflate"),
    "lzma": (repacked({"a.npy": npy()}, zipfile.ZIP_LZMA), "packed in another way than deflate"),
    "a name twice": (doubled("a.npy", npy()), "two entries of the same name"),
    "encrypted": (repacked({"a.npy": npy()}).replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"), "encrypted"),
    "no directory": (repacked({"a.npy": npy()})[:-30], "zip"),
    "a shorter entry": (
        repacked({"a.npy": npy()}, zipfile.ZIP_DEFLATED).replace(struct.pack("<I", 136), struct.pack("<I", 140)),
        "do not fit <f4",
    ),
}


@pytest.mark.parametrize("kind", NPZ)
def test_odd_npz_is_one_clear_error(kind, tmp_path):
    content, message = NPZ[kind]
    (tmp_path / "a.npz").write_bytes(content)
    tracemalloc.start()
    refused(tmp_path / "a.npz", message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


with zipfile.ZipFile(TORCH / "linear.bin") as _file:
    LINEAR = {name: _file.read(name) for name in _file.namelist()}


def torch_zip(change: dict[str, bytes | None], kind: int = zipfile.ZIP_STORED) -> bytes:
    """linear.bin with other entries, in place of its own or beside them; None takes one out."""
    entries = LINEAR | {f"linear/{name}": content for name, content in change.items()}
    return repacked({name: content for name, content in entries.items() if content is not None}, kind)


def test_torch_zip_is_what_the_next_test_changes(tmp_path):
    (tmp_path / "a.pt").write_bytes(torch_zip({}))
    assert set(open_tensors(tmp_path / "a.pt")) == {"weight", "bias"}


PICKLED = LINEAR["linear/data.pkl"]
SHAPE = b"K\x03K\x02\x86"  # (3, 2)
LYING_TORCH = {
    "short storage": ({"data/0": bytes(23)}, r"23 bytes, but float32 \[6\] takes 24"),
    "long storage": ({"data/0": bytes(28)}, "28 bytes"),
    "no storage": ({"data/0": None}, "without the entry data/0"),
    "no pickle": ({"data.pkl": None}, r"a zip file of \["),
    "TorchScript": ({"constants.pkl": b""}, "TorchScript"),
    "big endian": ({"byteorder": b"big"}, "not little endian"),
    "larger shape": ({"data.pkl": PICKLED.replace(SHAPE, b"K\x04K\x02\x86")}, "outside its storage of 6"),
    "huge shape": ({"data.pkl": PICKLED.replace(SHAPE, b"J\xff\xff\xff\x7fK\x02\x86")}, "outside its storage of 6"),
    "strides": ({"data.pkl": PICKLED.replace(b"K\x02K\x01\x86", b"K\x03K\x01\x86")}, "outside its storage"),
    "expanded": (
        {"data.pkl": PICKLED.replace(SHAPE, b"M\xff\xffK\x02\x86").replace(b"K\x02K\x01\x86", b"K\0K\0\x86")},
        "outside",
    ),
    "system": ({"data.pkl": b"\x80\2cos\nsystem\nX\x0c\0\0\0touch marker\x85R."}, r"asks for 'os\.system'"),
    "torch itself": ({"data.pkl": b"\x80\2ctorch\nload\n."}, r"asks for 'torch\.load'"),
    "a list": ({"data.pkl": b"\x80\2]."}, "holds no dict of tensors"),
    "trailing bytes": ({"data.pkl": PICKLED + b"x"}, "behind the end of data.pkl"),
}


@pytest.mark.parametrize("kind", LYING_TORCH)
def test_odd_torch_file_is_one_clear_error(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change, message = LYING_TORCH[kind]
    (tmp_path / "a.pt").write_bytes(torch_zip(change))
    refused(tmp_path / "a.pt", message)
    assert os.listdir(tmp_path) == ["a.pt"]


def test_compressed_torch_file_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(torch_zip({}, zipfile.ZIP_DEFLATED))
    refused(tmp_path / "a.pt", "a compressed entry 'linear/.*', where weights are stored as they are")


@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors", "npz"])
def test_every_cut_is_refused(tmp_path, kind):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    files = {"torch": TORCH / "linear.bin", "legacy": TORCH / "linear_legacy.bin"}
    whole = files.get(kind, tmp_path / f"a.{kind}").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            open_tensors(tmp_path / "cut")
