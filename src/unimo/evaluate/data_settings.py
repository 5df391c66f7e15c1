"""Which examples and pictures: options that evaluations share, with each other and with the training before them."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field, field_validator

from unimo.config import Config, find
from unimo.readers.annotations import Split
from unimo.readers.images import PixelSettings, Stores
from unimo.readers.pixels import Preparation
from unimo.readers.questions import Questions
from unimo.readers.targets import Target
from unimo.readers.tokenizer import Tokenizer


class PictureSettings(Config):
    """How an evaluation gets the pictures of a model of pixels."""

    shards: Stores = Field((), description="Picture shards (corpora pack), for a model of pixels; else the files.")
    preparation: Preparation = Field(
        "upright", description="Of pixels, by default the run's own: upright, or release as in the papers' rows."
    )
    side: int | None = Field(
        None, gt=0, description="Pixels of a picture's side, by default the run's own, else the model's image_size."
    )

    @property
    def pixels(self) -> PixelSettings:
        """The same for the reader, which varies nothing."""
        return PixelSettings(shards=self.shards, preparation=self.preparation, side=self.side)


class ExampleFile(Config):
    """Which examples, and where their pictures are: of a training and of an evaluation."""

    examples: str = Field(description="examples.jsonl (data_prep benchmarks)")
    regions: Stores = Field((), description="Feature store of the pictures, for a model of regions.")
    images: str | None = Field(None, description="images.jsonl or pairs.jsonl of the pictures, for a model of pixels.")
    max_tokens: int = Field(512, gt=2, description="Of the texts of an example, or of a prompt.")
    max_regions: int = Field(100, gt=0, description="Of a picture.")

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there, but for picture shards."""
        return (self.examples, *([self.images] if self.images else []), *self.regions)


class EvaluatedExamples(PictureSettings, ExampleFile):
    """The same of an evaluation."""

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (*super().files, *self.shards)

    def opened(self, file: str, config: Any, tokenizer: Tokenizer, max_tokens: int, split: Split) -> Questions:
        """The examples of a file, with pictures as told; see `Questions`."""
        given = self.regions, self.max_regions, self.images, self.pixels
        return Questions(find(file), split, tokenizer, config, max_tokens, *given)


class ExampleSets(ExampleFile):
    """Also what examples are answered by: of a training and of an evaluation."""

    also: Stores = Field(
        (),
        description="NAME=FILE: further examples of the task, measured as NAME_accuracy and so on (mismatched MNLI).",
    )
    target: Target = Field("class", description="Of what kind answers are, by default the run's own.")
    labels: Stores = Field(
        (),
        description="The labels in the order of the model's outputs, or the .txt file that lists them; the run's own.",
    )
    evaluation_batch: int = Field(
        16,
        gt=0,
        description="Examples; what a UNIMO-2 makes of a text depends on the longest of its batch. The run's own.",
    )

    @field_validator("also")
    @classmethod
    def _named(cls, also: tuple[str, ...]) -> tuple[str, ...]:
        other_sets(also)
        return also

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there, but for picture shards."""
        return (*super().files, *other_sets(self.also).values(), *text_files(self.labels))


def text_files(given: Sequence[str]) -> list[str]:
    """Of values that may be files that list them, those that are."""
    return [value for value in given if value.endswith(".txt")]


def other_sets(also: Sequence[str]) -> dict[str, str]:
    """NAME -> FILE of sets that are measured besides; raises a ValueError for what is no such pair, or a NAME twice."""
    named = [given.partition("=") for given in also]
    for given, (name, _, file) in zip(also, named):
        if not (re.fullmatch(r"[\w-]+", name) and file):
            raise ValueError(f"{given!r} is not NAME=FILE, NAME being letters and figures")
    if len({name for name, _, _ in named}) < len(named):
        raise ValueError(f"a NAME is there twice: {', '.join(also)}")
    return {name: file for name, _, file in named}
