"""Rewritten captions: shares with their chance, and scores beside the texts."""

import pytest

from unimo.report.rewritten import beats, score_rows, scored
from unimo.report.run_folder import RewrittenCaption


def test_shares_of_captions_above_their_negatives():
    candidates = {
        "object": {"a#0": [0.5, 2.5], "b#0": [1.0]},  # a's second one beats it
        "relation": {"a#0": [2.0], "c#0": [0.0]},  # a tie is not above
        "attribute": {"a#0": []},
        "original": {"a#0": [2.0], "b#0": [1.5], "c#0": [1.0]},
    }
    rows = {row["kind"]: row for row in score_rows(candidates)}
    assert list(rows) == ["original", "object", "relation"]
    assert [rows[k]["side"] for k in rows] == ["X+", "X-", "X-"]
    assert (rows["object"]["above"], rows["object"]["captions"], rows["object"]["median"]) == (0.5, 2, 1.0)
    assert rows["relation"]["above"] == 0.5 and rows["original"]["above"] is None
    assert rows["object"]["chance"] == pytest.approx((1 / 3 + 1 / 2) / 2), "of two negatives, and of one"
    assert rows["relation"]["chance"] == 0.5 and rows["original"]["chance"] is None
    assert rows["object"]["beats"] == pytest.approx(100 * 2 / 3) and rows["relation"]["beats"] == 75


def test_a_model_that_cannot_tell_beats_half():
    same = {"original": {"a#0": [1.0]}, "object": {"a#0": [1.0, 1.0]}}
    assert beats(same, "object") == 50


CAPTION = {
    "caption_id": "a#0",
    "caption": "a red ball",
    "positives": [{"text": "a ball that is red", "engine": "hand"}],
    "negatives": [
        {"text": "a blue ball", "kind": "attribute"},
        {"text": "two dogs", "kind": "tfidf"},
        {"text": "a green ball", "kind": "attribute"},
    ],
}


def test_negatives_are_sorted_by_score_and_those_above_the_caption_are_marked():
    scores = {"original": {"a#0": [1.0]}, "paraphrase": {"a#0": [0.5]}}
    scores |= {"attribute": {"a#0": [1.0, 2.0]}, "tfidf": {"a#0": [-3.0]}}
    found = scored(RewrittenCaption(**CAPTION), scores)
    assert (found["score"], found["positives"][0]["score"]) == (1.0, 0.5)
    shown = [("".join(w for change, w in n["parts"] if change == "new"), n["score"]) for n in found["negatives"]]
    assert shown == [("green", 2.0), ("blue", 1.0), ("", -3.0)]
    assert [n["above"] for n in found["negatives"]] == [True, False, False], "a tie is not above"


@pytest.mark.parametrize("scores", [{}, {"original": {"a#0": [1.0]}, "attribute": {"a#0": [1.0, 2.0, 3.0]}}], ids=str)
def test_scores_that_do_not_fit_the_texts_are_not_shown(scores: dict):
    found = scored(RewrittenCaption(**CAPTION), scores)
    assert [n["score"] for n in found["negatives"]] == [None] * 3 and not any(n["above"] for n in found["negatives"])
    assert [n["kind"] for n in found["negatives"]] == ["attribute", "tfidf", "attribute"], "in the file's order"
