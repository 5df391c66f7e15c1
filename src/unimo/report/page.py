"""One self-contained HTML page about some runs: no script, no request, pictures and figures inside."""

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from unimo.errors import MissingDependencyError
from unimo.paper import join
from unimo.report.code_pictures import code_rows, mapped_pairs
from unimo.report.paired import paired
from unimo.report.rewritten import COIN, score_rows, scored
from unimo.report.run_folder import Gallery, Metrics, RankedCaption, RunFolder
from unimo.report.tables import DIFFERENCES, tables
from unimo.report.templates import environment
from unimo.report.thumbnails import LONGEST, thumbnail
from unimo.storage.atomic import atomic_write

try:
    from markupsafe import Markup  # a part of jinja2

    from unimo.report import figures
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"the report page needs jinja2 and matplotlib ({error}): pip install -e .[report]"
    ) from error

CAPTIONS = 10  # shown of a gallery
REWRITES = 8
NEGATIVES = 6  # of a rewritten caption that are not folded away


def default_output(runs: Sequence[Path]) -> Path:
    """`report.html` in the run's folder; of several runs, in the folder that holds them all."""
    return Path(os.path.commonpath([run.resolve() for run in runs])) / "report.html"


def write_page(runs: Sequence[RunFolder], output: Path, baseline: str | None = None) -> None:
    """Write the page atomically.

    It stays small because curves are thinned, pictures are thumbnails, and few captions are shown.

    Args:
        baseline: label or name of the row that the others are compared with.

    Raises:
        DataError: the file cannot be written, or rows that cannot be compared with the baseline.
    """
    templates, numbers = environment(), count()
    templates.filters["inline"] = lambda svg: Markup(figures.with_prefix(svg, f"figure{next(numbers)}-"))
    html = templates.get_template("page.html.jinja").render(
        about=about(runs),
        tables=tables(runs),
        paired=paired(runs, baseline) if baseline is not None else None,
        differences=DIFFERENCES,
        runs=[_section(run) for run in runs],
        points=figures.POINTS,
        longest=LONGEST,
        coin=COIN,
        most=NEGATIVES,
    )
    with atomic_write(output) as file:
        file.write(html.encode())


def about(runs: Sequence[RunFolder]) -> str:
    """What the page shows, as a sentence."""
    results = [run.metrics for run in runs if run.metrics]
    titles = "; ".join(dict.fromkeys(metrics.title for metrics in results))
    trained = sum(bool(run.updates) for run in runs)
    parts = [f"the results of {len(results)} beside chance ({titles})"] if results else []
    parts += [f"how the losses of {trained} went"] if trained else []
    if any(run.gallery for run in runs):
        parts += ["which pictures the models find, and which rewritten captions they score above the true ones"]
    if any(run.codes for run in runs):
        parts += ["what the codes of a dictionary stand for"]
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"This page shows {count}: {', '.join(parts) or 'how far they are'}."


def _section(run: RunFolder) -> dict[str, Any]:
    """What the template shows of one run."""
    gallery = run.gallery or Gallery()
    scores = score_rows(gallery.candidates)
    return {
        "name": run.name,
        "path": run.path,
        "label": run.metrics.label if run.metrics else None,
        "state": run.state,
        "last_step": run.log[-1].step if run.log else None,
        "config": run.config,
        "provenance": provenance_rows(run.metrics) if run.metrics else None,
        "losses": figures.loss_figures(run.updates) if run.updates else [],
        "course": figures.course_figures(run.updates) if run.updates else [],
        "observed": figures.observed_figures(run.observed),
        "evaluations": figures.evaluation_figures(run.evaluations, run.taken) if run.evaluations else [],
        "taken": run.taken,
        "captions": [_ranked(caption, run.path) for caption in _spread(gallery.captions, CAPTIONS)],
        "caption_count": len(gallery.captions),
        "rewrites": [
            scored(r, gallery.candidates) for r in _spread([r for r in gallery.rewrites if r.negatives], REWRITES)
        ],
        "rewrite_count": len(gallery.rewrites),
        "codes": code_rows(run.codes, run.path) if run.codes else [],
        "mapped": mapped_pairs(run.codes, run.path) if run.codes else [],
        "scores": scores,
        "histogram": figures.score_figure({r["kind"]: (r["side"], r["scores"]) for r in scores}) if scores else None,
    }


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most `most` items, evenly spaced over all."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).astype(int))]


def provenance_rows(metrics: Metrics) -> list[tuple[str, str]]:
    """Where the metrics come from: name and text of everything that the file says besides the metrics."""
    facts = (metrics.model_extra or {}) | ({"paper": join(metrics.paper)} if metrics.paper else {}) | metrics.provenance
    if facts.pop("dirty", False):
        facts["commit"] = f"{facts.get('commit')} with uncommitted changes"
    return [(key, _plain(value)) for key, value in facts.items()]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return "none" if value is None else str(value)


def _ranked(caption: RankedCaption, folder: Path) -> dict[str, Any]:
    own = {"id": caption.image_id, "picture": thumbnail(folder / caption.image)}
    found = [{"id": s.image_id, "picture": thumbnail(folder / s.image), **s.model_dump()} for s in caption.top]
    rank = next((rank for rank, shown in enumerate(caption.top, start=1) if shown.hit), None)
    return {"caption": caption.caption, "own": own, "found": found, "rank": rank}
