"""Statements on captioned pictures that hold or do not, after captions and WordNet: of SNLI-VE's kind.

A statement is a caption, or says that a thing of an everyday kind is there. One that holds of a picture is also given
to another picture of the split of which it is false, so that the text alone tells nothing. Ours, and rough: what no
caption names counts as not there.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.benchmarks.example_sets import SPLITS
from data_prep.rewrite.wordnet import WordNet
from data_prep.samples.build import write_sample
from unimo.readers.annotations import Pair, Split, read_pairs, read_rewrites
from unimo.readers.examples import Example

# Kinds that a caption which shows one names, ours; their first sense in WordNet is the everyday one.
KINDS = (
    "animal bird fish insect reptile flower fruit vegetable vehicle boat aircraft building piece+of+furniture tool "
    "toy container hat weapon musical+instrument"
)
SEED, TRIES = 0, 50  # of drawing the picture that a statement is false of


class Statement(NamedTuple):
    """What is said, of which picture it holds, and the nouns that must be absent where it is false."""

    text: str
    owner: str  # image id
    nouns: frozenset[str]


def entailment(pairs: Path, rewrites: Path, out: Path, cache: Path | None = None) -> str:
    """Write statements with the targets entailment and contradiction into the folder `out`, and say what was done.

    Args:
        rewrites: of the pairs, with the scene graph of every caption, whose objects are what a picture shows.
    """
    read, wordnet = read_pairs(pairs), WordNet(cache)
    graphs = read_rewrites(rewrites, read)
    examples = []
    for split in SPLITS:
        shown = {pair.image_id: _nouns(pair, graphs) for pair in read if pair.split == split}
        shown = {image_id: nouns for image_id, nouns in shown.items() if nouns}
        said = [s for pair in read if pair.image_id in shown for s in _statements(pair, shown[pair.image_id], wordnet)]
        examples += list(_both_ways(said, shown, split, wordnet))
    return write_sample("entailment", "entailment of captions", out, [wordnet.package], examples, [pairs, rewrites])


def _nouns(pair: Pair, graphs: Mapping) -> frozenset[str]:
    """Lemmas of the objects of all captions of a picture."""
    found = [graphs[caption_id].graph["objects"] for caption_id in pair.captions_by_id() if caption_id in graphs]
    return frozenset(node["lemma"] for objects in found for node in objects)


def _statements(pair: Pair, nouns: frozenset[str], wordnet: WordNet) -> Iterator[Statement]:
    """What holds of a picture: its first caption, and the kinds of what it shows."""
    yield Statement(pair.captions[0], pair.image_id, nouns)
    for kind in KINDS.split():
        name = kind.replace("+", " ")
        if any(wordnet.mostly(noun, name, senses=1) for noun in nouns):
            article = "an" if name[0] in "aeiou" else "a"
            yield Statement(f"There is {article} {name} in the picture.", pair.image_id, frozenset([name]))


def _both_ways(
    statements: Sequence[Statement], shown: Mapping[str, frozenset[str]], split: Split, wordnet: WordNet
) -> Iterator[Example]:
    """Each statement with its picture, and with one that shows nothing of what it names; both, or neither."""
    rng, pictures = random.Random(f"{SEED} {split}"), sorted(shown)
    taken = {(statement.owner, statement.text) for statement in statements}
    for number, statement in enumerate(statements):
        for image_id in rng.sample(pictures, min(TRIES, len(pictures))):
            related = any(wordnet.kind(a, b) for a in statement.nouns for b in shown[image_id])
            if not related and (image_id, statement.text) not in taken:
                taken.add((image_id, statement.text))
                for owner, target in ((statement.owner, "entailment"), (image_id, "contradiction")):
                    name = f"{split}-{number}-{target[0]}"
                    yield Example(id=name, split=split, source=[statement.text], image_id=owner, target=target)
                break
