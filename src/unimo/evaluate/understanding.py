"""Examples answered by a class, a number or one of many answers: the measures of a split, and every prediction."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from pydantic import Field
from tqdm import tqdm

from unimo.config import Config, find
from unimo.engine.distributed import World
from unimo.errors import ConfigError, NonFiniteError
from unimo.evaluate.agreement import agreement, matthews, pearson, spearman
from unimo.evaluate.results import Measured, Metric, Sample, measure
from unimo.evaluate.vqa_answers import normalised
from unimo.models.systems import longest_text
from unimo.models.unimo import Unimo
from unimo.readers.annotations import Split
from unimo.readers.examples import gathered, in_order
from unimo.readers.images import PixelSettings, Stores
from unimo.readers.pixels import Preparation
from unimo.readers.questions import Questions
from unimo.readers.targets import Target, Targets, read_labels
from unimo.readers.tensors import as_picture, as_text
from unimo.readers.tokenizer import Tokenizer

PREDICTIONS = "predictions.json"
SURE = 5  # of many labels, how many predictions.json gives the probability of


class UnderstandingSettings(Config):
    """What an evaluation of examples is of."""

    examples: str = Field(description="examples.jsonl (data_prep benchmarks)")
    also: Stores = Field(
        (),
        description="NAME=FILE: further examples of the task, measured as NAME_accuracy and so on (mismatched MNLI).",
    )
    target: Target = Field("class", description="Of what kind answers are, by default the run's own.")
    labels: Stores = Field(
        (),
        description="The labels in the order of the model's outputs, or the .txt file that lists them; the run's own.",
    )
    regions: Stores = Field((), description="Feature store of the pictures, for a model of regions.")
    images: str | None = Field(None, description="images.jsonl or pairs.jsonl of the pictures, for a model of pixels.")
    shards: Stores = Field((), description="Picture shards (corpora pack), for a model of pixels; else the files.")
    preparation: Preparation = Field(
        "upright", description="Of pixels, by default the run's own: upright, or release as in the papers' rows."
    )
    side: int | None = Field(
        None, gt=0, description="Pixels of a picture's side, by default the run's own, else the model's image_size."
    )
    examples_per_batch: int = Field(
        16, gt=0, description="What a UNIMO-2 makes of a text depends on the longest of its batch; the run's own."
    )
    max_tokens: int = Field(512, gt=2, description="Of the texts of an example.")
    max_regions: int = Field(100, gt=0, description="Of a picture.")

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        lists = [given for given in self.labels if given.endswith(".txt")]
        given = [self.examples, *self.files_of_others.values(), *lists, *self.regions, *self.shards]
        return (*given, *([self.images] if self.images else []))

    @property
    def files_of_others(self) -> dict[str, str]:
        """NAME -> FILE of `also`; raises a ConfigError for what is no such pair."""
        wrong = [given for given in self.also if not all(given.partition("="))]
        if wrong:
            raise ConfigError(f"also: {wrong[0]!r}, expected NAME=FILE")
        return dict(given.split("=", 1) for given in self.also)


class Understanding:
    """The examples of a split, opened once and answered as often as wanted.

    A split whose answers are not public is predicted, not measured.

    Raises:
        ConfigError: a model with other outputs than the task has labels.
        DataError: examples or answers that do not fit; see `Questions` and `Targets`.
    """

    def __init__(self, config: Any, tokenizer: Tokenizer, settings: UnderstandingSettings, split: Split):
        self.settings, self.split = settings, split
        self.labels = read_labels(settings.labels, settings.target)
        check_outputs(config.num_labels, self.labels, settings.target)
        self.sets = {"": self._open(settings.examples, config, tokenizer)}
        self.sets |= {name: self._open(file, config, tokenizer) for name, file in settings.files_of_others.items()}
        self.targets = {name: self._answers(questions) for name, questions in self.sets.items()}
        self.units = self.sets[""].ids
        kinds = {
            "class": ("accuracy",),
            "answers": ("accuracy",),
            "number": ("pearson", "spearman", "pearson_spearman"),
        }
        found = (*kinds[settings.target], *(("matthews_corrcoef",) if len(self.labels) == 2 else ()))
        self.measures = tuple(f"{name}_{m}" if name else m for name, t in self.targets.items() if t for m in found)
        self.best = "pearson_spearman" if settings.target == "number" else "accuracy"

    def _open(self, file: str, config: Any, tokenizer: Tokenizer) -> Questions:
        given = self.settings
        return Questions(
            find(file),
            self.split,
            tokenizer,
            config,
            min(given.max_tokens, longest_text(config)),
            given.regions,
            given.max_regions,
            given.images,
            PixelSettings(shards=given.shards, preparation=given.preparation, side=given.side),
        )

    def _answers(self, questions: Questions) -> Targets | None:
        """The right answers; None where the set has none of any."""
        if all(example.target is None for example in questions.examples):
            return None
        return Targets(questions.examples, self.settings.target, self.labels)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of metrics.json: split, counts, data, limits."""
        first, given = self.sets[""], self.settings
        data = {"examples_sha256": first.sha256}
        data |= {f"{name}_sha256": questions.sha256 for name, questions in self.sets.items() if name}
        if first.images:
            data[first.images.key] = first.images.fingerprint
        return {
            "split": self.split,
            "examples": len(first),
            "limits": {"max_tokens": given.max_tokens, "max_regions": given.max_regions},
            "data": data,
            "features": dict(first.images.origin) if first.images else {},
        }

    def plan(self, model: nn.Layer) -> str:
        """What it will cost, for people."""
        total = sum(map(len, self.sets.values()))
        without = [name or self.settings.examples for name, targets in self.targets.items() if targets is None]
        rest = f"; without public answers, only predicted: {', '.join(without)}" if without else ""
        return f"{total:,} examples of {len(self.sets)} set(s), split {self.split}{rest}"

    def measure(self, model: nn.Layer, world: World) -> Measured:
        """The measures in percent. All processes call it and answer a part each; all get the numbers."""
        metrics: dict[str, Metric] = {}
        samples: dict[str, Sample] = {}
        shown: dict[str, Any] = {}
        for name, questions in self.sets.items():
            logits = self.answer(model, questions, world)
            shown[f"{name}_{PREDICTIONS}" if name else PREDICTIONS] = self.predictions(questions, logits)
            if (targets := self.targets[name]) is None:
                continue
            found, shares = self.compare(logits, targets)
            metrics |= {f"{name}_{key}" if name else key: metric for key, metric in found.items()}
            samples |= {} if name else shares
        return Measured(metrics, samples, {name: metric.value for name, metric in metrics.items()}, lambda: shown)

    def answer(self, model: nn.Layer, questions: Questions, world: World) -> np.ndarray:
        """Logits of all labels, or the number, of every example in order. [n, labels or 1] float32"""
        was_training, parts = model.training, []
        model.eval()
        ones = np.ones(len(questions), np.int64)
        batches = list(in_order(ones, self.settings.examples_per_batch, world.rank, world.size))
        with paddle.no_grad():
            for rows in tqdm(batches, desc="answering", mininterval=2, disable=world.rank > 0):
                parts.append(class_logits(model, questions.collate(rows)).numpy())
        if was_training:
            model.train()
        found = np.concatenate(gathered(world.gather(parts)))
        if not np.isfinite(found).all():
            raise NonFiniteError("answers hold inf or nan: the model has diverged; use an earlier checkpoint")
        return found

    def compare(self, logits: np.ndarray, targets: Targets) -> tuple[dict[str, Metric], dict[str, Sample]]:
        """The measures of the answers of a set, and the samples of those that are means over examples."""
        everything = np.arange(len(targets))
        if targets.target == "number":
            right, given = targets.take(everything), logits[:, 0]
            found = {"pearson": agreement(pearson, given, right), "spearman": agreement(spearman, given, right)}
            both = lambda a, b: (pearson(a, b) + spearman(a, b)) / 2  # noqa: E731 - the release's p_and_sp
            return found | {"pearson_spearman": agreement(both, given, right)}, {}
        chosen = logits.argmax(1)
        scores, constant = score_of(chosen, targets)
        accuracy = Sample(scores, np.ones(len(targets)))
        metrics = {"accuracy": measure(accuracy, chance=constant)}
        if len(self.labels) == 2 and targets.target == "class":
            metrics["matthews_corrcoef"] = agreement(matthews, chosen, targets.take(everything))
        return metrics, {"accuracy": accuracy}

    def predictions(self, questions: Questions, logits: np.ndarray) -> list[dict[str, Any]]:
        """One entry an example: its id, the prediction, the target, and the probabilities of the likeliest labels."""
        rows = []
        for example, values in zip(questions.examples, logits):
            row: dict[str, Any] = {"id": example.id, "target": example.target}
            if self.settings.target == "number":
                rows.append(row | {"prediction": float(values[0])})
                continue
            likely = np.argsort(-values, kind="stable")[:SURE]
            shares = probabilities(values, self.settings.target)
            row["prediction"] = self.labels[likely[0]]
            rows.append(row | {"probabilities": {self.labels[k]: round(float(shares[k]), 6) for k in likely}})
        return rows


def check_outputs(given: int, labels: tuple[str, ...], target: Target) -> None:
    """Raise a ConfigError if a model has another number of outputs than a task has labels (one for a number)."""
    expected = 1 if target == "number" else len(labels)
    if given != expected:
        what = "one output for a number" if target == "number" else f"{expected:,} labels"
        raise ConfigError(f"the model has {given:,} output(s) (num_labels), the task has {what}; name its own labels")


def class_logits(model: nn.Layer, inputs: Mapping[str, Any]) -> Tensor:
    """What a model with a classification head says of a collated batch of examples. [B, labels]"""
    streams: dict[str, Any] = {"text": as_text(inputs["text"])} if "text" in inputs else {}
    for key in ("regions", "pixels"):
        if key in inputs:
            streams[key] = as_picture(dict(inputs))
    if not {"classify", "entail"} & set(model.heads):
        raise ConfigError("this model has no classification head; fine-tune it first (unimo finetune classify)")
    read = "firsts" if isinstance(model, Unimo) else "classes"  # the poolers read no other position
    return model.class_logits(model(**streams, wanted=read))


def score_of(chosen: np.ndarray, targets: Targets) -> tuple[np.ndarray, float]:
    """What each chosen label scores, [n] from 0 to 1, and the mean score of the best constant answer.

    Of many answers by VQA's rules: what is said is normalised before it is looked up.
    """
    if targets.target == "class":
        right = targets.take(np.arange(len(targets)))
        return (chosen == right).astype(np.float64), float(np.bincount(right).max() / len(right))
    said, of_answer = [normalised(label) for label in targets.labels], dict[str, float]()
    scores = np.zeros(len(targets))
    for row, place in enumerate(chosen):
        given = targets.scores(row)
        scores[row] = given.get(said[place], 0.0)
        for answer, score in given.items():
            of_answer[answer] = of_answer.get(answer, 0.0) + score
    return scores, max(of_answer.get(answer, 0.0) for answer in said) / len(targets)


def probabilities(logits: np.ndarray, target: Target) -> np.ndarray:
    """Of the labels of one example: they exclude each other as classes, and not as answers. [labels]"""
    given = paddle.to_tensor(logits)
    return (F.sigmoid(given) if target == "answers" else F.softmax(given)).numpy()
