from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.report.word_diff import word_diff


def test_changed_words():
    assert word_diff("a dog on a sofa", "a cat on a sofa") == [
        ("same", "a"),
        ("gone", "dog"),
        ("new", "cat"),
        ("same", "on a sofa"),
    ]
    assert word_diff("one dog", "one dog") == [("same", "one dog")]
    assert word_diff("a black dog", "a dog") == [("same", "a"), ("gone", "black"), ("same", "dog")]


sentences = st.lists(st.sampled_from("a dog cat on in sofa black".split()), max_size=12).map(" ".join)


@settings(deadline=None)
@given(sentences, sentences)
def test_both_sentences_can_be_read_from_the_parts(before: str, after: str):
    parts = word_diff(before, after)
    assert " ".join(text for kind, text in parts if kind != "new") == before
    assert " ".join(text for kind, text in parts if kind != "gone") == after
