"""Examples answered by a class, a number or one of many answers: the measures of a split, and every prediction."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import paddle
from paddle import Tensor, nn
from pydantic import Field, field_validator
from tqdm import tqdm

from unimo.config import Config, find
from unimo.engine.distributed import World
from unimo.errors import ConfigError, NonFiniteError
from unimo.evaluate.agreement import agreement, matthews, pearson, spearman
from unimo.evaluate.results import Measured, Metric, Sample, measure
from unimo.evaluate.vqa_answers import score
from unimo.models.systems import longest_text
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


class ExampleSets(Config):
    """Which examples, what they are answered by, and where their pictures are: of a training and of an evaluation."""

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
    evaluation_batch: int = Field(
        16,
        gt=0,
        description="Examples; what a UNIMO-2 makes of a text depends on the longest of its batch. The run's own.",
    )
    max_tokens: int = Field(512, gt=2, description="Of the texts of an example.")
    max_regions: int = Field(100, gt=0, description="Of a picture.")

    @field_validator("also")
    @classmethod
    def _named(cls, also: tuple[str, ...]) -> tuple[str, ...]:
        other_sets(also)
        return also

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there, but for picture shards."""
        lists = [given for given in self.labels if given.endswith(".txt")]
        images = [self.images] if self.images else []
        return (self.examples, *other_sets(self.also).values(), *lists, *images, *self.regions)


class UnderstandingSettings(ExampleSets):
    """What an evaluation of examples is of."""

    shards: Stores = Field((), description="Picture shards (corpora pack), for a model of pixels; else the files.")
    preparation: Preparation = Field(
        "upright", description="Of pixels, by default the run's own: upright, or release as in the papers' rows."
    )
    side: int | None = Field(
        None, gt=0, description="Pixels of a picture's side, by default the run's own, else the model's image_size."
    )

    baseline: Literal["words", "words-and-picture"] | None = Field(
        None,
        description="Answer by a penalised regression, fitted to the training split, on the words of the texts, or on "
        "these and the picture's mean region feature or thumbnail: what a trained model must be read against.",
    )

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (*super().files, *self.shards)


def other_sets(also: Sequence[str]) -> dict[str, str]:
    """NAME -> FILE of sets that are measured besides; raises a ValueError for what is no such pair, or a NAME twice."""
    named = [given.partition("=") for given in also]
    for given, (name, _, file) in zip(also, named):
        if not (re.fullmatch(r"[\w-]+", name) and file):
            raise ValueError(f"{given!r} is not NAME=FILE, NAME being letters and figures")
    if len({name for name, _, _ in named}) < len(named):
        raise ValueError(f"a NAME is there twice: {', '.join(also)}")
    return {name: file for name, _, file in named}


class Answers(NamedTuple):
    """What a model says of some examples: of a number its value, else the likeliest labels, best first."""

    values: np.ndarray  # [n, k] float32: the number, or probabilities
    places: np.ndarray  # [n, k] int64, of the labels; of a number 0

    @classmethod
    def of(cls, logits: np.ndarray, target: Target) -> "Answers":
        """Of the logits of a batch, [n, labels]; classes exclude each other, answers do not.

        Raises:
            NonFiniteError: inf or nan.
        """
        if not np.isfinite(logits).all():
            raise NonFiniteError("answers hold inf or nan: the model has diverged; use an earlier checkpoint")
        if target == "number":
            return cls(logits, np.zeros(logits.shape, np.int64))
        likely = np.argsort(-logits, axis=1, kind="stable")[:, :SURE]
        odds = np.exp(logits - logits.max(1, keepdims=True)) if target == "class" else 1 / (1 + np.exp(-logits))
        shares = odds / odds.sum(1, keepdims=True) if target == "class" else odds
        return cls(np.take_along_axis(shares, likely, 1), likely)


class Understanding:
    """The examples of a split, opened once and answered as often as wanted.

    A split whose answers are not public is predicted, not measured.

    Raises:
        ConfigError: a model with other outputs than the task has labels.
        DataError: examples or answers that do not fit; see `Questions` and `Targets`.
    """

    def __init__(self, config: Any, tokenizer: Tokenizer, settings: UnderstandingSettings, split: Split):
        self.settings, self.split = settings, split
        self.max_tokens = min(settings.max_tokens, longest_text(config))
        self.labels = read_labels(settings.labels, settings.target)
        if not settings.baseline:
            check_outputs(config.num_labels, self.labels, settings.target)
        open_split = partial(self._open, config, tokenizer)
        self.fitted_to = (
            [open_split(settings.examples, "train"), open_split(settings.examples, "dev")] if settings.baseline else []
        )
        self.sets = {"": open_split(settings.examples, split)}
        self.sets |= {name: open_split(file, split) for name, file in other_sets(settings.also).items()}
        self.targets = {name: self._answers(questions) for name, questions in self.sets.items()}
        self.units = self.sets[""].ids
        found: tuple[str, ...] = ("accuracy", *(("matthews_corrcoef",) if self._is_binary else ()))
        if settings.target == "number":
            found = ("pearson", "spearman", "pearson_spearman")
        self.measures = tuple(f"{name}_{m}" if name else m for name, t in self.targets.items() if t for m in found)
        self.best = "pearson_spearman" if settings.target == "number" else "accuracy"

    @property
    def _is_binary(self) -> bool:
        return self.settings.target == "class" and len(self.labels) == 2

    def _open(self, config: Any, tokenizer: Tokenizer, file: str, split: Split) -> Questions:
        given = self.settings
        return Questions(
            find(file),
            split,
            tokenizer,
            config,
            self.max_tokens,
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
            "items": f"{len(first):,} examples",
            "limits": {
                "max_tokens": self.max_tokens,
                "max_regions": given.max_regions,
                "evaluation_batch": given.evaluation_batch,
            },
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
        said: dict[str, Answers] = {}
        answer, facts = self._baseline() if self.settings.baseline else (partial(self.answer, model, world), {})
        for name, questions in self.sets.items():
            said[name] = answer(questions)
            if (targets := self.targets[name]) is None:
                continue
            found, shares = self.compare(said[name], targets)
            metrics |= {f"{name}_{key}" if name else key: metric for key, metric in found.items()}
            samples |= {} if name else shares
        files = lambda: {  # noqa: E731
            f"{name}_{PREDICTIONS}" if name else PREDICTIONS: self.predictions(self.sets[name], answers)
            for name, answers in said.items()
        }
        return Measured(metrics, samples, {name: metric.value for name, metric in metrics.items()}, files, facts)

    def _baseline(self) -> tuple[Callable[[Questions], Answers], dict[str, Any]]:
        """The linear baseline, and what metrics.json says of it."""
        from unimo.evaluate.linear import fit_linear  # its library is not everybody's

        assert self.settings.baseline is not None  # who calls this has looked
        target = self.settings.target
        train, dev = ((part, Targets(part.examples, target, self.labels)) for part in self.fitted_to)
        worth = lambda logits, targets: self.worth(Answers.of(logits, target), targets)  # noqa: E731
        regression, strength = fit_linear(train, dev, self.settings.baseline, worth)
        about = {"baseline": self.settings.baseline, "strength": strength}
        seen = f"regression on {self.settings.baseline.replace('-', ' ')}, fitted to {len(train[0]):,} examples"
        return lambda questions: Answers.of(regression(questions), target), {"scoring": about, "seen": seen}

    def worth(self, said: Answers, targets: Targets) -> float:
        """One number for how good answers are, the higher the better."""
        if targets.target == "number":
            return pearson(said.values[:, 0], targets.take(np.arange(len(targets))))
        return float(score_of(said.places[:, 0], targets)[0].mean())

    def answer(self, model: nn.Layer, world: World, questions: Questions) -> Answers:
        """Of every example in order."""
        was_training, parts = model.training, []
        model.eval()
        ones = np.ones(len(questions), np.int64)
        batches = list(in_order(ones, self.settings.evaluation_batch, world.rank, world.size))
        with paddle.no_grad():
            for rows in tqdm(batches, desc="answering", mininterval=2, disable=world.rank > 0):
                logits = class_logits(model, questions.collate(rows)).numpy()
                parts.append(Answers.of(logits, self.settings.target))
        if was_training:
            model.train()
        found = gathered(world.gather(parts))
        return Answers(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))

    def compare(self, said: Answers, targets: Targets) -> tuple[dict[str, Metric], dict[str, Sample]]:
        """The measures of the answers of a set, and the samples of those that are means over examples."""
        everything = np.arange(len(targets))
        if targets.target == "number":
            right, given = targets.take(everything), said.values[:, 0]
            found = {"pearson": agreement(pearson, given, right), "spearman": agreement(spearman, given, right)}
            both = lambda a, b: (pearson(a, b) + spearman(a, b)) / 2  # noqa: E731 - the release's p_and_sp
            return found | {"pearson_spearman": agreement(both, given, right)}, {}
        chosen = said.places[:, 0]
        scores, constant = score_of(chosen, targets)
        accuracy = Sample(scores, np.ones(len(targets)))
        metrics = {"accuracy": measure(accuracy, chance=constant)}
        if self._is_binary:
            metrics["matthews_corrcoef"] = agreement(matthews, chosen, targets.take(everything))
        return metrics, {"accuracy": accuracy}

    def predictions(self, questions: Questions, said: Answers) -> list[dict[str, Any]]:
        """One entry an example: its id, the target, the prediction, and the probabilities of the likeliest labels."""
        rows = []
        for example, values, places in zip(questions.examples, said.values.tolist(), said.places):
            row: dict[str, Any] = {"id": example.id, "target": example.target, "prediction": values[0]}
            if self.settings.target != "number":
                labels = [self.labels[place] for place in places]
                shares = {label: round(share, 6) for label, share in zip(labels, values)}
                row |= {"prediction": labels[0], "probabilities": shares}
            rows.append(row)
        return rows


def check_outputs(given: int, labels: tuple[str, ...], target: Target) -> None:
    """Raise a ConfigError if a model has another number of outputs than a task has labels (one for a number)."""
    expected = 1 if target == "number" else len(labels)
    if given != expected:
        what = "one output for a number" if target == "number" else f"{expected:,} labels"
        raise ConfigError(f"the model has {given:,} output(s) (num_labels), the task has {what}; name its own labels")


def class_logits(model: nn.Layer, inputs: dict[str, Any]) -> Tensor:
    """What a model with a classification head says of a collated batch of examples. [B, labels]"""
    streams: dict[str, Any] = {"text": as_text(inputs["text"])} if "text" in inputs else {}
    streams |= {key: as_picture(inputs) for key in inputs.keys() & {"regions", "pixels"}}
    if not {"classify", "entail"} & set(model.heads):
        raise ConfigError("this model has no classification head; fine-tune it first (unimo finetune classify)")
    return model.class_logits(model(**streams, wanted="classes"))  # the poolers read no other position


def score_of(chosen: np.ndarray, targets: Targets) -> tuple[np.ndarray, float]:
    """What each chosen label scores, [n] from 0 to 1, and the mean score of the best constant answer.

    Of many answers by VQA's rules: what is said is normalised before it is looked up.
    """
    if targets.target == "class":
        right = targets.take(np.arange(len(targets)))
        return (chosen == right).astype(np.float64), float(np.bincount(right).max() / len(right))
    scores, of_answer = np.zeros(len(targets)), dict[str, float]()
    for row, place in enumerate(chosen):
        given = targets.scores(row)
        scores[row] = score(targets.labels[place], given)
        for answer, worth in given.items():
            of_answer[answer] = of_answer.get(answer, 0.0) + worth
    return scores, max(score(label, of_answer) for label in targets.labels) / len(targets)
