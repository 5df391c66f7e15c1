"""A combined file of the release is what Paddle writes, and every record of it is checked."""

import struct
from pathlib import Path

import numpy as np
import paddle
import pytest

from unimo.errors import CheckpointError
from unimo.port.files.variables import list_variables, open_combined, open_variable, write_combined, write_folder
from unimo.port.weights import of_array

CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "parity" / "unimo" / "checkpoint"
ARRAYS = {
    "word_embedding": np.arange(6, dtype=np.float32).reshape(3, 2),
    "image_emb.w_0_moment1_0": np.ones((2, 2)),
    "Z_scale": np.array([True, False]),
    "@LR_DECAY_COUNTER@": np.array([7]),
    "half": np.ones((1, 3), np.float16),
}


def test_combined_file_is_that_of_paddle(tmp_path):
    paddle.enable_static()
    try:
        with paddle.pir_utils.OldIrGuard():  # programs of the release's kind, whose saving op writes the file
            program, executor = paddle.static.Program(), paddle.static.Executor(paddle.CPUPlace())
            variables = [
                program.global_block().create_var(
                    name=name, shape=array.shape, dtype=array.dtype.name, persistable=True
                )
                for name, array in ARRAYS.items()
            ]
            for name, array in ARRAYS.items():
                paddle.static.global_scope().var(name).get_tensor().set(array, paddle.CPUPlace())
            paddle.static.save_vars(executor, str(tmp_path), program, vars=variables, filename="paddle")
    finally:
        paddle.disable_static()
    write_combined(tmp_path / "ours", ARRAYS)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "paddle").read_bytes()


def test_combined_file_is_the_files_of_a_folder_in_sorted_order(tmp_path):
    write_folder(tmp_path / "folder", {name: of_array(array) for name, array in ARRAYS.items()})
    write_combined(tmp_path / "all", {name: of_array(ARRAYS[name]) for name in reversed(ARRAYS)})
    names = ["@LR_DECAY_COUNTER@", "Z_scale", "half", "image_emb.w_0_moment1_0", "word_embedding"]
    assert (tmp_path / "all").read_bytes() == b"".join((tmp_path / "folder" / name).read_bytes() for name in names)
    for variable, name in zip(open_combined(tmp_path / "all"), names, strict=True):
        values = variable.read()
        assert isinstance(values, np.memmap) and values.dtype == ARRAYS[name].dtype
        assert np.array_equal(values, ARRAYS[name])


def test_the_released_layout_survives_a_round_trip(tmp_path):
    files, _ = list_variables(CHECKPOINT)
    write_combined(tmp_path / "all", {name: open_variable(path) for name, path in files.items()})
    variables = open_combined(tmp_path / "all")
    write_folder(tmp_path / "folder", dict(zip(sorted(files), variables, strict=True)))
    assert all((tmp_path / "folder" / name).read_bytes() == path.read_bytes() for name, path in files.items())


def test_every_cut_is_refused_or_ends_between_two_variables(tmp_path):
    write_combined(tmp_path / "all", ARRAYS)
    whole = (tmp_path / "all").read_bytes()
    ends = [variable.end for variable in open_combined(tmp_path / "all")]
    assert ends[-1] == len(whole)
    for size in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:size])
        if size in ends:  # nothing in the file tells how many variables there were: the names have to
            assert len(open_combined(tmp_path / "cut")) == ends.index(size) + 1
        else:
            number = sum(end <= size for end in ends) + 1
            with pytest.raises(CheckpointError, match=rf"variable {number}, at byte"):
                open_combined(tmp_path / "cut")


def test_damage_inside_names_the_variable(tmp_path):
    write_combined(tmp_path / "all", ARRAYS)
    whole, second = (tmp_path / "all").read_bytes(), open_combined(tmp_path / "all")[0].end
    damaged = {
        r"tensor versions 1 and 0.*\(variable 2": b"\1",
        r"TensorDesc of -1 bytes.*\(variable 2": bytes(16) + struct.pack("<i", -1),
        r"expected at least \d{10,} \(variable 2": bytes(16)
        + struct.pack("<i", 12)
        + b"\x08\x05\x10"
        + b"\xff" * 8
        + b"\x7f",
    }
    for message, part in damaged.items():
        (tmp_path / "damaged").write_bytes(whole[:second] + part + whole[second + len(part) :])
        with pytest.raises(CheckpointError, match=message):
            open_combined(tmp_path / "damaged")


def test_what_is_no_combined_file(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for path, message in ((tmp_path / "empty", "0 bytes"), (tmp_path, "not a file"), (tmp_path / "no", "not a file")):
        with pytest.raises(CheckpointError, match=message):
            open_combined(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_combined(tmp_path / "all", ARRAYS)
    before = (tmp_path / "all").read_bytes()
    for bad in ({}, {"../w": np.ones(1)}, {"w": np.ones(1, np.uint8)}):
        with pytest.raises(CheckpointError, match="cannot be written"):
            write_combined(tmp_path / "all", bad)
    assert (tmp_path / "all").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["all"]
