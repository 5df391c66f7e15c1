"""How the cost of `retrieve` grows with sentences and captions, on the 100,000 sentences of the npm package nlp-corpus.

    python tests/benchmarks/retrieve.py CAPTIONS.jsonl ... [--images N ...] [--threads 2]

CAPTIONS are files with captions or texts (pairs.jsonl, texts.jsonl), read in the order given until there are enough.
Images are random vectors of the size of the demo's (91 classes and 1,280 features). Prints wall and processor seconds.
"""

import argparse
import json
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from data_prep.near_duplicates import NearIndex, normalise, words
from data_prep.retrieve.build import BATCH, Finder
from data_prep.retrieve.image_neighbours import ImageIndex
from data_prep.retrieve.text_neighbours import Text, TextIndex
from data_prep.sources.packages import fetch
from unimo.readers.annotations import Pair

SIZES = ((10_000, 1_000), (30_000, 3_000), (100_000, 10_000))
HELD_OUT = 150  # captions of dev and test against which near-duplicates are looked for, as many as the demo has
SETTINGS = {"similar_texts": 20, "similar_images": 20, "text_threshold": 0.3, "image_threshold": 0.3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", nargs="+", type=Path)
    parser.add_argument("--images", nargs="*", type=int, default=[1_000, 3_000, 10_000])
    parser.add_argument("--threads", type=int, default=2, help="of faiss")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(arguments.threads)
    sentences, captions = nlp_corpus(), _captions(arguments.captions)
    print(f"{len(sentences):,} sentences, {len(captions):,} captions")
    print(f"{'sentences x captions':>22} {'hold out':>16} {'index':>16} {'search':>16} {'found':>7} {'peak':>9}")
    for documents, queries in SIZES:
        _texts(sentences[:documents], captions[HELD_OUT:][:queries], captions[:HELD_OUT])
    print(f"{'images':>22} {'search':>16}")
    for count in arguments.images:
        rows = np.random.default_rng(0).normal(size=(count, 91 + 1280)).astype(np.float32)
        index = ImageIndex.fit([str(i) for i in range(count)], rows)
        print(f"{count:>22,} {_timed(lambda index=index: index.search(index.image_ids, 20))[0]}")


def near_duplicates(bags: list[frozenset[str]], captions: list[str]) -> int:
    index = NearIndex(map(words, captions))
    return sum(bag in index for bag in bags)


def _texts(sentences: list[str], captions: list[str], held_out: list[str]) -> None:
    bags = [words(text) for text in sentences]
    holding, _ = _timed(lambda: near_duplicates(bags, held_out))
    texts = [Text(str(i), text, "nlp-corpus") for i, text in enumerate(sentences)]
    indexing, index = _timed(lambda: TextIndex.fit(texts))
    pairs = [
        Pair(image_id=str(i), image="none", captions=[caption], split="train", source="bench")
        for i, caption in enumerate(captions)
    ]
    finder = Finder(pairs, index, ImageIndex.fit([], np.zeros((0, 1), np.float32)), SETTINGS)
    asked = [(f"{i}#0", str(i), caption) for i, caption in enumerate(captions)]

    def search() -> int:
        batches = (asked[first : first + BATCH] for first in range(0, len(asked), BATCH))
        return sum(len(record["texts"]) for batch in batches for record in finder.find(batch))

    searching, found = _timed(search)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = f"{len(sentences):,} x {len(captions):,}"
    print(f"{size:>22} {holding} {indexing} {searching} {found / len(captions):>7.1f} {peak:>6.0f} MB")


def _timed(work: Callable[[], Any]) -> tuple[str, Any]:
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    shown = f"{time.perf_counter() - wall:.1f} ({time.process_time() - processor:.1f} cpu)"
    return f"{shown:>16}", result


def nlp_corpus() -> list[str]:
    with tarfile.open(fetch("nlp-corpus").archive) as archive:
        names = [f"package/builds/doc-{number}.json" for number in range(100)]
        return [text for name in names for text in json.load(archive.extractfile(name))]


def _captions(files: list[Path]) -> list[str]:
    """Different captions and sentences of the files, as many as the largest size needs."""
    found: dict[str, str] = {}
    for record in (json.loads(line) for file in files for line in file.read_bytes().splitlines()):
        for text in record.get("captions") or [record["text"]]:
            found.setdefault(normalise(text), text)
    return list(found.values())[: HELD_OUT + max(queries for _, queries in SIZES)]


if __name__ == "__main__":
    main()
