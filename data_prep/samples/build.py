"""The stage itself: a package -> examples.jsonl, and pictures with their list where the set has them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from data_prep.benchmarks.example_sets import EXAMPLES, SPLITS, Benchmark, Part, write_sets
from data_prep.corpora.records import Bad
from data_prep.near_duplicates import normalise
from data_prep.sources.packages import Package
from data_prep.stage import Work
from unimo.errors import DataError
from unimo.readers.annotations import Split
from unimo.readers.examples import Example

TEST, DEV = 0.15, 0.1  # ours: shares of a set that is published without splits


def drawn(key: str) -> Split:
    """The split of what is told by `key`, where a set has none of its own: by a hash, so equal keys go together."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return "test" if place < TEST else "dev" if place < TEST + DEV else "train"


@contextmanager
def reading(package: Package) -> Iterator[None]:
    """Raise a DataError for whatever goes wrong because a package's files are not what they were."""
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{package.archive} ({package.name} {package.version}) is laid out differently: {error!r}; "
            "fetch a version that this program knows (data_prep/sources/packages.yaml)"
        ) from error


def each_once(examples: Iterable[Example]) -> Iterator[Example | Bad]:
    """The examples; one whose texts an earlier one has, but for small letters and articles, is none."""
    seen: set[str] = set()
    for example in examples:
        key = " | ".join(map(normalise, example.source))
        yield Bad(example.id, "text twice", " | ".join(example.source)[:200]) if key in seen else example
        seen.add(key)


def write_sample(
    name: str,
    title: str,
    out: Path,
    packages: Sequence[Package],
    examples: Sequence[Example | Bad],
    inputs: Sequence[Path] = (),
    others: Mapping[str, Callable[[Path], int]] | None = None,
) -> str:
    """Write a set of examples that name their splits into the folder `out`, and say what was done.

    Args:
        others: file -> what writes it and returns how many records it holds.

    Raises:
        DataError: the folder holds something else, or nothing is usable.
    """

    def read(split: Split) -> Iterator[Example | Bad]:
        for example in examples:
            if (example.split if isinstance(example, Example) else "train") == split:
                yield example

    work = Work(
        f"samples {name}",
        out,
        {"set": name, "inputs": [str(path) for path in inputs]},
        inputs,
        packages=[package.record() for package in packages],
        files=(EXAMPLES, *(others or {})),
    )
    parts = [Part(split, partial(read, split)) for split in SPLITS]
    return write_sets(work, Benchmark(title, packages[0].name), parts, others)
