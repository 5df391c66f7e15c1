"""What similar captions cost among 32,000, 128,000 and 512,000: once for all of them, and for each further caption.

    python tests/benchmarks/similar.py [--pools N ...]        about four CPU minutes and 3 GB of memory

Captions are made: 11 words each, drawn by their frequencies in the sentences of the npm package nlp-corpus, the first
four content words being the objects of their graphs, so nothing is parsed. One thread, CPU seconds. The first captions
that are asked for find WordNet cold and are not timed. What a caption costs grows with the captions that share its
words: the most frequent content word of these is in 3 % of them, so the largest pool is measured again, without a
target, with captions that begin with two of 40 frequent words, the first of which is then in 41 %.
"""

import argparse
import json
import re
import resource
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rewrite import as_pairs, similar_cost
from side_by_side import Target, print_machine, verdict
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from data_prep.rewrite.graphs import Graph
from data_prep.rewrite.index import Index
from data_prep.rewrite.wordnet import WordNet
from data_prep.sources.packages import fetch

POOLS = (32_000, 128_000, 512_000)  # captions that similar ones are looked for among
COLD, ASKED = 4_000, 2_000  # captions that they are looked for
WORDS, OBJECTS, FREQUENT = 11, 4, 40  # of a caption; frequent words that skewed ones begin with


def made(number: int, skewed: bool = False) -> list[str]:
    """Captions of words at their own frequencies; `skewed` begin with two of the most frequent content words."""
    counts: Counter[str] = Counter()
    with tarfile.open(fetch("nlp-corpus").archive) as archive:
        for part in range(100):
            for text in json.load(archive.extractfile(f"package/builds/doc-{part}.json")):
                counts.update(re.findall(r"[a-z]{2,}", text.lower()))
    words, frequencies = zip(*counts.items())
    shares = np.array(frequencies) / sum(frequencies)
    rng = np.random.default_rng(0)
    drawn = rng.choice(len(words), (number, WORDS), p=shares)
    if skewed:
        ranked = [i for i in np.argsort(-shares, kind="stable").tolist() if words[i] not in ENGLISH_STOP_WORDS]
        zipf = 1 / np.arange(1, FREQUENT + 1)
        drawn = np.hstack([rng.choice(ranked[:FREQUENT], (number, 2), p=zipf / zipf.sum()), drawn])
    return [" ".join(words[i] for i in row) for row in drawn.tolist()]


def graph(caption: str) -> Graph:
    """Its first content words as objects."""
    objects = []
    for found in re.finditer(r"\w+", caption):
        if found[0] not in ENGLISH_STOP_WORDS and len(objects) < OBJECTS:
            objects.append({"text": found[0], "lemma": found[0], "class": "NN the", "span": list(found.span())})
    return {"objects": objects, "attributes": [], "relations": []}


def measure(texts: list[str], wordnet: WordNet, folder: Path) -> float:
    """Print what `rewrite fit` and each caption cost among these; CPU milliseconds a caption, from the folder."""
    pairs, graphs = as_pairs(texts), {text: graph(text) for text in texts}
    times = [time.process_time()]
    index = Index.fit(pairs, graphs)
    times.append(time.process_time())
    index.save(folder)
    times.append(time.process_time())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # pools grow, so it is this one's
    del index, graphs
    opened = Index.load(folder, pairs)
    times.append(time.process_time())
    counting, writing, opening = (b - a for a, b in zip(times, times[1:]))
    candidates = opened.splits["train"].candidates
    similar_cost(candidates, range(COLD), wordnet)
    cost = similar_cost(candidates, range(COLD, COLD + ASKED), wordnet)
    print(
        f"among {len(texts):,}: once {counting:.1f} s to count, {writing:.1f} s to write (peak {peak:,.0f} MiB), "
        f"{opening:.2f} s to open; a caption {cost:.3f} ms, all of them {cost * len(texts) / 60_000:.1f} minutes",
        flush=True,
    )
    return cost


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pools", type=int, nargs="+", default=POOLS, help=f"ascending, at least {COLD + ASKED}")
    pools = options.parse_args().pools
    print_machine(1, {"numpy": np.__version__})
    texts, wordnet, targets = made(max(pools)), WordNet(), []
    for pool, skewed in [*((pool, False) for pool in pools), (max(pools), True)]:
        print("skewed: " if skewed else "", end="")
        with tempfile.TemporaryDirectory() as name:
            cost = measure(made(pool, True) if skewed else texts[:pool], wordnet, Path(name))
        if not skewed:
            targets.append(Target(f"CPU minutes for all of {pool:,}", cost * pool / 60_000, 10, at_least=False))
    print(f"{time.process_time() / 60:.1f} CPU minutes in all")
    return verdict(targets)


if __name__ == "__main__":
    sys.exit(main())
