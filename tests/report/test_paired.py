"""Rows minus a baseline: paired over the same pictures, refused where they are not the same."""

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from example_runs import classification, metrics, pretraining, write

from unimo.cli import main
from unimo.errors import DataError
from unimo.evaluate.results import Sample, measure, write_result
from unimo.evaluate.retrieval import recall_chances, recall_samples
from unimo.report.paired import paired
from unimo.report.run_folder import open_runs

IMAGES = 40
ROWS = np.repeat(np.arange(IMAGES), np.arange(IMAGES) % 2 + 1)  # one caption or two
DATA = {"pairs_sha256": "aa"}


def scores(quality: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(ROWS), IMAGES)) + quality * np.eye(IMAGES)[ROWS]


def row(folder: Path, label: str, matrix: np.ndarray, **more) -> Path:
    """A row of the table from any scorer, model or not: what its writer has to say."""
    samples, chances = recall_samples(matrix, ROWS), recall_chances(ROWS)
    found = {name: measure(sample, chance=chances[name]) for name, sample in samples.items()}
    facts = {"label": label, "split": "test", "captions": len(ROWS), "images": IMAGES, "data": DATA} | more
    units = facts.pop("units", [f"picture {n}" for n in range(IMAGES)])
    write_result(folder / label, "retrieval", found, facts, samples, units)
    return folder / label


def by_hand(ours: np.ndarray, theirs: np.ndarray, draws: int = 1000) -> tuple[float, np.ndarray]:
    """Mean of the six recalls of one matrix minus that of the other: value and interval, one draw after the other."""
    a, b = recall_samples(ours, ROWS), recall_samples(theirs, ROWS)

    def mean(found: dict[str, Sample], units: np.ndarray) -> float:
        return 100 * np.mean([s.values[units].sum() / s.weights[units].sum() for s in found.values()])

    drawn = np.random.default_rng(0).integers(IMAGES, size=(draws, IMAGES))
    everything = np.arange(IMAGES)
    apart = [mean(a, units) - mean(b, units) for units in drawn]
    return mean(a, everything) - mean(b, everything), np.quantile(apart, [0.025, 0.975])


def numbers(cell: str) -> list[float]:
    return [float(n) for n in re.findall(r"[-+]?[0-9.]+", cell)]


def test_the_mean_and_every_recall_with_their_intervals(tmp_path: Path):
    base = scores(1.0)
    better = base + 1.5 * np.eye(IMAGES)[ROWS]  # the same noise: better on each picture or equal
    runs = [row(tmp_path, "base", base), row(tmp_path, "ours", better), row(tmp_path, "other", scores(1.0, 9))]
    found = paired(open_runs([*runs, pretraining(tmp_path / "pretrain", 100)]), "base")
    assert found.legend == "differences to base: 95 % paired bootstrap interval over 40 units, * = excludes 0"
    mean, to_image, to_text = found.grids
    assert mean[0] == ["minus base", "", "mean of the 6 recalls"]
    assert to_image[0] == ["minus base, caption -> image", "", "R@1", "R@5", "R@10"]
    assert [cells[:2] for cells in mean[1:]] == [["ours", "ours"], ["other", "other"]], "not the baseline"
    value, interval = by_hand(better, base)
    assert numbers(mean[1][2]) == pytest.approx([value, *interval], abs=0.06) and mean[1][2].endswith("] *")
    value, interval = by_hand(scores(1.0, 9), base)
    assert numbers(mean[2][2]) == pytest.approx([value, *interval], abs=0.06)
    assert len(to_image[1]) == len(to_text[1]) == 5 and numbers(to_text[1][2])[0] > 0
    apart = [numbers(cells[2])[2] - numbers(cells[2])[1] for cells in mean[1:]]
    assert apart[0] < apart[1], "what shares its noise is told apart more sharply"


def test_the_commands_print_it(tmp_path: Path):
    runs = [str(row(tmp_path, name, scores(q))) for name, q in (("base", 1.0), ("ours", 3.0))]
    printed = CliRunner().invoke(main, ["report", "table", *runs, "--baseline", "base"])
    assert printed.exit_code == 0 and "minus base, image -> caption" in printed.output
    assert "minus base" not in CliRunner().invoke(main, ["report", "table", *runs]).output
    page = CliRunner().invoke(
        main, ["report", "run", *runs, "--baseline", "ours", "--output", str(tmp_path / "p.html")]
    )
    assert page.exit_code == 0 and "minus ours, caption -&gt; image" in (tmp_path / "p.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data": {"pairs_sha256": "bb"}}, r"another file of the data \(pairs_sha256\)"),
        (
            {"units": [f"picture {n}" for n in range(1, IMAGES + 1)]},
            "the first that differs is 'picture 1', here 'pict",
        ),
        ({"split": "dev"}, "split 'dev', here 'test'"),
    ],
)
def test_rows_over_other_galleries_are_refused(tmp_path: Path, more: dict, message: str):
    runs = [row(tmp_path, "base", scores(1.0)), row(tmp_path, "other", scores(1.0), **more)]
    with pytest.raises(DataError, match=f"(?s)not to be compared with base .*other is not a result on .*{message}"):
        paired(open_runs(runs), "base")


def test_all_that_cannot_be_compared_is_named_at_once(tmp_path: Path):
    write(tmp_path / "old" / "metrics.json", metrics("old", 0.3))
    classification(tmp_path / "sentences", "sentences", [1, 0])
    others = [row(tmp_path, "dev", scores(1.0), split="dev"), row(tmp_path, "ours", scores(2.0))]
    paths = [row(tmp_path, "base", scores(1.0)), tmp_path / "old", *others, tmp_path / "sentences"]
    runs = open_runs(paths)
    with pytest.raises(DataError) as error:
        paired(runs, "base")
    assert "old has no items.json to compare with" in str(error.value)
    assert "split 'dev', here 'test'" in str(error.value)
    assert "sentences" not in str(error.value), "the rows of another task have a table of their own"
    one = paired([runs[0], runs[3], runs[4]], "base")
    assert [[line[1] for line in grid[1:]] for grid in one.grids] == [["ours"]] * len(one.grids)
    with pytest.raises(DataError, match=r"--baseline none: expected .* there are base \(base\), old \(old\), dev "):
        paired(runs, "none")


def test_a_row_whose_label_is_not_its_own_is_named_by_its_run(tmp_path: Path):
    runs = [row(tmp_path / name, "same", scores(q)) for name, q in (("a", 1.0), ("b", 2.0))]
    with pytest.raises(DataError, match=r"--baseline same: .* same \(a/same\), same \(b/same\)"):
        paired(open_runs(runs), "same")
    assert paired(open_runs(runs), "a/same").grids[0][1][1] == "b/same"


def test_another_task_has_no_mean(tmp_path: Path):
    for name, right in (("base", [0, 1] * 20), ("ours", [1, 1] * 20)):
        classification(tmp_path / name, name, right)
    (grid,) = paired(open_runs([tmp_path / "base", tmp_path / "ours"]), "base").grids
    assert grid[0] == ["minus base, classify", "", "accuracy (%)", "perplexity (points)"]
    assert numbers(grid[1][2])[0] == 50 and grid[1][3] == "-", "perplexity has no sample"
