"""Captions put otherwise by rules: what each makes, and what is left alone."""

import pytest

from data_prep.rewrite.patterns import FRAME, patterns

MADE = [
    ("having", "A white teapot with a blue band.", "A white teapot that has a blue band."),
    ("having", "A girl with blue hair.", "A girl who has blue hair."),
    ("clause", "A man driving a blue car.", "A man who is driving a blue car."),
    ("clause", "A flower covered in dew drops.", "A flower that is covered in dew drops."),
    ("clause", "A man who is driving a blue car.", "A man driving a blue car."),
    ("participle", "Koalas are marsupials that live in the forests.", "Koalas are marsupials living in the forests."),
    ("place", "A turkey on a platter.", "A turkey that is on a platter."),
    ("place", "Keys on a ring.", "Keys that are on a ring."),
    ("alike", "A cup stands next to a plate.", "A cup stands beside a plate."),
    ("order", "A wrench and a screwdriver.", "A screwdriver and a wrench."),
    ("order", "An old and brown dog.", "A brown and old dog."),
    ("of", "The jaguar's jaw is well developed.", "The jaw of the jaguar is well developed."),
    ("front", "The wall was listed as a World Heritage in 1987.", "In 1987, the wall was listed as a World Heritage."),
    ("simple", "A man is riding a horse.", "A man rides a horse."),
    ("number", "A lizard of 3 meters.", "A lizard of three meters."),
    ("synonym", "A soft blue couch.", "A soft blue sofa."),
    (FRAME, "A yellow yak.", "There is a yellow yak."),
    (FRAME, "A small yak.", "A picture of a small yak."),
]
LEFT_ALONE = [
    ("having", "A boy in a boat with a dog."),  # whose dog is it?
    ("having", "Saturn with its rings."),
    ("place", "A birch in winter."),  # no thing
    ("place", "A house without a roof isn't on a hill."),
    ("participle", "Narwhals are whales that live in the sea and have tusks."),
    ("order", "Red pens and pencils."),  # are the pencils red?
    ("of", "A woman's hat."),
    ("synonym", "A great blue heron."),
    ("synonym", "A top hat."),
    (FRAME, "The moon."),
    (FRAME, "A man rides a horse."),
    (FRAME, "A dog?"),
]


SAME = {("couch", "sofa"), ("heron", "egret")}


def made(parser, wordnet, caption: str) -> dict[str, list[str]]:
    (document,) = parser.read([caption])
    found: dict[str, list[str]] = {}
    for rule, text in patterns(document, wordnet, lambda *words: words in SAME):
        found.setdefault(rule, []).append(text)
    return found


@pytest.mark.parametrize("rule, caption, text", MADE)
def test_a_rule_puts_it_otherwise(parser, wordnet, rule, caption, text):
    assert text in made(parser, wordnet, caption)[rule]


@pytest.mark.parametrize("rule, caption", LEFT_ALONE)
def test_a_rule_leaves_alone_what_might_change_its_meaning(parser, wordnet, rule, caption):
    assert rule not in made(parser, wordnet, caption)


def test_every_text_is_a_sentence_of_its_own(parser, wordnet, shipped):
    captions = [caption for record in shipped for caption in record["captions"]]
    seen = 0
    for document in parser.read(captions):
        for _, text in patterns(document, wordnet, lambda *words: words in SAME):
            assert text != document.text and "  " not in text and text[0].isupper() == document.text[0].isupper()
            assert text.endswith(".") == document.text.endswith(".")
            seen += 1
    assert seen > 300
