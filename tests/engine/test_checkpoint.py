"""Checkpoint folders: whole or refused, strict, pruned, and safe from a full disk."""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest
from tiny_task import TinyModel

from unimo.engine import checkpoint
from unimo.errors import CheckpointError

SHAPES = {"embed.weight.moment1": [8, 16]}


def save(run: Path, step: int, model: paddle.nn.Layer | None = None, write_extras=None) -> Path:
    folder = checkpoint.folder_of(run, step)
    model = checkpoint.copied((model or TinyModel(0.0)).state_dict())
    moments = {name: np.full(shape, step, np.float32) for name, shape in SHAPES.items()}
    checkpoint.save(folder, checkpoint.Snapshot(model, {}, moments, json.dumps({"step": step})), write_extras)
    return folder


def test_what_was_saved_is_read_back(tmp_path):
    paddle.seed(0)
    model = TinyModel(0.0)
    folder = save(tmp_path, 3, model, lambda f: (f / "config.yaml").write_text("a: 1\n"))
    assert sorted(json.loads((folder / "COMPLETE").read_text())) == sorted(
        ["model.safetensors", "optimizer.safetensors", "trainer_state.json", "config.yaml"]
    )
    assert (tmp_path / "checkpoints" / "latest").read_text() == "step_00000003\n"
    other = TinyModel(0.0)
    checkpoint.load_model(folder, other)
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), other.state_dict()[name].numpy())
    (moments,) = checkpoint.read_tensors(folder / checkpoint.OPTIMIZER, SHAPES)
    assert (moments == 3).all()
    assert checkpoint.read_trainer_state(folder) == {"step": 3}


def test_every_misfit_is_listed(tmp_path):
    folder = save(tmp_path, 1)
    model = TinyModel(0.0)
    model.words = paddle.nn.Linear(16, 6)  # other shape
    model.extra = paddle.nn.Linear(2, 2)  # missing in the file
    del model.regions  # unexpected in the file
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_model(folder, model)
    message = str(error.value)
    for part in (
        "missing: extra.weight [2, 2]",
        "missing: extra.bias [2]",
        "unexpected: regions.weight [16, 3]",
        "unexpected: regions.bias [3]",
        "shape of words.weight: [16, 5], the model has [16, 6]",
    ):
        assert part in message
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def damage_marker(folder: Path) -> None:
    (folder / "COMPLETE").unlink()


def damage_cut(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def damage_gone(folder: Path) -> None:
    (folder / "optimizer.safetensors").unlink()


def damage_garbage(folder: Path) -> None:
    (folder / "COMPLETE").write_bytes(b"\0" * 64)


def flip(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def damage_weight(folder: Path) -> None:
    flip(folder / "model.safetensors")


def damage_moment(folder: Path) -> None:
    flip(folder / "optimizer.safetensors")


def damage_step(folder: Path) -> None:
    state = folder / "trainer_state.json"
    state.write_text(state.read_text().replace("1", "5").replace("2", "6"))


DAMAGES = [damage_marker, damage_cut, damage_gone, damage_garbage, damage_weight, damage_moment, damage_step]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_checkpoint_is_skipped_with_a_warning_and_never_loaded(tmp_path, capsys, damage):
    good, torn = save(tmp_path, 1), save(tmp_path, 2)
    damage(torn)
    assert checkpoint.find_latest(tmp_path) == good
    said = capsys.readouterr().err
    assert f"skipping torn checkpoint {torn}" in said and "taking" not in said, "latest names the torn one"
    with pytest.raises(CheckpointError, match="is torn"):
        checkpoint.read_trainer_state(torn)
    damage(good)
    assert checkpoint.find_latest(tmp_path) is None
    assert save(tmp_path, 2) == checkpoint.find_latest(tmp_path), "a torn folder does not block its step"


def test_latest_is_what_the_pointer_names(tmp_path):
    assert checkpoint.find_latest(tmp_path) is None
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    assert checkpoint.find_latest(tmp_path) == second
    checkpoint.point(tmp_path / "checkpoints", checkpoint.LATEST, first.name)  # set back by hand
    assert checkpoint.find_latest(tmp_path) == first
    (tmp_path / "checkpoints" / "latest").unlink()
    assert checkpoint.find_latest(tmp_path) == second


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    for step in range(1, 7):
        save(tmp_path, step)
        if step == 2:
            checkpoint.point(tmp_path / "checkpoints", checkpoint.BEST, "step_00000002")
        checkpoint.prune(tmp_path / "checkpoints", keep_last=2)
    names = sorted(folder.name for folder in (tmp_path / "checkpoints").glob("step_*"))
    assert names == ["step_00000002", "step_00000005", "step_00000006"]


def refuse_large_files(tmp_path: Path) -> None:
    """A save under a limit of the file size, which needs no root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, before[1]))  # the model's file is larger
    try:
        save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refuse_in_extras(tmp_path: Path) -> None:
    """The task's own files do not fit."""

    def no_space(folder: Path) -> None:
        raise OSError(28, os.strerror(28))

    save(tmp_path, 2, write_extras=no_space)


@pytest.mark.parametrize(
    ("refuse", "reason"), [(refuse_large_files, "File too large"), (refuse_in_extras, "No space left")]
)
def test_a_refused_save_leaves_the_last_checkpoint_and_nothing_else(tmp_path, refuse, reason):
    good = save(tmp_path, 1)
    with pytest.raises(
        CheckpointError, match=f"cannot save .*step_00000002: {reason}.*earlier checkpoints are untouched"
    ):
        refuse(tmp_path)
    assert checkpoint.find_latest(tmp_path) == good
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["latest", "step_00000001"]


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mount"), reason="mounting a small tmpfs needs root and mount"
)
def test_a_full_disk_stops_the_run_with_one_error_and_it_goes_on_when_there_is_room(start, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", disk], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"this container may not mount a tmpfs: {made.stderr.strip()}")
    try:
        options = {"engine": {"steps": 12, "save_every": 1, "keep_last": 12}}
        job = start(disk / "run", options)
        job.logs = [tmp_path / "unused"]
        assert job.wait() == [2]
        checkpoints = disk / "run" / "checkpoints"
        saved = sorted(checkpoints.glob("step_*"))
        assert len(saved) >= 2 and all(checkpoint.torn(folder) is None for folder in saved)
        assert not list(checkpoints.glob(".*"))
        assert checkpoint.find_latest(disk / "run") == saved[-1]
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        assert start(disk / "run", options).wait() == [0]
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("kind", ["F16", "F64", "BF16"])
def test_floats_of_other_widths_become_float32(kind, tmp_path):
    values = np.array([[1.5, -2.0, 0.25]], np.float32)
    raw = (
        (values.view(np.uint32) >> 16).astype("<u2")
        if kind == "BF16"
        else values.astype({"F16": "f2", "F64": "f8"}[kind])
    )
    header = json.dumps({"w": {"dtype": kind, "shape": [1, 3], "data_offsets": [0, raw.nbytes]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw.tobytes())
    (found,) = checkpoint.read_tensors(tmp_path / "a.safetensors", {"w": [1, 3]})
    assert found.dtype == np.float32 and np.array_equal(found, values)


def test_integers_are_refused_by_name(tmp_path):
    header = json.dumps({"w": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(CheckpointError, match="data type of w: int64, expected float32"):
        list(checkpoint.read_tensors(tmp_path / "a.safetensors", {"w": [2]}))


@pytest.mark.parametrize("content", ["[]", "null", "3", "[" * 100_000])
def test_a_marker_of_something_else_is_torn(content, tmp_path):
    (tmp_path / "COMPLETE").write_text(content)
    assert "COMPLETE marker" in checkpoint.torn(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"step": "x"}', '{"step": 1, "identity": []}'])
def test_a_damaged_trainer_state_is_one_error(content, tmp_path):
    (tmp_path / "trainer_state.json").write_text(content)
    (tmp_path / "COMPLETE").write_text("{}")
    with pytest.raises(CheckpointError, match="trainer_state.json"):
        checkpoint.read_trainer_state(tmp_path)["step"]


def test_a_pointer_of_other_bytes_names_nothing(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name in ("latest", "best"):
        (tmp_path / "checkpoints" / name).write_bytes(b"\xff\x00\xfe")
    assert checkpoint.find_latest(tmp_path) is None
    with pytest.raises(CheckpointError, match="best names .* as the best checkpoint: no readable COMPLETE marker"):
        checkpoint.find_best(tmp_path)


def test_a_pointer_to_an_older_checkpoint_is_followed_and_said(tmp_path, capsys):
    first, _ = save(tmp_path, 1), save(tmp_path, 2)
    checkpoint.point(tmp_path / "checkpoints", checkpoint.LATEST, first.name)
    assert checkpoint.find_latest(tmp_path) == first
    assert f"warning: taking {first}, which latest names; there are newer ones" in capsys.readouterr().err


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_best_checkpoint_is_refused_and_not_replaced_by_another(tmp_path, damage):
    best, _ = save(tmp_path, 1), save(tmp_path, 2)
    checkpoint.point(tmp_path / "checkpoints", checkpoint.BEST, best.name)
    assert checkpoint.find_best(tmp_path) == best
    damage(best)
    with pytest.raises(CheckpointError, match=r"as the best checkpoint: .*\. Name another .* to take the newest"):
        checkpoint.find_best(tmp_path)


def test_an_odd_marker_is_torn(tmp_path):
    folder = save(tmp_path, 1)
    for files in ({"x" * 5000: 3}, {"a\0b": 3}, {"model.safetensors": {}}, {"model.safetensors": {"bytes": "9"}}):
        (folder / "COMPLETE").write_text(json.dumps(files))
        assert checkpoint.torn(folder), files
