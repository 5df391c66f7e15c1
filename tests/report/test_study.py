"""Arms and seeds -> means, intervals and paired differences."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from example_runs import classification, evaluation, metrics, write
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from unimo.cli import main
from unimo.errors import DataError
from unimo.evaluate.results import Metric, write_result
from unimo.report.run_folder import open_runs
from unimo.report.study import as_text, estimate, measures, read_study

VALUES = st.lists(st.floats(0, 100), min_size=2, max_size=9)


@settings(deadline=None)  # the first call may be slow on a busy machine
@given(VALUES)
def test_the_interval_is_students(values: list[float]):
    found = estimate(values)
    assert found.mean == pytest.approx(np.mean(values))
    if np.std(values) > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert found.half_width == pytest.approx((high - low) / 2)


def study(folder: Path, **arms: list[float]) -> Path:
    for arm, qualities in arms.items():
        for seed, quality in enumerate(qualities, start=1):
            write(folder / arm / f"seed_{seed}" / "metrics.json", metrics(arm, quality))
    return folder


def test_differences_are_paired_by_seed(tmp_path: Path):
    """Seeds that are good or bad for all arms alike cancel out: the difference is sharper than the means."""
    folder = study(tmp_path, plain=[0.1, 0.3, 0.5], full=[0.21, 0.4, 0.59])
    shown = CliRunner().invoke(main, ["report", "study", str(folder), "--baseline", "plain"])
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.output.splitlines() if line]
    assert lines[0].startswith("3 seeds (seed_1, seed_2, seed_3)")
    means = {line.split()[0]: line for line in lines[1:4]}
    assert "35.8 ± 45.5" in means["plain"]  # chance 1/12 + 0.3 of the rest; t(2) = 4.303
    assert lines[4].split() == ["chance", "8.3", "83.3", "8.3", "83.3", "44.4"]  # and their mean with R@5
    assert lines[5].startswith("minus plain") and "9.2 ± 2.3 *" in lines[6]
    assert len(lines) == 7


def test_arms_and_seeds_may_be_chosen(tmp_path: Path):
    """Arms that were run with fewer seeds are compared on those that both have, when that is asked for."""
    folder = study(tmp_path, plain=[0.1, 0.3, 0.5], full=[0.2, 0.4, 0.6], other=[0.5])
    command = ["report", "study", str(folder), "--baseline", "plain"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2 and "every arm needs the same seeds" in refused.output
    both = CliRunner().invoke(main, [*command, "--arm", "plain", "--arm", "full"]).output
    assert both.startswith("3 seeds") and "other" not in both and both.split("minus plain")[1].count("full") == 1
    first = CliRunner().invoke(main, [*command, "--seed", "seed_1"]).output
    assert first.startswith("1 seeds (seed_1)") and "other" in first
    for wrong in (["--arm", "none"], ["--seed", "9"]):
        refused = CliRunner().invoke(main, [*command, *wrong])
        assert (
            refused.exit_code == 2 and f"has no arm or seed '{wrong[1]}'; it holds full, other, plain" in refused.output
        )


def test_seeds_of_a_fold_are_no_further_draws(tmp_path: Path):
    """Two folds of other galleries with two seeds each: the interval is of two values, each the mean of two."""
    for fold, captions in (("a", 12), ("b", 13)):
        for seed in (1, 2):
            for arm, quality in (("plain", 0.1), ("full", 0.2 + 0.1 * seed + 0.1 * (fold == "b"))):
                found = metrics(arm, quality, captions=captions)
                write(tmp_path / arm / f"{fold}-{seed}" / "metrics.json", found)
    lines = as_text(read_study(tmp_path), "plain").splitlines()
    assert lines[0].startswith("2 folds, 4 runs of each arm, percent")
    full, plain = (
        [measures(run)["caption -> image R@1"] for run in open_runs(sorted((tmp_path / a).glob("*")))]
        for a in ("full", "plain")
    )
    apart = np.subtract(full, plain).reshape(2, 2).mean(1)
    expected = estimate(apart.tolist())
    row = next(line for line in lines[5:] if line.startswith("full "))
    assert str(expected) in row and expected.half_width > 5
    write(tmp_path / "full" / "b-2" / "metrics.json", metrics("full", 0.1, captions=12))
    with pytest.raises(DataError, match="evaluated on different data"):
        read_study(tmp_path)


def test_a_swap_counts_how_often_the_caption_wins(tmp_path: Path):
    run = evaluation(tmp_path / "run")
    found = measures(open_runs([run])[0])
    assert {"beats object", "beats attribute", "beats relation", "beats tfidf"} <= found.keys()
    assert found["beats tfidf"] > found["beats relation"]
    candidates = {"original": {"a": [1.0], "b": [2.0]}, "object": {"a": [0.5, 1.0], "b": [3.0, 1.0]}}
    write(run / "gallery.json", {"candidates": candidates})
    assert measures(open_runs([run])[0])["beats object"] == 62.5  # two wins, a tie and a loss
    shutil.copytree(run, tmp_path / "study" / "plain" / "1")
    means = as_text(read_study(tmp_path / "study"), "plain").splitlines()[2:5]
    assert means[0].endswith("beats object") and means[1].endswith("62.5") and means[2].endswith("50.0")


def test_one_seed_has_no_interval(tmp_path: Path):
    text = as_text(read_study(study(tmp_path, plain=[0.1], full=[0.2])), "plain")
    assert "±" not in text.split("\n", 1)[1] and "9.2" in text


def test_what_is_no_study_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no runs"):
        read_study(tmp_path)
    folder = study(tmp_path, plain=[0.1, 0.2], full=[0.1])
    with pytest.raises(DataError, match="every arm needs the same seeds"):
        read_study(folder)
    write(folder / "full" / "seed_2" / "metrics.json", metrics("full", 0.1, captions=50))
    with pytest.raises(DataError, match="evaluated on different data"):
        read_study(folder)
    (folder / "full" / "seed_2" / "metrics.json").unlink()
    write(folder / "full" / "seed_2" / "state.json", {"status": "done"})
    with pytest.raises(DataError, match="not evaluated yet .*seed_2"):
        read_study(folder)
    with pytest.raises(DataError, match="no arm 'none'"):
        as_text(read_study(study(tmp_path / "other", plain=[0.1])), "none")


def test_a_study_of_another_task(tmp_path: Path):
    for arm, right in (("plain", 5), ("full", 8)):
        for seed in (1, 2):
            hits = [int(i < right + seed) for i in range(20)]
            classification(tmp_path / arm / str(seed), arm, hits)
    text = as_text(read_study(tmp_path), "plain")
    lines = [line.split() for line in text.splitlines() if line]
    assert text.startswith("2 seeds (1, 2), each in its unit, mean ± 95 % interval by Student's t; * = excludes 0")
    assert lines[1] == ["arm", "accuracy", "(%)", "perplexity", "(points)"]
    assert lines[2][:2] == ["full", "47.5"] and lines[3][:2] == ["plain", "32.5"]
    assert lines[4] == ["chance", "50.0", "-"]
    assert lines[6][:4] == ["full", "15.0", "±", "0.0"]
    classification(tmp_path / "full" / "2", "full", [1] * 20, items="20 pictures")
    with pytest.raises(DataError, match="evaluated on different data"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("unit", "head"), [("%", "(1), percent, mean"), ("points", "(1), points, mean"), ("", "(1), mean")]
)
def test_one_unit_stands_in_the_head(tmp_path: Path, unit: str, head: str):
    facts = {"label": "x", "split": "test"}
    write_result(tmp_path / "plain" / "1", "generate", {"cider": Metric(124.4, unit)}, facts)
    text = as_text(read_study(tmp_path), "plain")
    assert head in text and text.splitlines()[2].split() == ["arm", "cider"]
