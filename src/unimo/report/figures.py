"""Curves and histograms as SVG text for a page. Needs matplotlib, and neither a display nor a download."""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from unimo.report.run_folder import LogRecord

# Okabe and Ito's colours, which colour-blind readers tell apart (2008, jfly.uni-koeln.de/color); dashes serve print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":")
STREAMS = ("text", "image", "pair", "retrieval")  # always the first colours, in this order
POINTS = 400  # a curve with more records keeps the lowest and highest of each of POINTS / 2 stretches

STYLE: dict[Any, Any] = {  # matplotlib has a type of its own for keys from 3.11 on
    "svg.fonttype": "none",  # text stays text: small, searchable
    "svg.hashsalt": "unimo",  # the same data gives the same bytes
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # legend -> steps, values


def loss_figures(updates: Sequence[LogRecord]) -> list[str]:
    """One SVG for each objective, and one for the weighted total; a curve for each stream."""
    names = dict.fromkeys(name for record in updates for name in record.losses)
    figures = [line_figure(name, _by_stream((r, r.losses.get(name)) for r in updates)) for name in names]
    return figures + [line_figure("weighted total", _by_stream((r, r.total) for r in updates))]


def course_figures(updates: Sequence[LogRecord]) -> list[str]:
    """Learning rate, gradient norm and throughput over the steps."""
    rates = {r.step: np.nan if r.lr is None else r.lr for r in updates}
    rate = {"": (list(rates), list(rates.values()))}
    return [
        line_figure("learning rate", rate, smoothed=False),
        line_figure("gradient norm", _by_stream((r, r.grad_norm) for r in updates)),
        line_figure("items per second", _by_stream((r, r.items_per_s) for r in updates)),
    ]


def observed_figures(records: Sequence[LogRecord]) -> list[str]:
    """One SVG for each thing that a task says of itself, such as a temperature or the codes in use."""
    names = dict.fromkeys(name for record in records for name in record.observed)
    said = {name: [r for r in records if name in r.observed] for name in names}
    curves = {name: ([r.step for r in found], [r.observed[name] for r in found]) for name, found in said.items()}
    return [line_figure(name.replace("_", " "), {"": curve}, smoothed=False) for name, curve in curves.items()]


def evaluation_figures(evaluations: Sequence[LogRecord], taken: LogRecord | None) -> list[str]:
    """The metrics of the evaluations on the way, over the steps: the one that checkpoints are chosen by, then all.

    Args:
        taken: the evaluation whose checkpoint was chosen; marked.
    """
    names = dict.fromkeys(name for record in evaluations for name in record.metrics)
    measured = {name: [r for r in evaluations if name in r.metrics] for name in names}
    curves = {name: ([r.step for r in found], [r.metrics[name] for r in found]) for name, found in measured.items()}
    mark = taken.step if taken else None
    by = next((r.metric for r in evaluations if r.metric in curves), None)
    chosen = [line_figure(f"{by} on dev", {"": curves[by]}, smoothed=False, mark=mark)] if by else []
    return [*chosen, line_figure("metrics on the way", curves, smoothed=False, mark=mark)]


def _by_stream(values: Iterable[tuple[LogRecord, float | None]]) -> Curves:
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for record, value in values:
        if value is not None:
            steps, numbers = curves.setdefault(record.stream, ([], []))
            steps.append(record.step)
            numbers.append(value)
    return curves


def line_figure(title: str, curves: Curves, smoothed: bool = True, mark: float | None = None) -> str:
    """One pair of axes over the steps. `smoothed`: records pale, their running mean on top. `mark`: the step that was
    taken. As SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 2.8), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, (all_steps, all_values)) in enumerate(curves.items()):
            finite = np.isfinite(np.asarray(all_values, np.float64))
            steps, values = np.asarray(all_steps)[finite], np.asarray(all_values, np.float64)[finite]
            place = STREAMS.index(name) if name in STREAMS else len(STREAMS) + number
            color, dashes = PALETTE[place % len(PALETTE)], DASHES[place % len(DASHES)]
            if smoothed:
                axes.plot(*thin(steps, values), color=color, alpha=0.3, linewidth=0.8)
            marker = "o" if len(steps) == 1 else None  # a line of one point would not show
            line = smooth(values) if smoothed else values
            axes.plot(*thin(steps, line), color=color, linestyle=dashes, linewidth=1.6, marker=marker, label=name)
        if mark is not None:
            axes.axvline(mark, color="black", linewidth=1, linestyle=":", label=f"taken: step {mark:g}")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.locator_params("x", integer=True)
        if any(curves) or mark is not None:
            figure.legend(loc="outside lower center", ncols=3, fontsize=8)
        return _svg(figure, title)


def smooth(values: np.ndarray) -> np.ndarray:
    """Exponential mean over about sqrt(n) values, without the usual pull to zero at the start. [n] -> [n]"""
    new = 1 / math.sqrt(max(1, len(values)))
    mean, weight, means = 0.0, 0.0, np.empty(len(values))
    for i, value in enumerate(values):
        mean, weight = (1 - new) * mean + new * value, (1 - new) * weight + new
        means[i] = mean / weight
    return means


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS of the points, such that the drawn curve reaches the same peaks and valleys."""
    if len(values) <= POINTS:
        return steps, values
    stretches = np.array_split(np.arange(len(values)), POINTS // 2)
    kept = np.unique([s[pick(values[s])] for s in stretches for pick in (np.argmin, np.argmax)])
    return steps[kept], values[kept]


def score_figure(rows: Mapping[str, tuple[str, Sequence[float]]]) -> str:
    """A histogram for each kind (kind -> "X+" or "X-", scores) above a common axis, medians marked. As SVG."""
    everything = np.concatenate([scores for _, scores in rows.values()])
    edges = np.histogram_bin_edges(everything, bins=40)
    with matplotlib.rc_context(STYLE | {"axes.grid": False, "axes.spines.left": False}):
        figure = Figure(figsize=(7.2, 0.4 + 0.62 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), sharex=True, squeeze=False)[:, 0]
        for axes, (kind, (side, scores)) in zip(grid, rows.items()):
            shares = np.full(len(scores), 1 / len(scores))
            look = {"color": PALETTE[0]} if side == "X+" else {"color": PALETTE[1], "hatch": "////"}
            axes.hist(scores, edges, weights=shares, edgecolor="white", linewidth=0, **look)
            axes.axvline(np.median(scores), color="black", linewidth=1.4)
            axes.set_yticks([])
            axes.set_ylabel(f"{kind} ({side})", rotation=0, ha="right", va="center")
        grid[-1].set_xlabel("match score")
        return _svg(figure, "match scores by kind of caption")


def with_prefix(svg: str, prefix: str) -> str:
    """The figure with its ids, and what refers to them, renamed: ids must not repeat within a page."""
    return re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", svg)


def _svg(figure: Figure, title: str) -> str:
    """SVG without XML head, metadata and the ids of groups, which nothing refers to."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={key: None for key in ("Creator", "Date", "Format", "Type")})
    svg = file.getvalue()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg[svg.index("<svg") :])
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
