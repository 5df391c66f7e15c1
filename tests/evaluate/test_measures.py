"""Metrics with intervals, paired differences, and the files of a result."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.errors import DataError, NonFiniteError
from unimo.evaluate import results
from unimo.evaluate.results import Metric, Sample, difference, line_of, measure, write_result
from unimo.evaluate.retrieval import recall_chances, recall_samples, recalls

UNITS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), min_size=1, max_size=30)


def sample(units: list[tuple[float, int]]) -> Sample:
    return Sample(np.array([v for v, _ in units]), np.array([w for _, w in units]))


def plain_bootstrap(units: list[tuple[float, int]], bootstrap: int, seed: int) -> np.ndarray:
    """One draw after the other, from the table of all draws."""
    draws = np.random.default_rng(seed).integers(len(units), size=(bootstrap, len(units)))
    return np.array([sum(units[i][0] for i in d) / sum(units[i][1] for i in d) for d in draws])


@settings(deadline=None, max_examples=50)
@given(UNITS, st.integers(0, 3), st.sampled_from([1, 40, 1 << 22]))
def test_measure_is_the_plain_bootstrap(units, seed, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "BLOCK", block)  # drawn in blocks or at once: the same draws
        found = measure(sample(units), chance=0.25, bootstrap=50, seed=seed)
    low, high = np.quantile(plain_bootstrap(units, 50, seed), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high))
    assert found.value == pytest.approx(100 * sum(v for v, _ in units) / sum(w for _, w in units))
    assert (found.unit, found.chance, found.n) == ("%", 25.0, sum(w for _, w in units))


@settings(deadline=None, max_examples=50)
@given(UNITS, st.data())
def test_a_difference_is_paired(units, data):
    assert difference(sample(units), sample(units)) == (0, 0, 0)
    better = [(data.draw(st.floats(v, 3)), w) for v, w in units]
    value, low, high = difference(sample(better), sample(units), bootstrap=200)
    assert value == pytest.approx(100 * (sample(better).ratio - sample(units).ratio), abs=1e-9)
    assert low >= -1e-9, "better on every unit is better in every draw"
    apart = plain_bootstrap(better, 200, 0) - plain_bootstrap(units, 200, 0)
    assert (low, high) == pytest.approx(tuple(100 * np.quantile(apart, [0.025, 0.975])), abs=1e-9)


def test_what_is_no_sample_is_refused():
    for values, weights in (([], []), ([1], [1, 1]), ([[1]], [[1]]), ([1, 1], [1, 0])):
        with pytest.raises(DataError):
            Sample(np.array(values), np.array(weights))
    with pytest.raises(NonFiniteError):
        Sample(np.array([np.nan]), np.ones(1))
    with pytest.raises(DataError, match="samples of 2 and 3 units cannot be paired"):
        difference(Sample(np.ones(2), np.ones(2)), Sample(np.ones(3), np.ones(3)))


def test_recalls_are_measures_of_their_samples():
    rng = np.random.default_rng(4)
    image_of_caption = np.repeat(np.arange(20), rng.integers(1, 4, size=20))
    scores = rng.normal(size=(len(image_of_caption), 20))
    found, chances = recalls(scores, image_of_caption), recall_chances(image_of_caption)
    for name, recall in found.items():
        in_percent = measure(recall_samples(scores, image_of_caption)[name], chance=chances[name])
        assert in_percent.value == 100 * recall.value and in_percent.high == 100 * recall.high
        assert in_percent.chance == 100 * recall.chance
        assert in_percent.n == (len(image_of_caption) if name.startswith("image") else 20)


def test_lines_for_people():
    full = Metric(9.43, "%", 4.56, 14.8, 1.0, 106)
    assert line_of("image_recall@1", full) == "image_recall@1     9.4%  95 % interval   4.6% to  14.8%  chance   1.0%"
    assert line_of("cider", Metric(124.4, "points"), 127.7) == "cider            124.4 points  paper 127.7"


FACTS = {"label": "ours", "split": "test", "data": {"pairs_sha256": "aa", "regions": "r1"}}


def result(folder: Path, hits: list[int], facts: dict = FACTS, task: str = "classify", **more) -> list[str]:
    found = Sample(np.array(hits), np.ones(len(hits)))
    units = more.pop("units", [f"s{i}" for i in range(len(hits))])
    return write_result(folder, task, {"accuracy": measure(found)}, facts, {"accuracy": found}, units, **more)


def test_files_of_a_result(tmp_path: Path):
    lines = result(tmp_path / "a" / "b", [1, 0, 1, 1], shown={"gallery.json": {"captions": []}})
    written = {p.name: json.loads(p.read_text()) for p in (tmp_path / "a" / "b").iterdir()}
    assert written.keys() == {"metrics.json", "items.json", "gallery.json"}
    assert list(written["metrics.json"]) == ["task", *FACTS, "metrics", "differences", "provenance"]
    found = written["metrics.json"]["metrics"]["accuracy"]
    assert (found["value"], found["unit"], found["n"]) == (75, "%", 4) and "chance" not in found
    assert written["items.json"]["samples"]["accuracy"]["values"] == [1, 0, 1, 1]
    assert lines[0].startswith("accuracy          75.0%  95 % interval")


def test_an_evaluation_is_paired_with_earlier_ones(tmp_path: Path):
    rng = np.random.default_rng(0)
    theirs = rng.integers(2, size=200)
    ours = np.maximum(theirs, rng.random(200) < 0.2)
    result(tmp_path / "base", theirs.tolist(), FACTS | {"label": "base"})
    result(tmp_path / "twin", theirs.tolist())  # the label of ours: named by its folder
    both = [tmp_path / "base", tmp_path / "twin"]
    lines = result(tmp_path / "ours", ours.astype(int).tolist(), against=both)
    written = json.loads((tmp_path / "ours" / "metrics.json").read_text())["differences"]
    assert [d["to"] for d in written] == ["base", str(tmp_path / "twin")]
    edges = difference(Sample(ours, np.ones(200)), Sample(theirs, np.ones(200)))
    assert [written[0][key] for key in ("value", "low", "high")] == pytest.approx(edges)
    gain, low, high = (f"{edge:.1f}" for edge in edges)
    assert lines[1] == f"ours minus base: accuracy +{gain} [{low}, {high}] *", "better on some, worse on none"
    nothing = result(tmp_path / "same", theirs.tolist(), FACTS | {"label": "same"}, against=[tmp_path / "base"])
    assert nothing[1] == "same minus base: accuracy +0.0 [0.0, 0.0]"


def test_scales_of_other_units_and_zeros(tmp_path: Path):
    for name, values in (("zero", [0.0, 0.0]), ("some", [1.0, 0.5])):
        found = Sample(np.array(values), np.ones(2))
        metrics = {"cider": measure(found, "points", 100.0), "loss": measure(found, "nats", 1.0)}
        against = [tmp_path / "zero"] if name == "some" else []
        samples = dict.fromkeys(metrics, found)
        write_result(tmp_path / name, "generate", metrics, {"label": name}, samples, ["a", "b"], against=against)
    written = json.loads((tmp_path / "some" / "metrics.json").read_text())["differences"]
    assert {d["metric"]: d["value"] for d in written} == {"cider": 75.0, "loss": 0.75}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "retrieval"}, "task 'classify', here 'retrieval'"),
        ({"facts": FACTS | {"split": "dev"}}, "split 'test', here 'dev'"),
        ({"facts": FACTS | {"data": {"pairs_sha256": "bb"}}}, r"another file of the data \(pairs_sha256\)"),
        ({"units": ["s0", "x"]}, "other units: the first that differs is 's1', here 'x'"),
        ({"units": ["s1", "s0"]}, "other units: the first that differs is 's0', here 's1'"),
    ],
)
def test_what_cannot_be_paired_is_named(tmp_path: Path, change: dict, message: str):
    result(tmp_path / "base", [1, 0])
    with pytest.raises(DataError, match=f"base is not a result on the same items: {message}"):
        result(tmp_path / "ours", [1, 1], **{"against": [tmp_path / "base"]} | change)
    assert not (tmp_path / "ours").exists(), "nothing is written"
    same_images = FACTS | {"data": {"pairs_sha256": "aa", "regions": "of another extractor"}}
    result(tmp_path / "ours", [1, 1], same_images, against=[tmp_path / "base"])


def test_a_missing_or_broken_record_of_items_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="none has no items.json to compare with .*evaluate it again"):
        result(tmp_path / "ours", [1], against=[tmp_path / "none"])
    (tmp_path / "items.json").write_text('{"task": "classify"}')
    with pytest.raises(DataError, match="items.json: key 'split' is missing"):
        result(tmp_path / "ours", [1], against=[tmp_path])
    with pytest.raises(DataError, match="samples of accuracy: not one value for each of 1 units"):
        result(tmp_path / "ours", [1, 0], units=["a"])


def test_the_papers_number_stands_beside_ours(tmp_path: Path):
    paper = {"table": "unimo_table1", "row": "UNIMO-base", "dataset": "SNLI-VE", "mode": "finetuned"}
    assert result(tmp_path, [1, 0], FACTS | {"paper": paper})[0].endswith("  paper 79.1")
    assert result(tmp_path, [1, 0], FACTS | {"paper": paper, "split": "dev"})[0].endswith("  paper 80")
    assert "paper" not in result(tmp_path, [1, 0], FACTS | {"paper": paper, "split": "train"})[0]
