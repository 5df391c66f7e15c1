"""One self-contained HTML page about some runs: no script, no request, pictures and figures inside."""

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from unimo.errors import MissingDependencyError
from unimo.paper import join
from unimo.report.run_folder import Gallery, Metrics, RankedCaption, RewrittenCaption, RunFolder
from unimo.report.tables import DIFFERENCES, tables
from unimo.report.thumbnails import LONGEST, thumbnail
from unimo.report.word_diff import word_diff
from unimo.storage.atomic import atomic_write

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup  # a part of jinja2

    from unimo.report import figures
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"the report page needs jinja2 and matplotlib ({error}): pip install -e .[report]"
    ) from error

POSITIVE_KINDS = ("original", "paraphrase")  # X+; every other kind is X-
CAPTIONS = 10  # shown of a gallery
REWRITES = 8


def default_output(runs: Sequence[Path]) -> Path:
    """`report.html` in the run's folder; of several runs, in the folder that holds them all."""
    return Path(os.path.commonpath([run.resolve() for run in runs])) / "report.html"


def write_page(runs: Sequence[RunFolder], output: Path) -> None:
    """Write the page atomically.

    It stays small because curves are thinned, pictures are thumbnails, and few captions are shown.

    Raises:
        DataError: the file cannot be written.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=loader, trim_blocks=True, lstrip_blocks=True
    )
    numbers = count()
    environment.filters["inline"] = lambda svg: Markup(figures.with_prefix(svg, f"figure{next(numbers)}-"))
    html = environment.get_template("page.html.jinja").render(
        tables=tables(runs),
        differences=DIFFERENCES,
        runs=[_section(run) for run in runs],
        points=figures.POINTS,
        longest=LONGEST,
    )
    with atomic_write(output) as file:
        file.write(html.encode())


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
        "evaluations": figures.evaluation_figures(run.evaluations, run.taken) if run.evaluations else [],
        "taken": run.taken,
        "captions": [_ranked(caption, run.path) for caption in _spread(gallery.captions, CAPTIONS)],
        "caption_count": len(gallery.captions),
        "rewrites": [_rewritten(r) for r in _spread([r for r in gallery.rewrites if r.negatives], REWRITES)],
        "rewrite_count": len(gallery.rewrites),
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


def score_rows(candidates: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Each kind's scores, X+ first, with their median.

    `above`, for X-: the share of captions that score above every candidate of the kind that was made from them.
    """
    originals, rows = candidates.get("original", {}), []
    for kind, by_caption in sorted(candidates.items(), key=lambda item: item[0] not in POSITIVE_KINDS):
        scores = [score for group in by_caption.values() for score in group]
        if not scores:
            continue
        side = "X+" if kind in POSITIVE_KINDS else "X-"
        both = [max(originals[key]) > max(group) for key, group in by_caption.items() if group and originals.get(key)]
        row = {
            "kind": kind,
            "side": side,
            "scores": scores,
            "median": round(float(np.median(scores)), 2) + 0.0,
        }  # + 0.0: no "-0.00"
        rows.append(row | {"captions": len(both), "above": float(np.mean(both)) if both and side == "X-" else None})
    return rows


def _ranked(caption: RankedCaption, folder: Path) -> dict[str, Any]:
    own = {"id": caption.image_id, "picture": thumbnail(folder / caption.image)}
    found = [{"id": s.image_id, "picture": thumbnail(folder / s.image), **s.model_dump()} for s in caption.top]
    rank = next((rank for rank, shown in enumerate(caption.top, start=1) if shown.hit), None)
    return {"caption": caption.caption, "own": own, "found": found, "rank": rank}


def _rewritten(rewrite: RewrittenCaption) -> dict[str, Any]:
    """A TF-IDF caption was written for another image, so no word of it was changed."""
    negatives = [
        {"kind": n.kind, "parts": [("same", n.text)] if n.kind == "tfidf" else word_diff(rewrite.caption, n.text)}
        for n in rewrite.negatives
    ]
    return {"caption": rewrite.caption, "positives": rewrite.positives, "negatives": negatives}
