from hypothesis import given
from hypothesis import strategies as st

from data_prep.near_duplicates import NearIndex, near, normalise


def test_captions_are_compared_by_their_words():
    assert normalise("A red apple!") == normalise("the  Red apple") == "red apple"
    assert normalise("A green apple") != normalise("A red apple")


bags = st.lists(st.frozensets(st.sampled_from("abcdefghijkl")), max_size=8)


@given(bags, bags)
def test_near_duplicates_found_by_rare_words_are_those_found_one_by_one(texts, others):
    index = NearIndex(others)
    assert [text in index for text in texts] == [any(near(a, b) for b in others) for a in texts]
