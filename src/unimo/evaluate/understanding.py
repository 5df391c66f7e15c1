"""Examples answered by a class, a number or one of many answers: the measures of a split, and every prediction."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import paddle
from paddle import Tensor, nn
from pydantic import Field
from tqdm import tqdm

from unimo.engine.distributed import World
from unimo.errors import ConfigError, NonFiniteError
from unimo.evaluate.agreement import agreement, matthews, pearson, spearman
from unimo.evaluate.data_settings import EvaluatedExamples, ExampleSets, other_sets
from unimo.evaluate.results import Measured, Metric, Sample, measure
from unimo.evaluate.vqa_answers import score
from unimo.models.systems import longest_text
from unimo.readers.annotations import Split
from unimo.readers.examples import Example, gathered, in_order
from unimo.readers.questions import Questions
from unimo.readers.targets import Target, Targets, read_labels
from unimo.readers.tensors import as_picture, as_text
from unimo.readers.tokenizer import Tokenizer

PREDICTIONS = "predictions.json"
SURE = 5  # of many labels, how many predictions.json gives the probability of


class UnderstandingSettings(ExampleSets, EvaluatedExamples):
    """What an evaluation of examples is of."""

    baseline: Literal["words", "words-and-picture"] | None = Field(
        None,
        description="Answer by a penalised regression, fitted to the training split, on the words of the texts, or on "
        "these and the picture's mean region feature or thumbnail: what a trained model must be read against.",
    )


class Answers(NamedTuple):
    """What a model says of some examples: of a number its value, else the likeliest labels, best first."""

    values: np.ndarray  # [n, k] float32: the number, or what each label is given: a probability, a cosine
    places: np.ndarray  # [n, k] int64, of the labels; of a number 0

    @classmethod
    def highest(cls, scores: np.ndarray) -> "Answers":
        """The labels of the highest scores with these, of those of a batch, [n, labels].

        Raises:
            NonFiniteError: inf or nan.
        """
        _check_finite(scores)
        places = np.argsort(-scores, axis=1, kind="stable")[:, :SURE]
        return cls(np.take_along_axis(scores, places, 1), places)

    @classmethod
    def of(cls, logits: np.ndarray, target: Target) -> "Answers":
        """Of the logits of a batch, [n, labels]; classes exclude each other, answers do not.

        Raises:
            NonFiniteError: inf or nan.
        """
        if target == "number":
            _check_finite(logits)
            return cls(logits, np.zeros(logits.shape, np.int64))
        likely = cls.highest(logits)
        if target == "answers":
            return likely._replace(values=1 / (1 + np.exp(-likely.values)))
        highest = logits.max(1, keepdims=True)
        total = np.exp(logits - highest).sum(1, keepdims=True)
        return likely._replace(values=np.exp(likely.values - highest) / total)


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise NonFiniteError("answers hold inf or nan: the model has diverged; use an earlier checkpoint")


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
        fitted_to: tuple[Split, ...] = ("train", "dev") if settings.baseline else ()
        self.fitted_to = [open_split(settings.examples, other) for other in fitted_to]
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
        return self.settings.opened(file, config, tokenizer, self.max_tokens, split)

    def _answers(self, questions: Questions) -> Targets | None:
        """The right answers; None where the set has none of any."""
        if all(example.target is None for example in questions.examples):
            return None
        return Targets(questions.examples, self.settings.target, self.labels)

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of metrics.json: split, counts, data, limits."""
        limits = {"max_regions": self.settings.max_regions, "evaluation_batch": self.settings.evaluation_batch}
        found = facts_of(self.sets[""], self.split, {"max_tokens": self.max_tokens, **limits})
        found["data"] |= {f"{name}_sha256": questions.sha256 for name, questions in self.sets.items() if name}
        return found

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
            f"{name}_{PREDICTIONS}".lstrip("_"): predictions(self.sets[name].examples, its, self.labels)
            for name, its in said.items()
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

        def reply(inputs: dict[str, Any]) -> Answers:
            return Answers.of(class_logits(model, inputs).numpy(), self.settings.target)

        return answered(model, questions, self.settings.evaluation_batch, world, reply)

    def compare(self, said: Answers, targets: Targets) -> tuple[dict[str, Metric], dict[str, Sample]]:
        """The measures of the answers of a set, and the samples of those that are means over examples."""
        everything = np.arange(len(targets))
        if targets.target == "number":
            right, given = targets.take(everything), said.values[:, 0]
            found = {"pearson": agreement(pearson, given, right), "spearman": agreement(spearman, given, right)}
            both = lambda a, b: (pearson(a, b) + spearman(a, b)) / 2  # noqa: E731 - the release's p_and_sp
            return found | {"pearson_spearman": agreement(both, given, right)}, {}
        scores, constant = score_of(said.places[:, 0], targets)
        accuracy = Sample(scores, np.ones(len(targets)))
        metrics = {"accuracy": measure(accuracy, chance=constant)}
        if self._is_binary:
            metrics["matthews_corrcoef"] = agreement(matthews, said.places[:, 0], targets.take(everything))
        return metrics, {"accuracy": accuracy}


def answered(
    model: nn.Layer, questions: Questions, size: int, world: World, reply: Callable[[dict[str, Any]], Answers]
) -> Answers:
    """What `reply` says of the inputs of all examples, `size` of them at a time, in order; the processes share them."""
    was_training, parts = model.training, []
    model.eval()
    batches = list(in_order(np.ones(len(questions), np.int64), size, world.rank, world.size))
    with paddle.no_grad():
        for rows in tqdm(batches, desc="answering", mininterval=2, disable=world.rank > 0):
            parts.append(reply(questions.collate(rows)))
    if was_training:
        model.train()
    found = gathered(world.gather(parts))
    return Answers(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def predictions(
    examples: Sequence[Example], said: Answers, labels: Sequence[str], named: str = "probabilities"
) -> list[dict[str, Any]]:
    """One entry an example: its id, the target, the prediction, and what the likeliest labels are given, under `named`.

    Args:
        labels: none, where answers are numbers.
    """
    rows = []
    for example, values, places in zip(examples, said.values.tolist(), said.places):
        row: dict[str, Any] = {"id": example.id, "target": example.target, "prediction": values[0]}
        if labels:
            given = {labels[place]: round(value, 6) for place, value in zip(places, values)}
            row |= {"prediction": labels[places[0]], named: given}
        rows.append(row)
    return rows


def facts_of(questions: Questions, split: Split, limits: Mapping[str, int]) -> dict[str, Any]:
    """What metrics.json says of the examples of a split: counts, hashes, what made the inputs of their pictures."""
    images, data = questions.images, {"examples_sha256": questions.sha256}
    return {
        "split": split,
        "examples": len(questions),
        "items": f"{len(questions):,} examples",
        "limits": dict(limits),
        "data": data | ({images.key: images.fingerprint} if images else {}),
        "features": dict(images.origin) if images else {},
    }


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
