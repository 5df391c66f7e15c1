"""The one row of every benchmark, and one pass over rows in their order: dev sets, prediction files, generation."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from unimo.errors import DataError
from unimo.readers.annotations import NonEmpty, Record, Split, read_records


class Example(Record):
    """One question that a model answers: examples.jsonl holds one a line."""

    id: NonEmpty
    split: Split
    source: list[NonEmpty] = []  # texts in the order they are read: a sentence, premise and hypothesis, turns; or none
    image_id: NonEmpty | None = None
    # The answer: a class, a score, a text, or the score of each of several answers; None where it is not public
    target: int | float | NonEmpty | dict[str, float] | None = None


def read_examples(path: str | Path, split: Split) -> list[Example]:
    """The examples of a split in file order.

    Raises:
        DataError: with line numbers, for malformed or repeated records; a split without any.
    """
    examples = read_records(path, Example, "id")
    chosen = [example for example in examples if example.split == split]
    if not chosen:
        raise DataError(f"{path} has no example of split {split!r}; it has {sorted({e.split for e in examples})}")
    return chosen


def in_order(lengths: Sequence[int] | np.ndarray, budget: int, rank: int = 0, world: int = 1) -> Iterator[np.ndarray]:
    """Batches of consecutive samples, each sample once; process `rank` of `world` gets every `world`-th batch.

    What the processes make of them, put together batch by batch, is in the order of the samples again (`gathered`).

    Args:
        lengths: [n] positions of each sample; a batch holds as many as fit `budget` padded positions, at least one.
    """
    starts, widest = [0], 0
    for sample, length in enumerate(lengths):
        widest = max(widest, length)
        if sample > starts[-1] and (sample + 1 - starts[-1]) * widest > budget:
            starts.append(sample)
            widest = length
    batches = np.split(np.arange(len(lengths)), starts[1:])
    yield from (batch for batch in batches[rank::world] if len(batch))


def gathered(parts: Sequence[Sequence]) -> list:
    """The batches of all processes, rank after rank as each made them by `in_order`, in their common order."""
    longest = max(map(len, parts))
    return [part[place] for place in range(longest) for part in parts if place < len(part)]
