"""The reader of the release's variable files takes what Paddle writes, and nothing that is cut, longer or odd."""

import os
import struct
from pathlib import Path

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unimo.errors import CheckpointError
from unimo.port.files.variables import DTYPES, list_variables, open_variable, write_folder

CHECKPOINT = Path(__file__).parents[2] / "fixtures" / "parity" / "unimo" / "checkpoint"
SMALL = CHECKPOINT / "match_fc.w_0"  # [32, 1] float32, 154 bytes


def file_of(head: bytes, desc: bytes, values: bytes = b"") -> bytes:
    return head + struct.pack("<i", len(desc)) + desc + values


HEAD = bytes(16)
FLOAT_2 = b"\x08\x05\x10\x02"  # TensorDesc: FP32, dims [2]


@given(
    arrays.arrays(
        st.sampled_from([np.dtype(t) for t in DTYPES.values()]),
        arrays.array_shapes(min_dims=0, max_dims=5, min_side=1, max_side=300).filter(lambda s: np.prod(s) <= 2000),
    )
)
@settings(deadline=None, max_examples=60)
def test_written_arrays_are_read_back(tmp_path_factory, array):
    folder = tmp_path_factory.mktemp("variables")
    write_folder(folder, {"x": array})
    variable = open_variable(folder / "x")
    read = variable.read()
    assert (variable.shape, read.dtype) == (array.shape, array.dtype)
    assert read.tobytes() == array.tobytes()


def test_written_files_are_those_of_paddle(tmp_path):
    for code, dtype in DTYPES.items():
        array = np.arange(600).reshape(200, 3).astype(dtype)
        write_folder(tmp_path, {f"ours_{code}": array})
        paddle.save(paddle.to_tensor(array), str(tmp_path / f"paddle_{code}"), use_binary_format=True)
        assert (tmp_path / f"ours_{code}").read_bytes() == (tmp_path / f"paddle_{code}").read_bytes()


def test_rewriting_the_fixture_changes_no_byte(tmp_path):
    files, others = list_variables(CHECKPOINT)
    assert len(files) == 71 and not others
    write_folder(tmp_path, {name: open_variable(path).read() for name, path in files.items()})
    assert all((tmp_path / name).read_bytes() == path.read_bytes() for name, path in files.items())


def test_values_are_not_read_into_memory():
    values = open_variable(CHECKPOINT / "word_embedding").read()
    assert isinstance(values, np.memmap) and not values.flags.writeable


def test_every_cut_and_every_longer_file_is_refused(tmp_path):
    whole = SMALL.read_bytes()
    for size in range(len(whole)):
        (tmp_path / "w").write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=f"{size} bytes|expected 1 to"):
            open_variable(tmp_path / "w")
    for extra in (1, 4, 1000):
        (tmp_path / "w").write_bytes(whole + bytes(extra))
        with pytest.raises(CheckpointError, match=f"{len(whole) + extra} bytes, expected exactly {len(whole)} "):
            open_variable(tmp_path / "w")


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_any_bytes_give_an_array_or_our_error(tmp_path_factory, data):
    whole = bytearray(SMALL.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 27))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(whole)
    try:
        assert open_variable(path).read().nbytes < len(whole)
    except CheckpointError as error:
        assert str(path) in str(error)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


ODD = {
    "LoD tensor version": (file_of(b"\1" + bytes(15), FLOAT_2, bytes(8)), "versions 1 and 0, expected 0 and 0"),
    "tensor version": (file_of(bytes(12) + b"\2" + bytes(3), FLOAT_2, bytes(8)), "versions 0 and 2"),
    "LoD levels": (file_of(bytes(4) + b"\1" + bytes(11), FLOAT_2, bytes(24)), "1 LoD levels, expected 0"),
    "bfloat16": (file_of(HEAD, b"\x08\x16\x10\x02", bytes(4)), r"BF16 \(22\), expected one of bool"),
    "unknown type": (file_of(HEAD, b"\x08\x63\x10\x02", bytes(8)), r"unknown \(99\)"),
    "negative type": (file_of(HEAD, b"\x08" + varint(-1) + b"\x10\x02", bytes(8)), r"unknown \(-1\)"),
    "no type": (file_of(HEAD, b"\x10\x02", bytes(8)), "names no data type"),
    "negative dim": (file_of(HEAD, b"\x08\x05\x10" + varint(-2), bytes(8)), r"dims \[-2\]"),
    "two negative dims": (file_of(HEAD, b"\x08\x05" + (b"\x10" + varint(-1)) * 2, bytes(4)), r"dims \[-1, -1\]"),
    "zero dim": (file_of(HEAD, b"\x08\x05\x10\x00"), r"dims \[0\]"),
    "huge dim": (file_of(HEAD, b"\x08\x05\x10" + varint(2**62), bytes(8)), f"expected exactly {2**64 + 32}"),
    "overflowing dims": (file_of(HEAD, b"\x08\x05" + (b"\x10" + varint(2**32)) * 2, bytes(0)), "expected exactly"),
    "ten dims": (file_of(HEAD, b"\x08\x05" + b"\x10\x01" * 10, bytes(4)), "at most 9 positive"),
    "open varint": (file_of(HEAD, b"\x08\x05\x10\x80"), "does not end"),
    "endless varint": (file_of(HEAD, b"\x08" + b"\xff" * 20, bytes(4)), "does not end"),
    "other field": (file_of(HEAD, b"\x08\x05\x18\x02", bytes(8)), "protobuf key 24"),
    "no desc": (file_of(HEAD, b"", bytes(4)), "TensorDesc of 0 bytes"),
    "negative desc": (HEAD + struct.pack("<i", -1) + FLOAT_2 + bytes(8), "TensorDesc of -1 bytes"),
    "long desc": (file_of(HEAD, b"\x08\x05" + b"\x10\x01" * 500, bytes(4)), "TensorDesc of 1002 bytes"),
    "pickle": (b"\x80\x04\x95" + bytes(60), "version|LoD"),
    "text": (b"word_embedding 120 32 this is no tensor at all", "version|LoD"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_file_is_one_clear_error(kind, tmp_path):
    content, message = ODD[kind]
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_variable(tmp_path / "w")
    assert str(tmp_path / "w") in str(caught.value)


def test_folder_passes_over_what_is_no_variable(tmp_path):
    write_folder(tmp_path, {"word_embedding": np.ones(2, np.float32), "image_emb.w_0_moment1_0": np.ones(1)})
    write_folder(tmp_path, {"@LR_DECAY_COUNTER@": np.ones(1, np.int64)})
    (tmp_path / "sub").mkdir()
    for name in (".hidden", "config.json", "README.md", "with space", "vocab.txt", "1st"):
        (tmp_path / name).write_text("no variable")
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    files, others = list_variables(tmp_path)
    assert list(files) == ["@LR_DECAY_COUNTER@", "image_emb.w_0_moment1_0", "word_embedding"]
    assert others == ["1st", "README.md", "config.json", "pipe", "vocab.txt", "with space"]


def test_links_may_not_lead_out(tmp_path):
    folder = tmp_path / "checkpoint"
    write_folder(folder, {"w": np.ones(2, np.float32)})
    (folder / "again").symlink_to("w")
    assert set(list_variables(folder)[0]) == {"w", "again"}
    (tmp_path / "secret").write_bytes((folder / "w").read_bytes())
    (folder / "out").symlink_to("../secret")
    with pytest.raises(CheckpointError, match="outside the checkpoint folder"):
        list_variables(folder)


def test_not_a_folder_of_variables(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.tar.gz").write_bytes(b"")
    for name, message in (("empty", "no variable file"), ("file.tar.gz", "is a file"), ("absent", "does not exist")):
        with pytest.raises(CheckpointError, match=message):
            list_variables(tmp_path / name)


def test_what_the_format_cannot_hold_is_not_written(tmp_path):
    bad = {"../w": np.ones(2), "w": np.ones(2, np.uint8), "a/b": np.ones(1), "": np.ones(1)}
    for name, array in bad.items():
        with pytest.raises(CheckpointError, match="cannot be written"):
            write_folder(tmp_path / "new", {"good": np.ones(1), name: array})
    assert not (tmp_path / "new").exists()
