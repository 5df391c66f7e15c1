"""Retrieval over a split: every caption scored with every image, its recalls, and what a person wants to look at."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from paddle import nn
from pydantic import Field, model_validator
from tqdm import tqdm

from unimo.config import Config, find
from unimo.console import say
from unimo.engine.distributed import World
from unimo.evaluate.data_settings import PictureSettings
from unimo.evaluate.pair_scorers import pair_scorer
from unimo.evaluate.results import Measured, measure
from unimo.evaluate.retrieval import KS, recall_chances, recall_samples
from unimo.evaluate.ridge import Captioned, fit_ridge, seen
from unimo.evaluate.runtimes import Runtime, check_precision, choose_runtime
from unimo.evaluate.scoring import cost, plan_blocks, score_matrix
from unimo.evaluate.shortlist import Shortlist, alone_scores
from unimo.inference import Precision
from unimo.models.streams import Pixels, Regions, Text
from unimo.models.systems import longest_text
from unimo.readers.annotations import Rewrite, Split, read_pairs, read_rewrites
from unimo.readers.captions import Captions, caption_ids, collate_text
from unimo.readers.images import Stores, open_images
from unimo.readers.tensors import as_picture, as_text
from unimo.readers.tokenizer import Tokenizer

SHOWN = 5  # pictures per caption in gallery.json


class RetrievalSettings(PictureSettings):
    """What an evaluation of retrieval is of."""

    pairs: str = Field(description="pairs.jsonl")
    regions: Stores = Field(
        (), description="Feature store of the pairs' images; several are one set. None for a model of pixels."
    )
    rewrites: str | None = Field(
        None, description="rewrites.jsonl: also score rewritten captions against the original ones."
    )
    max_tokens: int = Field(512, gt=2, description="Of a caption; never more than the model has positions for.")
    max_regions: int = Field(100, gt=0, description="Of a picture.")
    runtime: Literal["auto"] | Runtime = Field(
        "auto",
        description="Of the joint passes: dygraph, inference (Paddle's engine, on a CPU), or auto, the faster one.",
    )
    precision: Precision = Field(
        "float32", description="Of the engine's products: float32, or bfloat16 where the CPU has it."
    )
    shortlist: int = Field(
        0, ge=0, description="Pictures a caption that are scored jointly, 0 for all: not the protocol."
    )
    score: Literal["joint", "alone"] = Field(
        "joint",
        description="joint: an encoder reads caption and picture together; alone: the match of streams encoded alone "
        "that makes a shortlist, as a UNIMO-2's contrast.",
    )
    baseline: Literal["ridge"] | None = Field(
        None,
        description="Score by ridge regression, fitted to the pairs' training split, from a picture's mean region "
        "feature, or its pixels at 16 x 16, to the model's sentence vector of the caption: what a trained model must "
        "be read against.",
    )

    @model_validator(mode="after")
    def _scores_once(self) -> "RetrievalSettings":
        if self.score == "alone" and (self.shortlist or self.baseline or self.rewrites):
            raise ValueError("score alone reads no pair: leave out shortlist, baseline and rewrites")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (self.pairs, *self.regions, *self.shards, *([self.rewrites] if self.rewrites else []))


class Gallery:
    """The images of a split with their captions, opened once and scored as often as wanted."""

    measures = (*(f"{side}_recall@{k}" for k in KS for side in ("image", "text")), "mean_recall")
    best = "mean_recall"

    def __init__(self, config: Config, tokenizer: Tokenizer, settings: RetrievalSettings, split: Split):
        check_precision(settings.runtime, settings.precision)
        path = find(settings.pairs)
        self.folder, self.pairs, self.tokenizer = path.parent, read_pairs(path, split), tokenizer
        self.settings, self.max_tokens = settings, min(settings.max_tokens, longest_text(config))
        # a baseline is fitted to these
        self.others = [
            Gallery(config, tokenizer, settings.model_copy(update={"baseline": None, "rewrites": None}), other)
            for other in (("train", "dev") if settings.baseline else ())
        ]
        self.captions = Captions.of(self.pairs, tokenizer, self.max_tokens)
        shown = settings.regions, config, settings.max_regions, settings.pixels
        self.images = open_images(self.pairs, path.parent, *shown)
        self.rewrites = read_rewrites(find(settings.rewrites), self.pairs) if settings.rewrites else {}
        self.units = [pair.image_id for pair in self.pairs]
        self.images.positions(self.units)  # raises for a picture that is not there
        data = {"pairs_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), self.images.key: self.images.fingerprint}
        counts = {"captions": len(self.captions.ids), "images": len(self.pairs)}
        limits = {"max_tokens": self.max_tokens, "max_regions": settings.max_regions}
        self.facts = {"split": split, **counts, "limits": limits, "data": data, "features": dict(self.images.origin)}

    def measure(self, model: nn.Layer, world: World) -> Measured:
        """Recalls in percent. All processes call it and score a part of the captions each; all get the numbers."""
        scoring: dict[str, Any] = {"precision": self.settings.precision}
        if self.settings.baseline:
            train, dev = (other.captioned() for other in self.others)
            model, strength = fit_ridge(model, train, dev, self.tokenizer.pad_id)
            scoring |= {"baseline": self.settings.baseline, "penalty": strength}
        shortlist = None
        if self.settings.score == "alone":
            scoring = {"score": "alone"}
            scores = self.alone(model, world)
        else:
            shortlist = self.shortlist(model, world) if self.settings.shortlist else None
            scoring["runtime"] = runtime = self._runtime(model, world, shortlist)
            scores = self.scores(model, world, runtime, shortlist)
        samples, chances = recall_samples(scores, self.captions.rows), recall_chances(self.captions.rows)
        metrics = {name: measure(sample, chance=chances[name]) for name, sample in samples.items()}
        values = {name: metric.value for name, metric in metrics.items()}
        values[self.best] = float(np.mean(list(values.values())))
        if shortlist:
            scoring["shortlist"] = shortlist.facts(self.captions.rows)
        files = lambda: {"gallery.json": self.shown(model, scores)}  # noqa: E731
        facts: dict[str, Any] = {"scoring": scoring}
        if self.settings.baseline:
            facts["seen"] = self._fitted
        return Measured(metrics, samples, values, files, facts)

    def captioned(self) -> Captioned:
        """All pictures and captions, as the ridge baseline sees them."""
        features = [seen(picture).numpy() for picture in self.pictures()]
        return Captioned(np.concatenate(features), self.captions.sequences, self.captions.rows)

    @property
    def _fitted(self) -> str:
        """What the baseline is, for people."""
        return f"{self.settings.baseline} regression fitted to {len(self.others[0].captions.ids)} captions"

    def shown(self, model: nn.Layer, scores: np.ndarray) -> dict[str, Any]:
        """What gallery.json holds for people to look at."""
        return {
            "captions": self.top(scores),
            "candidates": self.candidate_scores(model, self.rewrites) if self.rewrites else {},
            "rewrites": [rewrite.model_dump() for rewrite in self.rewrites.values()],
        }

    def plan(self, model: nn.Layer) -> str:
        """What an evaluation will cost, for people."""
        lengths, slots = [len(ids) for ids in self.captions.sequences], self.images.positions(self.units).tolist()
        shown = f"{len(lengths)} captions x {len(slots)} images = {len(lengths) * len(slots)} pairs"
        if self.settings.baseline:
            return f"{shown}, by {self._fitted}"
        if self.settings.score == "alone" or not pair_scorer(model).joint:
            return f"{shown}, each caption and image encoded once"
        blocks = plan_blocks(lengths, slots)
        return f"{shown}, {cost(blocks)[1]} encoder positions, no padding, {len(blocks)} blocks"

    def alone(self, model: nn.Layer, world: World) -> np.ndarray:
        """Match of every caption with every image, each encoded alone. [captions, images] float32"""
        return alone_scores(model, map(self.text, self.captions.sequences), self.pictures(), world)

    def shortlist(self, model: nn.Layer, world: World) -> Shortlist:
        """The pairs to score, of which rank 0 tells people what they hold."""
        shortlist = Shortlist.of(self.alone(model, world), self.settings.shortlist)
        if world.rank == 0:
            found = shortlist.facts(self.captions.rows)
            of = f"{found['image_recall']:.1f} % of the captions and {found['text_recall']:.1f} % of the pictures"
            say(f"shortlist: {found['pairs_scored']:.1f} % of the pairs, with a true answer for {of}")
        return shortlist

    def _runtime(self, model: nn.Layer, world: World, shortlist: Shortlist | None) -> Runtime:
        """Of the joint passes, chosen by the positions that a process has to encode; all choose alike."""
        lengths, slots = np.array([len(ids) for ids in self.captions.sequences]), self.images.positions(self.units)
        total = int((lengths[:, None] + slots).sum(where=True if shortlist is None else shortlist.chosen))
        blocks = len(np.unique(lengths)) * len(np.unique(slots))
        return choose_runtime(self.settings.runtime, model, total // world.size, blocks)

    def scores(
        self, model: nn.Layer, world: World, runtime: Runtime = "dygraph", shortlist: Shortlist | None = None
    ) -> np.ndarray:
        """Score of every caption with every image, with a progress bar. [captions, images] float32"""
        mine = range(world.rank, len(self.captions.ids), world.size)
        captions = [self.text(self.captions.sequences[row]) for row in mine]
        wanted = shortlist.chosen[world.rank :: world.size] if shortlist else None
        pairs = len(captions) * len(self.pairs) if wanted is None else int(wanted.sum())
        with tqdm(total=pairs, unit="pair", desc="scoring", mininterval=2, disable=world.rank > 0) as bar:
            part = score_matrix(
                model,
                captions,
                self.pictures(),
                progress=bar.update,
                runtime=runtime,
                precision=self.settings.precision,
                wanted=wanted,
            )
        world.meet()  # one may have more to score than another
        scores = np.empty([len(self.captions.ids), len(self.pairs)], np.float32)
        for rank, theirs in enumerate(world.gather(part)):
            scores[rank :: world.size] = theirs
        return shortlist.complete(scores) if shortlist else scores

    def candidate_scores(self, model: nn.Layer, rewrites: Mapping[str, Rewrite]) -> dict[str, dict[str, list[float]]]:
        """Kind of rewriting -> caption id -> scores of those X+ or X- with the caption's image.

        The captions themselves are the kind "original".
        """
        found: dict[str, dict[str, list[float]]] = {"original": {}}
        for key, caption, row in zip(self.captions.ids, self.captions.texts, self.captions.rows):
            texts = [("original", caption)]
            if rewrite := rewrites.get(key):
                texts += [("paraphrase", p.text) for p in rewrite.positives]
                texts += [(n.kind, n.text) for n in rewrite.negatives]
            encoded = [self.text(caption_ids(self.tokenizer, text, self.max_tokens)) for _, text in texts]
            scores = score_matrix(model, encoded, [self.picture(self.units[row])])
            for (kind, _), score in zip(texts, scores[:, 0].tolist()):
                found.setdefault(kind, {}).setdefault(key, []).append(score)
        return found

    def top(self, scores: np.ndarray) -> list[dict[str, Any]]:
        """The best images of every caption, hits marked; image paths are absolute."""
        rows = []
        for caption, own in enumerate(self.captions.rows):
            best = np.argsort(-scores[caption], kind="stable")[:SHOWN]
            top = [self.named(i) | {"score": float(scores[caption, i]), "hit": bool(i == own)} for i in best]
            named = {"caption_id": self.captions.ids[caption], "caption": self.captions.texts[caption]}
            rows.append(named | self.named(own) | {"top": top})
        return rows

    def named(self, row: int) -> dict[str, str]:
        """Id and absolute path of a picture, as the files for people have them."""
        pair = self.pairs[row]
        return {"image_id": pair.image_id, "image": str((self.folder / pair.image).resolve())}

    def text(self, ids: list[int]) -> Text:
        """Token ids without padding, as a model reads them."""
        return as_text(collate_text([ids], self.tokenizer.pad_id))

    def picture(self, image_id: str) -> Regions | Pixels:
        """One picture, as a model reads it."""
        return as_picture({self.images.key: self.images.collate([image_id])})

    def pictures(self) -> Iterator[Regions | Pixels]:
        """All of them, one at a time."""
        return map(self.picture, self.units)
