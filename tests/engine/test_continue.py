"""A run that goes on from carried moments and step ends where a run that never stopped does."""

import numpy as np
import paddle
import pytest
from tiny_task import TinyData, TinyTask

from unimo.engine import checkpoint
from unimo.engine.loop import train
from unimo.engine.settings import EngineConfig
from unimo.errors import CheckpointError, ConfigError

SETTINGS = {"steps": 6, "learning_rate": 0.01, "log_every": 1, "warmup": 2, "compat": {"adam_epsilon": "fluid-1.8"}}


def test_moments_and_step_are_carried_over(tmp_path):
    paddle.seed(0)
    straight, data = TinyTask(), TinyData()
    train(straight, data, EngineConfig(**SETTINGS, save_every=3), tmp_path / "straight")
    folder = checkpoint.folder_of(tmp_path / "straight", 3)

    carried, data = TinyTask(), TinyData()
    checkpoint.load_model(folder, carried.model)
    data.step = 3  # this data goes on; a user's starts again
    record = train(carried, data, EngineConfig(**SETTINGS, continue_from=str(folder)), tmp_path / "carried")
    assert record["step"] == 6
    assert (tmp_path / "carried" / "log.jsonl").read_text().count("\n") == 3
    for name, parameter in straight.model.named_parameters():
        np.testing.assert_array_equal(parameter.numpy(), carried.model.state_dict()[name].numpy(), err_msg=name)


def test_a_folder_without_moments(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        train(TinyTask(), TinyData(), EngineConfig(**SETTINGS, continue_from="nowhere"), tmp_path / "run")
    (tmp_path / "bare").mkdir()
    with pytest.raises(CheckpointError, match="optimizer.safetensors"):
        settings = EngineConfig(**SETTINGS, continue_from=str(tmp_path / "bare"))
        train(TinyTask(), TinyData(), settings, tmp_path / "run")


def test_a_step_behind_the_end(tmp_path):
    train(TinyTask(), TinyData(), EngineConfig(**SETTINGS), tmp_path / "whole")
    folder = checkpoint.folder_of(tmp_path / "whole", 6)
    with pytest.raises(ConfigError, match="is of step 6, which leaves none"):
        train(TinyTask(), TinyData(), EngineConfig(**SETTINGS, continue_from=str(folder)), tmp_path / "run")
