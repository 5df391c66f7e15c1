"""Image-text retrieval: fine-tuning with random negatives and circle loss, as in the release.

One sample is a caption with 1 + 2n pairings: its own image, n other images ("ei" in the release), and its own image
with n captions of other images ("ec"). The release draws n = 10 of each for Flickr30k.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field, model_validator

from unimo.config import Config, Paper, find
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import DataError
from unimo.evaluate.pair_scorers import SCORERS, pair_scorer, pair_scores
from unimo.finetune.circle import circle_loss
from unimo.readers.annotations import read_pairs
from unimo.readers.batching import Batch, fingerprint
from unimo.readers.captions import Captions, collate_text
from unimo.readers.images import PixelSettings, Stores, open_images, trainable
from unimo.readers.pairings import group_by_cost
from unimo.readers.tensors import as_picture
from unimo.readers.tokenizer import Tokenizer

HEADS = {system: heads for system, (heads, _) in SCORERS.items()}


class RetrievalRecipe(Config):
    """One retrieval fine-tuning run."""

    family: Literal["retrieval"] = "retrieval"
    pairs: str
    regions: Stores = ()  # feature store of the pairs' images, or several; none for a model of pixels
    pixels: PixelSettings = PixelSettings()  # for one
    negatives: int = Field(10, gt=0)  # images and captions each: 21 pairs per caption at 10
    captions_per_batch: int = Field(32, gt=0)  # of one micro-batch, over all processes
    margin: float = 0.2
    scale: float = Field(1.0, gt=0)
    # Train on the sigmoid of scores: the default of the release's program, which its script for Flickr30k turns off.
    sigmoid: bool = False
    max_tokens: int = Field(512, gt=2)
    max_regions: int = Field(100, gt=0)
    engine: EngineConfig
    paper: Paper | None = None

    @model_validator(mode="after")
    def _unvaried(self) -> "RetrievalRecipe":
        if not self.pixels.augmentation.idle:
            raise ValueError("retrieval is fine-tuned on pictures as they are: leave out pixels.augmentation")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (self.pairs, *self.regions, *self.pixels.shards)

    @property
    def batch_positions(self) -> int:
        """Budget of a batch: every caption counts as one, whatever its pairings are."""
        return self.captions_per_batch


class RetrievalStream:
    """Captions of the training split with their random negatives; texts and images of a batch are stored once each."""

    name, even = "retrieval", False

    def __init__(self, recipe: RetrievalRecipe, config: Any, tokenizer: Tokenizer):
        path = find(recipe.pairs)
        pairs = read_pairs(path, "train")
        self.images = open_images(pairs, path.parent, recipe.regions, config, recipe.max_regions, recipe.pixels)
        pairs = trainable(pairs, self.images)
        if len(pairs) < 2:
            raise DataError(f"retrieval needs at least two training images for its negatives, got {len(pairs)}")
        self.recipe, self.pad_id = recipe, tokenizer.pad_id
        self.image_ids = [pair.image_id for pair in pairs]
        captions = Captions.of(pairs, tokenizer, recipe.max_tokens)
        self.ids, self.image_rows, self.sequences = captions.ids, captions.rows, captions.sequences
        counts = [len(pair.captions) for pair in pairs]
        self.captions_of = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
        self.about = f"{sum(counts)} captions, {1 + 2 * recipe.negatives} pairs each"
        self.lengths = np.ones([sum(counts), 1], np.int64)  # batches hold a fixed number of captions
        self._tokens, self._slots = np.array([len(s) for s in self.sequences]), self.images.positions(self.image_ids)
        named = list(zip(captions.ids, captions.rows.tolist(), captions.texts))
        settings = recipe.model_dump(exclude={"engine", "paper", "pairs", "regions", "pixels", "family"})
        if not recipe.sigmoid:
            del settings["sigmoid"]  # runs of before the choice know their data without it
        self.fingerprint = fingerprint(named, self.images.fingerprint, tokenizer.fingerprint, settings)

    def batch(self, samples: np.ndarray, rngs: Sequence, batch_rng: np.random.Generator) -> Batch:
        """Distinct texts and images, and the pairings `text_rows`, `image_rows` [B * (1 + 2n)] in the order of `calls`;
        `places` [B * (1 + 2n)] tells where those of each caption are."""
        pairings = np.array([p for sample, rng in zip(samples, rngs) for p in self._pairings(sample, rng)])
        order, calls = group_by_cost(self._slots[pairings[:, 1]], self._tokens[pairings[:, 0]])
        texts, text_rows = np.unique(pairings[order, 0], return_inverse=True)
        images, image_rows = np.unique(pairings[order, 1], return_inverse=True)
        inputs = {
            "text": collate_text([self.sequences[t] for t in texts], self.pad_id),
            self.images.key: self.images.collate([self.image_ids[i] for i in images]),
            "text_rows": text_rows,
            "image_rows": image_rows,
            "calls": calls,
            "places": np.argsort(order),
        }
        return Batch(self.name, [self.ids[s] for s in samples], inputs)

    def _pairings(self, sample: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(caption, image) of the positive, then of n negative images, then of n negative captions."""
        n, own = self.recipe.negatives, self.image_rows[sample]
        drawn = rng.integers(len(self.image_ids) - 1, size=2 * n)
        others = drawn + (drawn >= own)  # uniform over the other images
        captions = [rng.choice(self.captions_of[image]) for image in others[n:]]
        return [(sample, own)] + [(sample, image) for image in others[:n]] + [(c, own) for c in captions]


class RetrievalTask(Task):
    """Mean of the circle losses over negative captions and over negative images."""

    weights = {"circle": 1.0}

    def __init__(self, model: nn.Layer, recipe: RetrievalRecipe):
        super().__init__()
        self.model, self.recipe, self.scorer = model, recipe, pair_scorer(model)

    def items(self, batch: Batch) -> dict[str, int]:
        """Captions: each is one item, whatever its pairings."""
        return {"circle": len(batch.ids)}

    def scores(self, batch: Batch) -> Tensor:
        """Of each caption's positive, other images and other captions. [B, 1 + 2n]"""
        inputs, pictures = batch.inputs, as_picture(batch.inputs)
        calls = inputs.get("calls")  # without them, pairings are in the order of their captions
        scores = pair_scores(self.scorer, inputs["text"], pictures, inputs["text_rows"], inputs["image_rows"], calls)
        if calls is not None:
            scores = scores.index_select(paddle.to_tensor(inputs["places"]))
        scores = scores.reshape([-1, 1 + 2 * self.recipe.negatives])
        return F.sigmoid(scores) if self.recipe.sigmoid else scores

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Half the sum of both circle losses, over the captions of the batch."""
        n, scores = self.recipe.negatives, self.scores(batch)
        by_image = circle_loss(scores[:, :1], scores[:, 1 : 1 + n], self.recipe.margin, self.recipe.scale)
        by_caption = circle_loss(scores[:, :1], scores[:, 1 + n :], self.recipe.margin, self.recipe.scale)
        return {"circle": (by_image + by_caption) / 2}
