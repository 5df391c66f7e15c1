"""Learning-rate sequences of the release."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.config import validate
from unimo.engine.schedules import learning_rate, shortfall
from unimo.engine.settings import EngineConfig, in_steps
from unimo.errors import ConfigError


def config(**values) -> EngineConfig:
    return validate(EngineConfig, {"steps": 100, "learning_rate": 3e-5, **values}, "test")


def rates(c: EngineConfig, steps: range) -> list[float]:
    return [learning_rate(c, step) for step in steps]


def test_linear_warmup_decay_starts_at_zero_and_drops_after_the_warmup():
    b = 3e-5
    expected = [0, b / 6, 2 * b / 6, 3 * b / 6, 4 * b / 6, 5 * b / 6, 0.94 * b, 0.93 * b, 0.92 * b]
    assert rates(config(warmup=6), range(9)) == pytest.approx(expected, rel=1e-12)
    assert rates(config(warmup=0.06), range(9)) == pytest.approx(expected, rel=1e-12)
    assert learning_rate(config(warmup=6), 99) == pytest.approx(0.01 * b)
    assert rates(config(warmup=6), range(100, 103)) == [0, 0, 0]


def test_linear_warmup_decay_without_warmup_is_constant_as_in_the_release():
    assert set(rates(config(warmup=0), range(100))) == {3e-5}


def test_piecewise_is_the_releases_flickr_schedule():
    """Boundaries at 24 and 32 of 40 epochs, written as fractions or as updates."""
    for boundaries in ([0.6, 0.8], [60, 80]):
        c = config(schedule="piecewise", boundaries=boundaries)
        assert rates(c, range(100)) == pytest.approx([3e-5] * 60 + [3e-6] * 20 + [3e-7] * 20)


def test_noam_peaks_at_the_base_rate():
    sequence = rates(config(schedule="noam", warmup=4), range(16))
    assert sequence[:4] == pytest.approx([3e-5 / 4, 3e-5 / 2, 3e-5 * 3 / 4, 3e-5])
    assert sequence[15] == pytest.approx(3e-5 / 2)
    assert max(sequence) == sequence[3]


def test_constant():
    assert set(rates(config(schedule="constant"), range(100))) == {3e-5}


@settings(deadline=None)
@given(
    steps=st.integers(1, 10**6),
    warmup=st.floats(0, 1) | st.integers(0, 10**6),
    step=st.integers(0, 2 * 10**6),
    schedule=st.sampled_from(["linear_warmup_decay", "noam", "constant"]),
)
def test_a_rate_is_between_zero_and_its_base(steps, warmup, step, schedule):
    rate = learning_rate(config(steps=steps, warmup=warmup, schedule=schedule), step)
    assert 0 <= rate <= 3e-5
    assert 0 <= in_steps(warmup, steps) <= 10**6


def test_all_problems_of_a_config_come_in_one_error():
    with pytest.raises(ConfigError) as error:
        config(steps=0, warmup=-1, clip_norm=0, shedule="noam", amp="int8")
    message = str(error.value)
    assert "5 problem(s)" in message and "did you mean 'schedule'?" in message
    for key in ("steps", "warmup", "clip_norm", "amp"):
        assert f"- {key}" in message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"schedule": "piecewise"}, "boundaries are given exactly when"),
        ({"boundaries": [0.5]}, "boundaries are given exactly when"),
        ({"schedule": "piecewise", "boundaries": [80, 0.6]}, r"must ascend, in updates they are \[80, 60\]"),
    ],
)
def test_impossible_combinations(values, words):
    with pytest.raises(ConfigError, match=words):
        config(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"steps": 10, "warmup": 0.06},
            "warmup 0.06 of 10 updates is less than one, .*: every update has the rate 3e-05",
        ),
        ({"steps": 5, "warmup": 8}, "warmup takes all 5 updates: the rate stays below 3e-05, the highest is 1.5e-05"),
        ({"steps": 4, "schedule": "noam", "warmup": 4}, None),
        ({"steps": 3, "schedule": "noam", "warmup": 4}, "warmup takes all 3 updates: .*highest is 2.25e-05"),
        (
            {"steps": 1, "schedule": "piecewise", "boundaries": [0.5]},
            r"boundaries \[0.5\] fall outside of the 1 updates",
        ),
        ({"steps": 9, "schedule": "piecewise", "boundaries": [4, 9]}, r"\[9\] fall outside .*the rates 3e-05, 3e-06"),
        ({"steps": 100, "warmup": 0.06}, None),
        ({"steps": 100, "warmup": 0}, None),  # asked for: the release's constant rate
        ({"steps": 10, "schedule": "constant"}, None),
    ],
)
def test_a_run_too_short_for_its_schedule_says_what_that_means(values, words):
    found = shortfall(config(**values))
    assert found is None if words is None else re.search(words, found)


def test_epochs_come_to_updates():
    two = config(steps=None, epochs=2.5, warmup=0.1).over(lambda: 41)
    assert (two.steps, two.epochs) == (103, None)
    assert config(steps=None, epochs=3).over(lambda: 10 / 4).steps == 8
    assert config(steps=7).over(lambda: 1 / 0).steps == 7
    assert config(steps=None, epochs=0.001).over(lambda: 41).steps == 1
    with pytest.raises(ConfigError, match=r"(?s)0.1 epochs: .*boundaries must ascend, in updates they are"):
        config(steps=None, epochs=0.1, schedule="piecewise", boundaries=[0.1, 0.2]).over(lambda: 10)


@pytest.mark.parametrize("both", [{"epochs": 1}, {"steps": None}])
def test_a_duration_is_given_exactly_once(both):
    with pytest.raises(ConfigError, match="exactly one of steps"):
        config(**both)


def test_a_schedule_may_be_longer_than_the_run():
    """GLUE's of the release, planned for one GPU and run on eight: almost half of the run is warm-up, and the last rate
    is seven eighths of the base."""
    run = config(steps=1000, horizon=8.0, warmup=0.06)
    assert run.planned == 8000 and in_steps(run.warmup, run.planned) == 480
    assert learning_rate(run, 240) == pytest.approx(3e-5 / 2) and learning_rate(run, 479) < 3e-5
    assert learning_rate(run, 999) == pytest.approx(3e-5 * (1 - 999 / 8000))
    mended = config(steps=1000, warmup=0.06)
    assert learning_rate(mended, 999) == pytest.approx(3e-5 / 1000) and learning_rate(mended, 60) > learning_rate(
        run, 60
    )
    piecewise = config(steps=100, horizon=2.0, schedule="piecewise", boundaries=[0.25, 0.75])
    assert rates(piecewise, range(48, 52)) == pytest.approx([3e-5, 3e-5, 3e-6, 3e-6])
    with pytest.raises(ConfigError, match="horizon"):
        config(horizon=0.5)
