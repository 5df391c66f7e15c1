"""A grid's best, median and mean over the seeds of equal settings, in any state of being run."""

from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
from click.testing import CliRunner

from unimo.cli import main
from unimo.evaluate.results import Sample, measure, write_result

UNITS = [f"s{k}" for k in range(100)]


def result(folder: Path, right: int, split: str = "dev", sha256: str = "x") -> None:
    sample = Sample(np.arange(100) < right, np.ones(100))
    facts = {"label": "run", "split": split, "examples": 100, "data": {"examples_sha256": sha256}}
    write_result(folder, "classify", {"accuracy": measure(sample)}, facts, {"accuracy": sample}, UNITS)


def said(folder: Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["report", "grid", str(folder)])
    return done.exit_code, done.output


def test_seeds_of_equal_settings_are_taken_together(tmp_path):
    values = {"batch16-rate1e-5": (60, 70, 95), "batch32-rate1e-5": (80, 81, 82), "batch16-rate2e-5": (50,)}
    for settings, seeds in values.items():
        for seed, right in enumerate(seeds, start=1):
            result(tmp_path / settings / str(seed), right)
    (tmp_path / "batch32-rate2e-5" / "1").mkdir(parents=True)  # begun, not evaluated
    code, output = said(tmp_path)
    assert code == 0
    rows = [line.split() for line in output.splitlines()]
    assert rows[0] == ["accuracy"] and rows[1] == ["settings", "seeds", "best", "median", "mean"]
    assert rows[2:] == [
        ["batch32-rate1e-5", "3", "82.00", "81.00", "81.00", "±", "1.00"],
        ["batch16-rate1e-5", "3", "95.00", "70.00", "75.00", "±", f"{stdev((60, 70, 95)):.2f}"],
        ["batch16-rate2e-5", "1", "50.00", "50.00", "50.00"],
    ], "by the mean, not by the luckiest seed"


def test_runs_that_are_none_or_of_other_data_are_refused(tmp_path):
    code, output = said(tmp_path)
    assert code == 2 and "holds no evaluated run; a grid is SETTINGS/SEED" in output
    result(tmp_path / "a" / "1", 50)
    for other in ({"split": "test"}, {"sha256": "y"}):
        result(tmp_path / "a" / "2", 50, **other)
        code, output = said(tmp_path)
        assert code == 2 and "evaluated on different data" in output


@pytest.mark.parametrize("content", ["{", '{"task": 3}'])
def test_a_damaged_result_is_named(tmp_path, content):
    result(tmp_path / "a" / "1", 50)
    (tmp_path / "a" / "1" / "metrics.json").write_text(content)
    code, output = said(tmp_path)
    assert code == 2 and "metrics.json" in output
