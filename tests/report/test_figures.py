"""Curves and histograms: what they keep of the data, and SVG that a page can hold."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unimo.report.figures import POINTS, line_figure, loss_figures, score_figure, smooth, thin, with_prefix
from unimo.report.run_folder import LogRecord


@settings(deadline=None)
@given(arrays(np.float64, st.integers(1, 200), elements=st.floats(-100, 100)))
def test_smoothing_stays_within_the_values(values: np.ndarray):
    smoothed = smooth(values)
    assert smoothed[0] == pytest.approx(values[0])
    assert (smoothed >= values.min() - 1e-9).all() and (smoothed <= values.max() + 1e-9).all()


def test_smoothing_takes_noise_out_and_follows_a_change():
    noisy = np.random.default_rng(0).normal(size=400) + np.repeat([5.0, 1.0], 200)
    smoothed = smooth(noisy)
    assert smoothed[100:200].std() < 0.4 * noisy[100:200].std()
    assert smoothed[190:200].mean() == pytest.approx(5, abs=0.5)
    assert smoothed[-10:].mean() == pytest.approx(1, abs=0.5)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_thinning_keeps_order_and_extremes(count: int, seed: int):
    values = np.random.default_rng(seed).normal(size=count)
    steps, kept = thin(np.arange(count), values)
    assert len(steps) <= POINTS and (np.diff(steps) > 0).all()
    assert (values[steps] == kept).all()
    assert kept.min() == values.min() and kept.max() == values.max()


def texts(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_one_figure_per_objective_with_its_streams():
    updates = [
        LogRecord(step=1, stream="text", losses={"mlm": 2.0}, total=2.0),
        LogRecord(step=2, stream="pair", losses={"mlm": 2.0, "cmcl": 1.0}, total=3.0),
        LogRecord(step=3, stream="pair", losses={"mlm": float("nan"), "cmcl": 1.0}, total=float("inf")),
    ]
    mlm, cmcl, total = [texts(svg) for svg in loss_figures(updates)]
    assert {"mlm", "text", "pair"} <= set(mlm)
    assert {"cmcl", "pair"} <= set(cmcl) and "text" not in cmcl
    assert {"weighted total", "text", "pair"} <= set(total)


def test_names_are_taken_literally_and_figures_are_reproducible():
    curves = {"$x_1$ <b>": ([1, 2], [0.5, 0.25])}
    svg = line_figure('loss & "$\\frac$"', curves)
    assert "$x_1$ <b>" in texts(svg) and 'loss & "$\\frac$"' in texts(svg)
    assert svg == line_figure('loss & "$\\frac$"', curves)


@pytest.mark.parametrize(
    "svg",
    [line_figure("loss", {"text": ([1, 2], [3.0, 4.0])}), score_figure({"object": ("X-", [0.1, 0.2])})],
    ids=["lines", "scores"],
)
def test_renamed_ids_are_still_found(svg: str):
    elements = list(ElementTree.fromstring(with_prefix(svg, "one-")).iter())
    ids = [e.get("id") for e in elements if e.get("id")]
    assert ids and len(ids) == len(set(ids)) and all(i.startswith("one-") for i in ids)
    used = {e.get("{http://www.w3.org/1999/xlink}href", "").removeprefix("#") for e in elements} - {""}
    used |= {name for e in elements for v in e.attrib.values() for name in re.findall(r"url\(#([^)]*)\)", v)}
    assert used == set(ids)


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5], [-3.0, 4.0]])
def test_score_figure_names_kinds_and_sides(scores: list[float]):
    found = texts(score_figure({"original": ("X+", scores), "tfidf": ("X-", [0.0])}))
    assert {"original (X+)", "tfidf (X-)", "match score"} <= set(found)
