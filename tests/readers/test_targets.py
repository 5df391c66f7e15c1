"""What examples are answered by: labels, their files, and answers that do not fit."""

from pathlib import Path

import numpy as np
import pytest

from unimo.errors import ConfigError, DataError
from unimo.readers.examples import Example
from unimo.readers.targets import Targets, read_labels


def examples(*targets: object) -> list[Example]:
    return [
        Example.model_validate({"id": f"e{k}", "split": "dev", "source": ["x"], "target": target})
        for k, target in enumerate(targets)
    ]


def test_each_kind_as_arrays():
    classes = Targets(examples("no", "yes", "no"), "class", ("yes", "no"))
    assert classes.take([0, 1, 2]).tolist() == [1, 0, 1] and classes.take([1]).dtype == np.int64
    numbers = Targets(examples(1, 2.5), "number", ())
    assert numbers.take([1, 0]).tolist() == [2.5, 1.0] and numbers.take([0]).dtype == np.float32
    answers = Targets(examples({"cat": 1.0, "unlisted": 0.6}, {}), "answers", ("dog", "cat"))
    assert answers.take([0, 1]).tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert answers.scores(0) == {"cat": 1.0, "unlisted": 0.6}


@pytest.mark.parametrize(
    ("target", "given", "words"),
    [
        (
            "class",
            ["yes", "perhaps"],
            r"'e1' \(1 of 2 like it\): its target is 'perhaps', expected one of the 2 labels yes",
        ),
        ("class", [None, "yes"], "'e0' .*it has no answer; a test set whose answers are not public"),
        ("class", [0.5], "its target is 0.5, expected one of the 2 labels"),
        ("number", ["yes"], "its target is 'yes', expected a number"),
        ("number", [None], "it has no answer"),
        ("answers", ["yes"], "expected answers with scores from 0 to 1"),
        ("answers", [{"yes": 1.5}], "expected answers with scores from 0 to 1"),
    ],
)
def test_an_answer_that_does_not_fit_is_named(target, given, words):
    with pytest.raises(DataError, match=words):
        Targets(examples(*given), target, () if target == "number" else ("yes", "no"))


def test_labels_are_given_or_listed_in_a_file(tmp_path: Path):
    assert read_labels(["no", "yes"], "class") == ("no", "yes")
    (tmp_path / "answers.txt").write_text("cat\ndog\n\nice cream\n")
    assert read_labels([str(tmp_path / "answers.txt")], "answers") == ("cat", "dog", "ice cream")
    assert read_labels([], "number") == ()
    for given, target, words in (
        ([], "class", "labels: there are 0; expected at least two"),
        (["one"], "class", "there are 1"),
        (["a", "b", "a"], "class", "'a' is there twice"),
        (["a", "b"], "number", "a number has none"),
        (["none.txt"], "class", "none.txt does not exist"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_labels(given, target)
