"""Retrieval over a split: every caption scored with every image, its recalls, and what a person wants to look at."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from tqdm import tqdm

from unimo.config import find
from unimo.errors import ConfigError
from unimo.evaluate.results import earlier_results, measure, write_result
from unimo.evaluate.retrieval import recall_chances, recall_samples, recalls
from unimo.evaluate.scoring import cost, plan_blocks, score_matrix
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.readers.annotations import Pair, Rewrite, read_pairs, read_rewrites
from unimo.readers.captions import FIRST_POSITION, caption_ids, collate_text
from unimo.readers.feature_store import FeatureStore
from unimo.readers.regions import collate_regions
from unimo.readers.tensors import as_regions, as_text
from unimo.readers.tokenizer import Tokenizer

SHOWN = 5  # pictures per caption in gallery.json


def open_store(path: str, config: UnimoConfig) -> FeatureStore:
    """A feature store whose features have the size that the model reads."""
    store = FeatureStore(find(path))
    if store.feature_dim != config.image_embedding_size:
        raise ConfigError(
            f"feature store {path} has {store.feature_dim}-d features, the model reads {config.image_embedding_size}-d "
            "ones (image_embedding_size); extract regions with the extractor that the model was trained on"
        )
    return store


class Gallery:
    """The images of a split with their captions, read once."""

    def __init__(
        self, pairs: Sequence[Pair], store: FeatureStore, tokenizer: Tokenizer, max_tokens: int, max_regions: int
    ):
        self.pairs, self.tokenizer, self.max_tokens = list(pairs), tokenizer, max_tokens
        captions = [(key, row, text) for row, p in enumerate(pairs) for key, text in p.captions_by_id().items()]
        self.caption_ids, rows, self.captions = map(list, zip(*captions))
        self.image_of_caption = np.array(rows)
        self.texts = [self._text(caption) for caption in self.captions]
        records = [store.read(p.image_id) for p in pairs]
        self.images = [as_regions(collate_regions([r], max_regions, multiple=1)) for r in records]

    def _text(self, caption: str) -> Any:
        return as_text(collate_text([caption_ids(self.tokenizer, caption, self.max_tokens)], self.tokenizer.pad_id))

    def plan(self) -> str:
        """What an evaluation will cost, for people."""
        blocks = plan_blocks([t.ids.shape[1] for t in self.texts], [i.mask.shape[1] for i in self.images])
        pairs, positions = cost(blocks)
        return (
            f"{len(self.texts)} captions x {len(self.images)} images = {pairs} pairs, {positions} encoder positions, "
            f"no padding, {len(blocks)} blocks"
        )

    def scores(self, model: Unimo) -> np.ndarray:
        """Match score of every caption with every image, with a progress bar. [captions, images] float32"""
        quiet = paddle.distributed.get_rank() > 0
        pairs = len(self.texts) * len(self.images)
        with tqdm(total=pairs, unit="pair", desc="scoring", mininterval=2, disable=quiet) as bar:
            return score_matrix(model, self.texts, self.images, progress=bar.update)

    def recall(self, model: Unimo) -> dict[str, float]:
        """Plain recalls and their mean, for choosing among checkpoints of a run."""
        found = {name: r.value for name, r in recalls(self.scores(model), self.image_of_caption, bootstrap=1).items()}
        return found | {"mean_recall": float(np.mean(list(found.values())))}

    def candidate_scores(self, model: Unimo, rewrites: Mapping[str, Rewrite]) -> dict[str, dict[str, list[float]]]:
        """Kind of rewriting -> caption id -> match scores of those X+ or X- with the caption's image.

        The captions themselves are the kind "original".
        """
        found: dict[str, dict[str, list[float]]] = {"original": {}}
        for key, caption, row in zip(self.caption_ids, self.captions, self.image_of_caption):
            texts = [("original", caption)]
            if rewrite := rewrites.get(key):
                texts += [("paraphrase", p.text) for p in rewrite.positives]
                texts += [(n.kind, n.text) for n in rewrite.negatives]
            scores = score_matrix(model, [self._text(text) for _, text in texts], [self.images[row]])
            for (kind, _), score in zip(texts, scores[:, 0].tolist()):
                found.setdefault(kind, {}).setdefault(key, []).append(score)
        return found

    def top(self, scores: np.ndarray, image_folder: Path) -> list[dict[str, Any]]:
        """The best images of every caption, hits marked; image paths are absolute."""

        def picture(row: int) -> dict[str, str]:
            pair = self.pairs[row]
            return {"image_id": pair.image_id, "image": str((image_folder / pair.image).resolve())}

        rows = []
        for caption, own in enumerate(self.image_of_caption):
            best = np.argsort(-scores[caption], kind="stable")[:SHOWN]
            top = [picture(i) | {"score": float(scores[caption, i]), "hit": bool(i == own)} for i in best]
            named = {"caption_id": self.caption_ids[caption], "caption": self.captions[caption]}
            rows.append(named | picture(own) | {"top": top})
        return rows


def evaluate_retrieval(
    model: Unimo,
    tokenizer: Tokenizer,
    pairs_file: str,
    regions: str,
    split: str,
    output: Path,
    facts: Mapping[str, Any],
    *,
    rewrites: str | None = None,
    max_tokens: int = 512,
    max_regions: int = 100,
    against: Sequence[Path] = (),
) -> list[str]:
    """Score a split, write `metrics.json`, `items.json` and `gallery.json` into `output`, and return lines of text.

    Args:
        facts: what else metrics.json is to say: label, model, seed.
        max_tokens: of a caption; never more than the model has positions for.
        rewrites: rewrites.jsonl whose X+ and X- of the split's captions are scored as well.
        against: folders of earlier results on the split to compare with.
    """
    found, store = find(pairs_file), open_store(regions, model.config)
    pairs = read_pairs(found, split)
    max_tokens = min(max_tokens, model.config.max_position_embeddings - FIRST_POSITION)
    gallery = Gallery(pairs, store, tokenizer, max_tokens, max_regions)
    rewritten = read_rewrites(find(rewrites), pairs) if rewrites else {}
    data = {"pairs_sha256": hashlib.sha256(found.read_bytes()).hexdigest(), "regions": store.fingerprint}
    counts = {"captions": len(gallery.captions), "images": len(gallery.images)}
    facts, units = {**facts, "split": split, **counts, "data": data}, [p.image_id for p in pairs]
    earlier_results(against, "retrieval", facts, units)  # before hours of scoring
    print(gallery.plan(), flush=True)
    scores = gallery.scores(model)
    samples = recall_samples(scores, gallery.image_of_caption)
    chances = recall_chances(gallery.image_of_caption)
    metrics = {name: measure(sample, chance=chances[name]) for name, sample in samples.items()}
    shown = {
        "captions": gallery.top(scores, found.parent),
        "candidates": gallery.candidate_scores(model, rewritten) if rewritten else {},
        "rewrites": [r.model_dump() for r in rewritten.values()],
    }
    return write_result(output, "retrieval", metrics, facts, samples, units, {"gallery.json": shown}, against)
