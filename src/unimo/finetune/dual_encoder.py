"""A UNIMO as a dual encoder: captions and pictures encoded alone, taught by a closed-form teacher and contrasted.

For sets of some hundred captions, where the release's circle loss over joint passes learns captions by heart. Ours.
Every sample is a caption with its picture, a mixture of two pictures, which only the teacher has an answer for, and a
further text: a rewriting of the caption, or a sentence.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field

from unimo.config import Config, Paper, find
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import ConfigError, DataError
from unimo.evaluate.pair_scorers import encoded_by_length
from unimo.evaluate.ridge import text_vectors
from unimo.finetune.closed_form import first_state, start_in_closed_form
from unimo.finetune.teacher import Codes, SentenceSpace, Teacher, picture_features
from unimo.models.layers import MASKED
from unimo.models.streams import given
from unimo.models.unimo import Unimo
from unimo.readers.annotations import Rewrite, read_images, read_pairs, read_rewrites, read_texts
from unimo.readers.batching import Batch, fingerprint
from unimo.readers.captions import Captions, caption_ids, collate_text
from unimo.readers.images import Stores, open_regions, trainable
from unimo.readers.tensors import as_regions
from unimo.readers.tokenizer import Tokenizer

HEADS = {"unimo": ("pool", "match")}
Loss = Literal["image_code", "text_code", "contrast"]


class DualEncoderRecipe(Config):
    """One training of a dual encoder."""

    family: Literal["dual_encoder"] = "dual_encoder"
    pairs: str
    regions: Stores
    images: str | None = None  # images.jsonl: further pictures for mixtures
    texts: str | None = None  # texts.jsonl: the further text of captions without a rewriting
    rewrites: str | None = None  # rewrites.jsonl: the further text of the others, a negative of the contrast
    sentences: int = Field(2000, gt=0)  # of `texts`, the first
    start: Literal["closed_form", "model"] = "closed_form"  # of the picture side and the heads
    captions_per_batch: int = Field(32, gt=1)  # of one micro-batch, over all processes
    mixtures: int = Field(4, gt=0)  # of two pictures each, a caption
    mixture: float = Field(0.5, ge=0, le=0.5)  # largest share of the second picture
    temperature: float = Field(0.1, gt=0)  # of the contrast, of cosines
    weights: dict[Loss, float] = {"image_code": 1.0, "text_code": 1.0, "contrast": 0.1}
    max_tokens: int = Field(512, gt=2)
    max_regions: int = Field(100, gt=0)
    engine: EngineConfig
    paper: Paper | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (self.pairs, *self.regions, *filter(None, (self.images, self.texts, self.rewrites)))

    @property
    def batch_positions(self) -> int:
        """Budget of a batch: every caption counts as one."""
        return self.captions_per_batch


class DualEncoderStream:
    """Captions of the training split with what each brings: its picture, a mixture of two others, a further text."""

    name, even = "dual_encoder", True  # the contrast gathers the rows of all processes

    def __init__(self, recipe: DualEncoderRecipe, config: Any, tokenizer: Tokenizer):
        self.images = open_regions(recipe.regions, config, recipe.max_regions)
        pairs = trainable(read_pairs(find(recipe.pairs), "train"), self.images)
        captioned = {pair.image_id for pair in pairs}
        others = [i for i in read_images(find(recipe.images)) if i.image_id not in captioned] if recipe.images else []
        others = trainable(others, self.images)
        captions = Captions.of(pairs, tokenizer, recipe.max_tokens)
        if len(pairs) < 10:
            raise DataError(f"a dual encoder needs at least ten training pictures for its teacher, got {len(pairs)}")
        self.recipe, self.pad_id, self.ids = recipe, tokenizer.pad_id, captions.ids
        self.own = captions.rows  # [captions] int64, the picture of each
        self.trained = len(pairs)  # of the pictures, those with captions, which come first
        self.picture_ids = [pair.image_id for pair in pairs] + [image.image_id for image in others]
        self.images.positions(self.picture_ids)  # raises for a picture that is not there
        rewrites = read_rewrites(find(recipe.rewrites), pairs) if recipe.rewrites else {}
        negatives = [_one_of_each_kind(rewrites[i]) if i in rewrites else [] for i in self.ids]
        sentences = read_texts(find(recipe.texts))[: recipe.sentences] if recipe.texts else []
        further = [text for texts in negatives for text in texts] + [s.text for s in sentences]
        # token ids of all texts: captions, their negatives, sentences
        self.sequences = captions.sequences + [caption_ids(tokenizer, text, recipe.max_tokens) for text in further]
        ends = len(self.ids) + np.cumsum([len(texts) for texts in negatives])
        self.negatives = [np.arange(end - len(texts), end) for texts, end in zip(negatives, ends)]
        self.sentences = np.arange(ends[-1], len(self.sequences))
        if (recipe.rewrites or recipe.texts) and not len(self.sentences) and not all(negatives):
            raise ConfigError("some captions have no rewriting to bring: give `texts`, too")
        self.lengths = np.ones([len(self.ids), 1], np.int64)  # batches hold a fixed number of captions
        self.about = f"{len(self.ids)} captions, {len(others)} further pictures, {len(further)} further texts"
        settings = recipe.model_dump(
            include={"captions_per_batch", "mixtures", "mixture", "max_tokens", "max_regions", "sentences"}
        )
        named = [self.ids, self.own.tolist(), self.sequences, self.picture_ids]
        self.fingerprint = fingerprint(*named, self.images.fingerprint, tokenizer.fingerprint, settings)

    def batch(self, samples: np.ndarray, rngs: Sequence, batch_rng: np.random.Generator) -> Batch:
        """B captions, then as many further texts; B own pictures, then M mixtures of each caption.

        Inputs: `text`, `regions`; `sentences` [2B], rows of all texts; `pictures` [B + MB], rows of all pictures, of
        a mixture its first; `negatives` [B], which of the further texts are rewritings.
        """
        m = self.recipe.mixtures
        drawn = np.concatenate([rng.integers(len(self.picture_ids), size=(m, 2)) for rng in rngs])
        shares = np.concatenate([rng.uniform(0, self.recipe.mixture, m) for rng in rngs])
        further = [self._further(sample, rng) for sample, rng in zip(samples, rngs)] if self._brings else []
        sentences = np.array([*samples, *further])
        pictures = np.concatenate([self.own[samples], drawn[:, 0]])
        inputs = {
            "text": collate_text([self.sequences[row] for row in sentences], self.pad_id),
            "regions": self._mixed(pictures, drawn[:, 1], shares),
            "sentences": sentences,
            "pictures": pictures,
            "negatives": np.array([row < self.sentences_start for row in further], bool),  # the sentences come last
        }
        return Batch(self.name, [self.ids[sample] for sample in samples], inputs)

    @property
    def _brings(self) -> bool:
        return len(self.sequences) > len(self.ids)

    @property
    def sentences_start(self) -> int:
        """Row of the first sentence among all texts; captions and rewritings are before it."""
        return len(self.sequences) - len(self.sentences)

    def _further(self, sample: int, rng: np.random.Generator) -> int:
        negatives = self.negatives[sample]
        return int(rng.choice(negatives if len(negatives) else self.sentences))

    def _mixed(self, pictures: np.ndarray, second: np.ndarray, shares: np.ndarray) -> dict[str, np.ndarray]:
        """Regions of `pictures`, with a share of `second`'s mixed into the last of them, slot by slot."""
        regions = self.images.collate([self.picture_ids[p] for p in [*pictures, *second]])
        n, mixed = len(pictures), slice(len(pictures) - len(second), len(pictures))
        features, mask = regions["features"], regions["mask"]
        share = (mask[mixed] * mask[n:] * shares[:, None])[..., None]
        features[mixed] = (1 - share) * features[mixed] + share * features[n:]  # boxes and mask stay the first's
        return {name: array[:n] for name, array in regions.items()}


def _one_of_each_kind(rewrite: Rewrite) -> list[str]:
    """The first negative of each kind of rewriting; similar captions of other pictures are none."""
    return list({n.kind: n.text for n in reversed(rewrite.negatives) if n.kind != "tfidf"}.values())


class DualEncoderTask(Task):
    """Codes of pictures and texts against the teacher's, and the contrast of captions and their own pictures."""

    model: Unimo

    def __init__(self, model: nn.Layer, recipe: DualEncoderRecipe, source: DualEncoderStream):
        super().__init__()
        assert isinstance(model, Unimo)  # the only system of HEADS
        if model.config.match_on != "alone":
            raise ConfigError("a dual encoder matches single streams: make the model with match_on: alone")
        self.model, self.recipe = model, recipe
        self.weights = {str(name): weight for name, weight in recipe.weights.items() if weight}
        vectors = text_vectors(model, source.sequences, source.pad_id)
        captions = len(source.ids)
        targets = SentenceSpace(vectors[:captions])(vectors)  # [texts, d]
        self.codes = Codes(targets[:captions], model.config.hidden_size)
        self.text_codes = self.codes.of_texts(targets)
        regions = source.images.collate(source.picture_ids)
        features, self.trained = picture_features(regions), source.trained
        self.teacher = Teacher(features[: source.trained], source.own, targets[:captions], recipe.engine.seed)
        if recipe.start == "closed_form":
            taught = self.teacher(features[: source.trained], np.arange(source.trained))
            start_in_closed_form(
                model,
                regions,
                source.sequences[:captions],
                source.own,
                vectors[:captions],
                self.text_codes[:captions],
                self.codes.of_pictures(taught),
                self.codes.match_weights,
                source.pad_id,
            )

    def items(self, batch: Batch) -> Mapping[str, int]:
        """Pictures, texts and captions."""
        inputs = batch.inputs
        counts = {"image_code": len(inputs["pictures"]), "text_code": len(inputs["sentences"])}
        return {name: n for name, n in (counts | {"contrast": len(batch.ids)}).items() if name in self.weights}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The three losses, each stream encoded once."""
        inputs, model = batch.inputs, self.model
        (states,) = encoded_by_length(lambda text: (first_state(model, text),), inputs["text"])
        texts = model.pool_text.affine(states)  # [2B, H]
        pictured = given(model(regions=as_regions(inputs["regions"])).regions)
        images = model.pool_image.affine(pictured[:, 0])  # [B + MB, H]
        pictures = np.where(inputs["pictures"] < self.trained, inputs["pictures"], -1)
        taught = self.codes.of_pictures(self.teacher(picture_features(inputs["regions"]), pictures))
        losses = {
            "image_code": _distance(images, taught),
            "text_code": _distance(texts, self.text_codes[inputs["sentences"]]),
            "contrast": self._contrast(texts, images, inputs),
        }
        return {name: loss for name, loss in losses.items() if name in self.weights}

    def _contrast(self, texts: Tensor, images: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Cross-entropy of each own picture over all captions and rewritings, and of each caption over all pictures.

        Half the sum of both directions, over the captions of this rank; candidates come from all ranks. Other captions
        of the same picture are no candidates.
        """
        b, world = len(inputs["sentences"]) - len(inputs["negatives"]), self.world
        own = paddle.to_tensor(inputs["pictures"][:b])
        kept = np.concatenate([np.ones(b, bool), inputs["negatives"]])
        weight = self.model.match.affine.weight.squeeze(1) / (self.codes.scale * self.recipe.temperature)
        texts, images = F.relu(texts) * weight, F.relu(images[:b])
        all_texts, all_images, all_own = world.all_rows(texts), world.all_rows(images), world.all_rows(own)
        all_kept = world.all_rows(paddle.to_tensor(kept.astype("float32")))
        places = paddle.arange(b) + world.rank * b  # of our captions among the pictures of all ranks
        per_rank = texts.shape[0]
        columns = paddle.arange(b) + world.rank * per_rank  # and among the texts
        by_image = paddle.matmul(images, all_texts, transpose_y=True) + MASKED * (all_kept - 1)  # [b, all T]
        by_text = paddle.matmul(texts[:b], all_images, transpose_y=True)  # [b, all b]
        same = (own.unsqueeze(1) == all_own.unsqueeze(0)).astype("float32")  # [b, all b]
        others = same * (1 - F.one_hot(places, same.shape[1]))  # other captions of the same picture
        by_text = by_text - MASKED * others
        spread = others.reshape([b, world.size, b])
        spread = F.pad(spread, [0, per_rank - b], data_format="NCL").reshape([b, -1])
        by_image = by_image - MASKED * spread
        losses = F.cross_entropy(by_image, columns, reduction="sum") + F.cross_entropy(by_text, places, reduction="sum")
        return losses / 2


def _distance(found: Tensor, target: np.ndarray) -> Tensor:
    """Sum over rows of the mean square difference. [n, H], [n, H] -> []"""
    return ((found - paddle.to_tensor(target)) ** 2).mean(1).sum()
