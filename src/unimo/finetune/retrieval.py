"""Image-text retrieval: fine-tuning with random negatives and circle loss, as in the release.

One sample is a caption with 1 + 2n pairings: its own image, n other images ("ei" in the release), and its own image
with n captions of other images ("ec"). The release draws n = 10 of each for Flickr30k.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from pydantic import Field

from unimo import paper
from unimo.config import Config, Paper, dump, find
from unimo.engine import checkpoint
from unimo.engine.distributed import World
from unimo.engine.events import ConfigFile, Evaluation
from unimo.engine.loop import train
from unimo.engine.model_folder import read_model, write_description
from unimo.engine.settings import EngineConfig
from unimo.errors import ConfigError, DataError
from unimo.evaluate.gallery import Gallery, open_store
from unimo.finetune.circle import circle_loss
from unimo.models.systems import check_length, with_heads
from unimo.models.unimo import Unimo
from unimo.readers.annotations import Pair, read_pairs
from unimo.readers.batching import Batch, Stream, fingerprint
from unimo.readers.captions import caption_ids, collate_text
from unimo.readers.feature_store import FeatureStore
from unimo.readers.mixing import Mixer
from unimo.readers.regions import collate_regions
from unimo.readers.tensors import as_regions, as_text
from unimo.readers.tokenizer import Tokenizer

HEADS = ("pool", "match")


class RetrievalRecipe(Config):
    """One retrieval fine-tuning run."""

    pairs: str
    regions: str  # feature store of the pairs' images
    negatives: int = Field(10, gt=0)  # images and captions each: 21 pairs per caption at 10
    captions_per_batch: int = Field(32, gt=0)  # of one micro-batch, over all processes
    margin: float = 0.2
    scale: float = Field(1.0, gt=0)
    max_tokens: int = Field(512, gt=2)
    max_regions: int = Field(100, gt=0)
    engine: EngineConfig
    paper: Paper | None = None


class RetrievalStream:
    """Captions of a split with their random negatives; texts and images of a batch are stored once each."""

    def __init__(self, pairs: Sequence[Pair], store: FeatureStore, tokenizer: Tokenizer, recipe: RetrievalRecipe):
        self.name, self.store, self.tokenizer, self.recipe = "retrieval", store, tokenizer, recipe
        if len(pairs) < 2:
            raise DataError(f"retrieval needs at least two training images for its negatives, got {len(pairs)}")
        self.image_ids = [p.image_id for p in pairs]
        captions = [(key, row, text) for row, p in enumerate(pairs) for key, text in p.captions_by_id().items()]
        self.ids, self.image_rows, texts = map(list, zip(*captions))
        self.sequences = [caption_ids(tokenizer, text, recipe.max_tokens) for text in texts]
        self.captions_of = np.split(np.arange(len(self.ids)), np.cumsum([len(p.captions) for p in pairs])[:-1])
        self.lengths = np.ones([len(self.ids), 1], np.int64)  # batches hold a fixed number of captions
        settings = recipe.model_dump(exclude={"engine", "paper", "pairs", "regions"})
        self.fingerprint = fingerprint(captions, store.fingerprint, tokenizer.fingerprint, settings)

    def batch(self, samples: np.ndarray, rngs: Sequence, batch_rng: np.random.Generator) -> Batch:
        pairings = np.array([p for sample, rng in zip(samples, rngs) for p in self._pairings(sample, rng)])
        texts, text_rows = np.unique(pairings[:, 0], return_inverse=True)
        images, image_rows = np.unique(pairings[:, 1], return_inverse=True)
        records = [self.store.read(self.image_ids[i]) for i in images]
        inputs = {
            "text": collate_text([self.sequences[t] for t in texts], self.tokenizer.pad_id),
            "regions": collate_regions(records, self.recipe.max_regions, multiple=1),
            "text_rows": text_rows,
            "image_rows": image_rows,
        }
        return Batch(self.name, [self.ids[s] for s in samples], {"circle": len(samples)}, inputs)

    def _pairings(self, sample: int, rng: np.random.Generator) -> list[tuple[int, int]]:
        """(caption, image) of the positive, then of n negative images, then of n negative captions."""
        n, own = self.recipe.negatives, self.image_rows[sample]
        drawn = rng.integers(len(self.image_ids) - 1, size=2 * n)
        others = drawn + (drawn >= own)  # uniform over the other images
        captions = [rng.choice(self.captions_of[image]) for image in others[n:]]
        return [(sample, own)] + [(sample, image) for image in others[:n]] + [(c, own) for c in captions]


class RetrievalTask(nn.Layer):
    """Mean of the circle losses over negative captions and over negative images."""

    weights = {"circle": 1.0}

    def __init__(self, model: Unimo, recipe: RetrievalRecipe):
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        rows, columns = (paddle.to_tensor(batch.inputs[name]) for name in ("text_rows", "image_rows"))
        text, regions = as_text(batch.inputs["text"]), as_regions(batch.inputs["regions"])
        n = self.recipe.negatives
        scores = self.model.pair_scores(text, regions, rows, columns).reshape([-1, 1 + 2 * n])
        by_image = circle_loss(scores[:, :1], scores[:, 1 : 1 + n], self.recipe.margin, self.recipe.scale)
        by_caption = circle_loss(scores[:, :1], scores[:, 1 + n :], self.recipe.margin, self.recipe.scale)
        return {"circle": (by_image + by_caption) / 2}


def finetune_retrieval(recipe: RetrievalRecipe, start: Path, run_dir: Path, events: Sequence[Any] = ()) -> None:
    """Fine-tune the model of folder `start` on the pairs' training split, or resume.

    With `engine.eval_every` the recalls of the dev split are logged on the way and the best checkpoint is named, which
    `model_folder.locate` then takes.
    """
    pretrained, tokenizer = read_model(start)
    paddle.seed(recipe.engine.seed)  # for heads that the checkpoint lacks
    model, random_heads = with_heads(pretrained, HEADS)
    try:
        check_length(recipe.max_tokens, model.config)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    store = open_store(recipe.regions, model.config)
    world = World()
    source = RetrievalStream(read_pairs(find(recipe.pairs), "train"), store, tokenizer, recipe)
    stream = Stream(source, recipe.captions_per_batch, recipe.engine.seed, world.rank, world.size, multiple=1)
    data = Mixer({source.name: stream}, {source.name: 1}, recipe.engine.seed, recipe.engine.accumulate)
    if world.rank == 0:
        if recipe.paper:
            print(paper.describe(recipe.paper))
        print(f"start: {start}; {len(source.ids)} captions, {1 + 2 * recipe.negatives} pairs each", flush=True)
        if random_heads:
            print(f"warning: {', '.join(random_heads)} not in the checkpoint, starting at random", flush=True)
    events = [ConfigFile(dump(recipe)), *events]
    if recipe.engine.eval_every:
        dev = read_pairs(find(recipe.pairs), "dev")
        gallery = Gallery(dev, store, tokenizer, recipe.max_tokens, recipe.max_regions)
        events = [*events, Evaluation(lambda: gallery.recall(model), "mean_recall")]
    task = RetrievalTask(model, recipe)
    identity = {"start": checkpoint.digest(start)}
    describe = partial(write_description, model=model, tokenizer=tokenizer)
    train(task, data, recipe.engine, run_dir, events, describe, identity)
