"""Pictures classified without training on their classes: the class whose name, in a sentence, is nearest.

A class is the mean, over some sentences with its name, of their vectors of length 1 (Radford et al. 2021, section
3.1.4); a picture gets the class of the highest cosine. UNIMO-2's paper says neither sentences nor protocol.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn
from pydantic import Field

from unimo.config import find
from unimo.console import say
from unimo.engine.distributed import World
from unimo.errors import ConfigError, DataError
from unimo.evaluate.data_settings import EvaluatedExamples, text_files
from unimo.evaluate.pair_scorers import PairScorer, pair_scorer
from unimo.evaluate.results import Measured, Sample, measure
from unimo.evaluate.ridge import text_vectors, unit
from unimo.evaluate.understanding import PREDICTIONS, SURE, Answers, answered, facts_of, predictions, score_of
from unimo.models.systems import longest_text
from unimo.readers.annotations import Split, read_records
from unimo.readers.captions import caption_ids
from unimo.readers.examples import Example, gathered
from unimo.readers.images import Stores
from unimo.readers.names_of_classes import read_class_names
from unimo.readers.targets import Targets, listed
from unimo.readers.tensors import as_picture
from unimo.readers.tokenizer import Tokenizer

BATCH = 64  # pictures, or sentences, that are encoded at a time
PLACE = "{}"  # of a template, where the name goes


class ZeroShotSettings(EvaluatedExamples):
    """What an evaluation without training is of."""

    names: str = Field(description="What the classes are called: lines CLASS<TAB>name, or LOC_synset_mapping.txt.")
    template: Stores = Field(
        (f"a photo of a {PLACE}.",),
        description=f"A sentence with {PLACE} for the name, several, or the .txt file that lists them.  "
        f'[default: "a photo of a {PLACE}."]',
    )

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (*super().files, self.names, *text_files(self.template))


class ZeroShot:
    """The pictures of a split and the names of their classes, opened once.

    Raises:
        ConfigError: a template without a place for the name, or with two.
        DataError: examples with texts or without pictures, or of other classes than have names; see `Questions`,
            `Targets` and `read_class_names`.
    """

    best = "accuracy"

    def __init__(self, config: Any, tokenizer: Tokenizer, settings: ZeroShotSettings, split: Split):
        self.settings, self.split, self.tokenizer = settings, split, tokenizer
        self.max_tokens = min(settings.max_tokens, longest_text(config))
        source, self.templates = listed(settings.template, "template")
        for template in self.templates or [""]:
            if (count := template.count(PLACE)) != 1:
                raise ConfigError(
                    f"{source}: {template!r} has {count} {PLACE}, expected one, where a class's name goes"
                )
        names_file = find(settings.names)
        self.names = read_class_names(names_file)
        self.labels = tuple(self.names)
        self.questions = settings.opened(settings.examples, config, tokenizer, self.max_tokens, split)
        if self.questions.has_text or self.questions.images is None:
            raise DataError(f"{settings.examples}: expected pictures without texts, whose targets are classes")
        self._check_classes(find(settings.examples))
        alike = [name for name, count in Counter(self.names.values()).items() if count > 1]
        if alike:
            say(f"notice: {len(alike):,} name(s) are of several classes each, which stay alike: {alike[0]!r}, ...")
        self.targets = Targets(self.questions.examples, "class", self.labels)
        self.units = self.questions.ids
        self.measures = ("accuracy", *(("top5_accuracy",) if len(self.labels) > SURE else ()))
        self.names_sha256 = hashlib.sha256(names_file.read_bytes()).hexdigest()

    def _check_classes(self, examples: Path) -> None:
        """Raise a DataError for classes without a name, or names without a class in any split."""
        given, classes = self.settings, _classes(self.questions.examples)
        if missing := sorted(classes - self.names.keys()):
            shown = f"{len(missing):,} of {len(classes):,} classes of {given.examples}, such as {missing[0]!r}"
            raise DataError(f"{given.names} has no name for {shown}; add a line CLASS<TAB>name for each")
        idle = self.names.keys() - classes if classes else set()
        if idle := idle and idle - _classes(read_records(examples, Example, "id")):
            shown = f"{len(idle):,} of {len(self.names):,} classes, such as {min(idle)!r}"
            raise DataError(f"{given.names} names {shown}, that {given.examples} has no example of; leave them out")

    @property
    def facts(self) -> Mapping[str, Any]:
        """Of metrics.json: split, counts, data, limits, sentences."""
        limits = {"max_tokens": self.max_tokens, "max_regions": self.settings.max_regions}
        scoring = {"classes": len(self.labels), "templates": self.templates, "names_sha256": self.names_sha256}
        return facts_of(self.questions, self.split, limits) | {"scoring": scoring}

    def plan(self, model: nn.Layer) -> str:
        """What it will cost, for people."""
        sentences = f"{len(self.labels):,} classes by {len(self.templates):,} sentence(s) each"
        return f"{len(self.questions):,} pictures, split {self.split}, {sentences}"

    def measure(self, model: nn.Layer, world: World) -> Measured:
        """Accuracies in percent. All processes call it and encode a part each; all get the numbers."""
        scorer = pair_scorer(model)
        classes = self.class_vectors(model, scorer, world).T

        def reply(inputs: dict[str, Any]) -> Answers:
            return Answers.highest(unit(scorer.image_vectors(as_picture(inputs)).numpy()) @ classes)

        said = answered(model, self.questions, BATCH, world, reply)
        right, ones = self.targets.take(range(len(self.targets))), np.ones(len(self.targets))
        scores, constant = score_of(said.places[:, 0], self.targets)
        samples = {"accuracy": Sample(scores, ones)}
        chances = {"accuracy": constant}
        if len(self.labels) > SURE:
            samples["top5_accuracy"] = Sample((said.places == right[:, None]).any(1), ones)
            chances["top5_accuracy"] = float(np.sort(np.bincount(right))[-SURE:].sum() / len(right))
        metrics = {name: measure(sample, chance=chances[name]) for name, sample in samples.items()}
        files = lambda: {PREDICTIONS: predictions(self.questions.examples, said, self.labels, "cosines")}  # noqa: E731
        return Measured(metrics, samples, {name: metric.value for name, metric in metrics.items()}, files)

    def class_vectors(self, model: nn.Layer, scorer: PairScorer, world: World) -> np.ndarray:
        """Of each class the mean over its sentences, of length 1; a process makes every n-th. [classes, H] float32"""
        mine = list(self.names.values())[world.rank :: world.size]
        texts = [template.replace(PLACE, name) for name in mine for template in self.templates]
        sequences = [caption_ids(self.tokenizer, text, self.max_tokens) for text in texts]
        vectors: list[np.ndarray] = []
        if mine:
            read = lambda _, text: scorer.text_vectors(text)  # noqa: E731
            found = unit(text_vectors(model, sequences, self.tokenizer.pad_id, read, BATCH, silent=world.rank > 0))
            vectors = list(unit(found.reshape([len(mine), len(self.templates), -1]).mean(1)))
        return np.stack(gathered(world.gather(vectors)))


def _classes(examples: list[Example]) -> set[str]:
    """The classes that some examples are of, as far as they are of any."""
    return {str(example.target) for example in examples if type(example.target) in (str, int)}
