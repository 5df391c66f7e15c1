"""Rewritten captions beside the model's scores: which of them beat the caption, and how often chance would say so."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np

from unimo.report.run_folder import RewrittenCaption
from unimo.report.word_diff import word_diff

POSITIVE_KINDS = ("original", "paraphrase")  # X+; every other kind is X-
COIN = 50.0  # %: how often a model that cannot tell them apart scores a caption above one rewritten copy
Candidates = Mapping[str, Mapping[str, Sequence[float]]]  # kind -> caption id -> match scores


def beats(candidates: Candidates, kind: str) -> float:
    """Share of the negatives of a kind that score below the caption itself, in percent; a tie counts half."""
    won = [
        (own > other) + 0.5 * (own == other)
        for caption, others in candidates[kind].items()
        for own in candidates.get("original", {}).get(caption, [])
        for other in others
    ]
    return 100 * mean(won)


def score_rows(candidates: Candidates) -> list[dict[str, Any]]:
    """Each kind's scores, X+ first, with their median.

    For X-: `beats`, and `above`, the share of captions that score above every candidate of the kind that was made from
    them. `chance` is that share under random order: the mean over the captions of 1 / (1 + number of candidates).
    """
    originals, rows = candidates.get("original", {}), []
    for kind, by_caption in sorted(candidates.items(), key=lambda item: item[0] not in POSITIVE_KINDS):
        scores = [score for group in by_caption.values() for score in group]
        if not scores:
            continue
        side = "X+" if kind in POSITIVE_KINDS else "X-"
        groups = [(max(originals[key]), group) for key, group in by_caption.items() if group and originals.get(key)]
        row = {"kind": kind, "side": side, "scores": scores, "captions": len(groups)}
        row |= {"median": round(float(np.median(scores)), 2) + 0.0}  # + 0.0: no "-0.00"
        row |= {"above": None, "chance": None, "beats": None}
        if groups and side == "X-":
            row["above"] = mean(own > max(group) for own, group in groups)
            row["chance"] = mean(1 / (1 + len(group)) for _, group in groups)
            row["beats"] = beats(candidates, kind)
        rows.append(row)
    return rows


def scored(rewrite: RewrittenCaption, candidates: Candidates) -> dict[str, Any]:
    """A caption with its paraphrases, and its negatives from the highest score to the lowest.

    A TF-IDF caption was written for another image, so no word of it was changed.
    """
    score = next(iter(_scores(rewrite, candidates, "original", 1)))
    kinds = {n.kind: sum(other.kind == n.kind for other in rewrite.negatives) for n in rewrite.negatives}
    left = {kind: iter(_scores(rewrite, candidates, kind, count)) for kind, count in kinds.items()}
    negatives = []
    for n in rewrite.negatives:
        parts = [("same", n.text)] if n.kind == "tfidf" else word_diff(rewrite.caption, n.text)
        theirs = next(left[n.kind])
        above = score is not None and theirs is not None and theirs > score
        negatives.append({"kind": n.kind, "parts": parts, "score": theirs, "above": above})
    negatives.sort(key=lambda n: -np.inf if n["score"] is None else n["score"], reverse=True)
    paraphrases = zip(rewrite.positives, _scores(rewrite, candidates, "paraphrase", len(rewrite.positives)))
    positives = [{"text": p.text, "engine": p.engine, "score": theirs} for p, theirs in paraphrases]
    return {"caption": rewrite.caption, "score": score, "positives": positives, "negatives": negatives}


def _scores(rewrite: RewrittenCaption, candidates: Candidates, kind: str, count: int) -> Sequence[float | None]:
    """Of a caption's candidates of a kind, in the order of the rewrite; of a gallery that does not have all, none."""
    found = candidates.get(kind, {}).get(rewrite.caption_id or "", [])
    return found if len(found) == count else [None] * count
