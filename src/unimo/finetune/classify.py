"""Understanding: a class, a number or one of many answers for texts, pictures or both (GLUE, SNLI-VE, VQA)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field, model_validator

from unimo.config import Paper, find
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import ConfigError
from unimo.evaluate.data_settings import ExampleSets
from unimo.evaluate.understanding import class_logits
from unimo.finetune.adversarial import Adversary, Deltas, adversarial_loss, start
from unimo.models.streams import Regions, Text
from unimo.models.unimo import Unimo
from unimo.readers.batching import Batch, fingerprint
from unimo.readers.images import PixelSettings
from unimo.readers.questions import Questions
from unimo.readers.targets import Targets, read_labels
from unimo.readers.tensors import as_regions, as_text
from unimo.readers.tokenizer import Tokenizer

SYSTEMS = {"unimo": ("classify", "entail"), "unimo-2": ("classify",)}  # that have text classes, and their heads


class ClassifyRecipe(ExampleSets):
    """One fine-tuning run of a task with labels or numbers."""

    family: Literal["classify"]
    # classify: one affine map of the pooled text, image, or product of both; entail: the release's head for SNLI-VE
    head: Literal["classify", "entail"] = "classify"
    pixels: PixelSettings = PixelSettings()
    examples_per_batch: int = Field(16, gt=0)  # of one micro-batch, over all processes
    adversary: Adversary | None = None
    engine: EngineConfig
    paper: Paper | None = None

    @model_validator(mode="after")
    def _together(self) -> "ClassifyRecipe":
        if self.adversary and self.target != "class":
            raise ValueError("adversary compares distributions over classes: target must be class")
        return self

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (*super().files, *self.pixels.shards)

    @property
    def batch_positions(self) -> int:
        """Budget of a batch: every example counts as one, whatever its length is."""
        return self.examples_per_batch


def settled(recipe: ClassifyRecipe) -> ClassifyRecipe:
    """The recipe with its labels by name: the file that lists them may be made anew, while the model stays."""
    return recipe.model_copy(update={"labels": read_labels(recipe.labels, recipe.target)})


def heads(recipe: ClassifyRecipe, system: str) -> tuple[str, ...]:
    """Heads of the model to train; raises a ConfigError for one that the system has not."""
    if recipe.head not in SYSTEMS[system]:
        raise ConfigError(f"head {recipe.head}: {system} has {', '.join(SYSTEMS[system])}")
    return ("pool", recipe.head)


def sizes(recipe: ClassifyRecipe, config: Any) -> Any:
    """Sizes of the model to train by a settled recipe: as many outputs as there are labels, or one for a number."""
    return config.model_copy(update={"num_labels": len(recipe.labels) or 1})


class ClassifyStream:
    """Examples of the training split with their answers, by a settled recipe."""

    name, even = "classify", False

    def __init__(self, recipe: ClassifyRecipe, config: Any, tokenizer: Tokenizer):
        labels = recipe.labels
        given = recipe.max_tokens, recipe.regions, recipe.max_regions, recipe.images, recipe.pixels
        self.questions = Questions(find(recipe.examples), "train", tokenizer, config, *given)
        both = self.questions.has_text and self.questions.images is not None
        if (recipe.adversary or recipe.head == "entail") and not both:
            what = "adversary" if recipe.adversary else "head entail"
            raise ConfigError(f"{what}: it is for texts with pictures, and the examples have not both")
        self.targets = Targets(self.questions.examples, recipe.target, labels)
        self.about = f"{len(self.questions):,} examples" + (f" of {len(labels):,} labels" if labels else "")
        self.lengths = np.ones([len(self.questions), 1], np.int64)  # batches hold a fixed number of examples
        self.fingerprint = fingerprint(self.questions.fingerprint, recipe.target, labels)

    def batch(self, samples: np.ndarray, rngs: Sequence, batch_rng: np.random.Generator) -> Batch:
        """Their streams, and `targets` (see `Targets.take`)."""
        inputs = self.questions.collate(samples, rngs) | {"targets": self.targets.take(samples)}
        return Batch(self.name, [self.questions.ids[sample] for sample in samples], inputs)


class ClassifyTask(Task):
    """Cross-entropy of classes, squared error of a number, or binary cross-entropy summed over many answers."""

    weights = {"classify": 1.0}

    def __init__(self, model: nn.Layer, recipe: ClassifyRecipe):
        super().__init__()
        self.model, self.recipe = model, recipe
        if recipe.adversary and not isinstance(model, Unimo):
            raise ConfigError("adversary: only a model of regions is trained so; leave it out")

    def items(self, batch: Batch) -> dict[str, int]:
        """Examples."""
        return {"classify": len(batch.ids)}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The summed losses of the examples."""
        targets = paddle.to_tensor(batch.inputs["targets"])
        if self.recipe.adversary is None:
            return {"classify": self.losses(class_logits(self.model, batch.inputs), targets).sum()}
        return {"classify": self.attacked(batch.inputs, targets) * len(batch.ids)}

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Of each example. [B, labels], as `Targets.take` -> [B]"""
        if self.recipe.target == "class":
            return F.cross_entropy(logits, targets, reduction="none").reshape([-1])
        if self.recipe.target == "number":
            return (logits.squeeze(1) - targets).square()
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)

    def attacked(self, inputs: Mapping[str, Any], targets: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """Mean adversarial loss of a batch of texts with regions.

        Args:
            noise: uniform in -1..1 for each stream, which the perturbations start from; drawn here by default.
        """
        adversary, model = self.recipe.adversary, self.model
        assert adversary is not None and isinstance(model, Unimo)
        text, regions = as_text(inputs["text"]), as_regions(inputs["regions"])
        shapes = {"text": [*text.ids.shape, model.config.hidden_size], "regions": regions.features.shape}
        drawn = noise or {name: paddle.uniform(shape, min=-1.0, max=1.0) for name, shape in shapes.items()}
        masks = {"text": text.mask, "regions": regions.mask}
        starts = {name: start(drawn[name], masks[name], adversary.magnitude) for name in shapes}

        def logits_of(deltas: Deltas) -> Tensor:
            words = Text(text.ids, text.positions, text.mask, text.types, deltas.get("text"))
            features = regions.features + deltas["regions"] if "regions" in deltas else regions.features
            return model.class_logits(model(words, Regions(features, regions.boxes, regions.mask), wanted="classes"))

        return adversarial_loss(logits_of, lambda logits: self.losses(logits, targets), starts, adversary)
