"""Which dict of a torch file is read; the files are written here, without torch, under its names."""

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from unimo.errors import CheckpointError
from unimo.port.files.torch_files import open_torch


class Held:
    """A storage by its key, as a pickle mentions it."""

    def __init__(self, key: str, count: int):
        self.key, self.count = key, count


def _rebuild_tensor_v2() -> None: ...


class FloatStorage: ...


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a value of float32 arrays as torch.save does."""
    for name, thing in (("torch", FloatStorage), ("torch._utils", _rebuild_tensor_v2)):
        module = ModuleType(name)
        setattr(module, thing.__name__, thing)
        monkeypatch.setattr(thing, "__module__", name)
        monkeypatch.setitem(sys.modules, name, module)

    def write(value: object) -> Path:
        arrays: list[np.ndarray] = []

        class Pickler(pickle.Pickler):
            def reducer_override(self, thing):
                if not isinstance(thing, np.ndarray):
                    return NotImplemented
                arrays.append(thing)
                held = Held(str(len(arrays) - 1), thing.size)
                strides = tuple(s // 4 for s in thing.strides)
                return _rebuild_tensor_v2, (held, 0, thing.shape, strides, False, OrderedDict())

            def persistent_id(self, thing):
                return ("storage", FloatStorage, thing.key, "cpu", thing.count) if isinstance(thing, Held) else None

        target = io.BytesIO()
        Pickler(target, 2).dump(value)
        with zipfile.ZipFile(tmp_path / "saved.pth", "w") as file:
            file.writestr("saved/data.pkl", target.getvalue())
            for i, array in enumerate(arrays):
                file.writestr(f"saved/data/{i}", array.tobytes())
        return tmp_path / "saved.pth"

    return write


def arrays(count: int, start: float = 0) -> dict[str, np.ndarray]:
    return {f"layer.{i}.weight": np.full((2, 3), start + i, np.float32) for i in range(count)}


SCALAR = np.float32(76.5).reshape(())


@pytest.mark.parametrize(
    "value",
    [
        {"epoch": 3, "best_acc1": np.array(SCALAR), "state_dict": arrays(4)},
        {"logit_scale": np.array(SCALAR), "net": arrays(4), "scheduler": {"base": np.array(SCALAR)}},
        {"step": np.array(SCALAR), "model": {"module": arrays(4), "beta": np.array(SCALAR)}},
        {**arrays(4), "extra_state": {"mean": np.array(SCALAR)}},
        {"model": arrays(4), "model_ema": arrays(4, 100)},
        {"ema": arrays(4, 100), "state_dict": arrays(4)},
    ],
)
def test_the_dict_of_most_tensors_is_read(value: dict, save):
    found = open_torch(save(value))
    assert {name: tensor.read().tolist() for name, tensor in found.items()} == {
        name: array.tolist() for name, array in arrays(4).items()
    }


def test_two_models_under_unusual_names_are_refused(save):
    path = save({"student": arrays(4), "teacher": arrays(4, 9), "loss": np.array(SCALAR)})
    with pytest.raises(CheckpointError, match="holds 4 tensors in each of student and teacher; save the one that"):
        open_torch(path)


def test_a_file_without_tensors_is_refused(save):
    with pytest.raises(CheckpointError, match="holds no dict of tensors"):
        open_torch(save({"model": {"epoch": 3}}))
