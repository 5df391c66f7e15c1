"""VQA's official rules, worked by hand."""

import pytest

from unimo.evaluate.vqa_answers import CONTRACTIONS, normalised, score, soft_scores


@pytest.mark.parametrize(
    "said, kept",
    [
        ("Yes", "yes"),
        ("The Two dogs", "2 dogs"),  # an article and a number in words
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("a", ""),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("twas", "'twas"),
        ("somebody'd", "somebodyd"),  # the one that loses its apostrophe
        ("Im", "im"),  # the table has it with a capital only, and is looked up in small letters
        ("t-shirt", "t shirt"),  # a mark between letters is a blank
        ("red, white", "red white"),  # one beside a blank is nothing
        ("red,white", "red white"),
        ("1,000", "1000"),  # a comma between figures: all marks are nothing
        ("1,000-mile", "1000mile"),
        ("5:30", "5:30"),  # a colon is no mark
        ("2.5", "2.5"),
        ("5 p.m.", "5 pm"),  # periods stay before figures only
        (".5", ".5"),
        (" on\n the\ttable. ", "on table"),
        ("what?", "what"),
        ("", ""),
        ("." * 40, "." * 8),  # 32 at the most are taken away
    ],
)
def test_normalised(said, kept):
    assert normalised(said) == kept


def test_the_table_has_one_apostrophe_less():
    assert len(CONTRACTIONS) == 114
    assert {word for word, right in CONTRACTIONS.items() if len(word) + 1 != len(right)} == {"somebody'd"}


@pytest.mark.parametrize("times, worth", [(1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0)])
def test_mentions(times, worth):
    scores = soft_scores(["cat"] * times + [f"dog{k}" for k in range(10 - times)])
    assert scores["cat"] == worth and scores["dog0"] == 0.3
    assert score("A cat.", scores) == worth and score("cats", scores) == 0.0


def test_all_agree():
    assert soft_scores(["yes"] * 10) == {"yes": 1.0}
    assert soft_scores(["cat"]) == {}, "without another annotator nobody agrees"


def test_of_annotators_marks_alone_are_taken_away():
    """ "two" stays: only what is said becomes "2"."""
    scores = soft_scores(["2"] * 3 + ["two"] * 6 + ["t-shirt"])
    assert scores == {"2": 0.9, "two": 1.0, "t shirt": 0.3}
    assert score("two", scores) == score("2", scores) == 0.9 and score("T-shirt", scores) == 0.3


def test_nothing_is_taken_away_where_all_agree():
    assert soft_scores(["t-shirt"] * 10) == {"t-shirt": 1.0} and score("t-shirt", soft_scores(["t-shirt"] * 10)) == 0.0
