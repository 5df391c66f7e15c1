"""engine.groups: rates, decay and freezing by pattern, against plain AdamW; and every way to get the patterns wrong."""

import os
import re
import signal

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file
from tiny_task import TinyData, TinyModel, TinyTask, UnimoTask

from unimo.config import validate
from unimo.engine import checkpoint
from unimo.engine.distributed import World
from unimo.engine.loop import train
from unimo.engine.optimizer import Optimizer, assign
from unimo.engine.settings import EngineConfig, Group
from unimo.errors import ConfigError, Preempted

SCALER = paddle.amp.GradScaler(enable=False)


def config(**values) -> EngineConfig:
    return validate(EngineConfig, {"steps": 6, "learning_rate": 0.1, **values}, "test")


def moved(groups: list[dict], rate: float = 0.1, **values) -> dict[str, np.ndarray]:
    """What one update with equal gradients adds to each parameter of the tiny model."""
    paddle.seed(0)
    model = TinyModel(0.0)
    optimizer = Optimizer(model, config(groups=groups, **values), World())
    before = {name: p.numpy() for name, p in model.named_parameters()}
    for parameter in optimizer.parameters.values():
        parameter.grad = paddle.ones_like(parameter)
    optimizer.step(rate, SCALER)
    return {name: p.numpy() - before[name] for name, p in model.named_parameters()}


def test_a_rate_is_a_share_of_the_schedules():
    whole = moved([], weight_decay=0.0)
    groups = [{"match": "embed", "rate": 0.25}, {"match": "words|regions"}]
    found = moved(groups, weight_decay=0.0)
    for name, step in found.items():
        share = 0.25 if name.startswith("embed") else 1.0
        np.testing.assert_allclose(step, share * whole[name], rtol=1e-4, atol=1e-8)


def test_a_group_without_decay():
    """With a gradient, what decay adds is rate * decay * weight; layer norms and biases never have it."""
    plain, decayed = moved([], weight_decay=0.0), moved([], weight_decay=0.5)
    found = moved([{"match": "words", "decay": False}, {"match": "(?!words)"}], weight_decay=0.5)
    for name, step in found.items():
        np.testing.assert_array_equal(step, (plain if name.startswith("words") else decayed)[name])
    assert not np.array_equal(plain["words.weight"], decayed["words.weight"])


def test_the_large_step_of_the_cpu_takes_rate_and_decay_too(monkeypatch):
    """Parameters above a size are updated by our own AdamW step on processors without AVX-512."""
    groups = [{"match": "embed", "rate": 0.25, "decay": False}, {"match": "words|regions"}]
    kernel = moved(groups, weight_decay=0.5)
    monkeypatch.setattr("unimo.engine.adamw.KERNEL_IS_FAST", False)
    monkeypatch.setattr("unimo.engine.adamw.SMALL", 0)
    for name, step in moved(groups, weight_decay=0.5).items():
        np.testing.assert_allclose(step, kernel[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("task", [TinyTask, UnimoTask])
def test_frozen_parameters_stay_and_have_no_moments(tmp_path, task):
    frozen = {TinyTask: "embed\\.|embed_norm", UnimoTask: r"word_embedding|position_embedding|text_norm|layers\.0\."}[
        task
    ]
    paddle.seed(0)
    trained = task()
    before = {name: p.numpy() for name, p in trained.model.named_parameters()}
    groups = [{"match": frozen, "frozen": True}, {"match": f"(?!{frozen})"}]
    train(trained, TinyData(), config(groups=groups, warmup=0), tmp_path)
    moments = load_file(checkpoint.find_latest(tmp_path) / checkpoint.OPTIMIZER)
    for name, parameter in trained.model.named_parameters():
        stays = bool(re.match(frozen, name))
        assert np.array_equal(parameter.numpy(), before[name]) == stays, name
        assert (f"{name}.moment1" in moments) != stays


class Stopping(TinyData):
    """Asks the run to stop in the third update, as a scheduler does."""

    def next(self) -> list:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().next()


def test_a_frozen_run_resumes_bit_equal(tmp_path):
    groups = [{"match": "embed", "frozen": True}, {"match": "words|regions", "rate": 2.0}]

    def run(folder: str, data: TinyData) -> None:
        paddle.seed(0)
        train(TinyTask(dropout=0.2), data, config(groups=groups), tmp_path / folder)

    run("straight", TinyData())
    with pytest.raises(Preempted):
        run("stopped", Stopping())
    run("stopped", TinyData())
    for file in (checkpoint.MODEL, checkpoint.OPTIMIZER):
        ours, theirs = (checkpoint.folder_of(tmp_path / run, 6) / file for run in ("stopped", "straight"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_rank_without_parameters_takes_part(start, tmp_path):
    """Sharding leaves one of two ranks nothing where a single bias is trained."""
    groups = [{"match": "words.bias"}, {"match": "(?!words.bias)", "frozen": True}]
    engine = {"steps": 3, "groups": groups, "schedule": "constant"}
    assert start(tmp_path / "one", {"engine": engine}).wait() == [0]
    assert start(tmp_path / "two", {"engine": engine | {"sharding": 1}}, ranks=2).wait() == [0, 0]
    one, two = (load_file(checkpoint.folder_of(tmp_path / run, 3) / checkpoint.MODEL) for run in ("one", "two"))
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-6)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([{"match": "embed"}], ["words.weight: matches none, expected exactly one", "regions.bias: matches none"]),
        ([{"match": ""}, {"match": "embed_"}], ["embed_norm.weight: matches '' and 'embed_', expected exactly one"]),
        ([{"match": ""}, {"match": "nothing"}], ["'nothing': no parameter's name begins like this"]),
        ([{"match": "", "frozen": True}], ["every parameter is frozen"]),
    ],
)
def test_every_parameter_matches_exactly_one_group(groups, words):
    with pytest.raises(ConfigError) as error:
        assign(TinyModel(0.0), [Group(**group) for group in groups])
    for part in words:
        assert part in str(error.value)


def test_a_pattern_that_is_none_is_named():
    with pytest.raises(ConfigError, match=r"groups.0.match: .*'\(' is no regular expression"):
        config(groups=[{"match": "("}])
