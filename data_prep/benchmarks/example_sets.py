"""What all converters of benchmarks do with examples: ids checked, what is broken listed, counts beside the published.

A converter describes its set by parts, each a split of a list, and hands out the examples of a part in file order.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from data_prep.corpora.records import Bad
from data_prep.corpora.text_files import whole
from data_prep.stage import Work, check_same
from unimo.console import say
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import SHOWN, Split, write_jsonl
from unimo.readers.examples import Example

EXAMPLES, IMAGES = "examples.jsonl", "images.jsonl"
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
NO_GOLD = "-"  # MNLI's and SNLI's label where the annotators did not agree


@dataclass(frozen=True)
class Benchmark:
    """A public set: its name, and in words where it is published."""

    title: str
    home: str

    def wrong(self, place: object, problem: str, remedy: str) -> DataError:
        """One error that says where, what was got and expected, what to do, and where the set is to be had."""
        return DataError(f"{place}: {problem}; {remedy}. {self.title} is published at {self.home}")

    def missing(self, source: Path, names: Sequence[str]) -> DataError:
        """The error for files that a folder lacks."""
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        remedy = "name the folder that the set unpacks to, or choose splits with --split"
        return self.wrong(source, f"it lacks {', '.join(names[:SHOWN])}{more}", remedy)


@dataclass(frozen=True)
class Part:
    """A split of a list: what reads its examples, and how many are published (None: that differs from set to set).

    `added` names what joins a split from elsewhere, and is counted apart.
    """

    split: Split
    read: Callable[[], Iterator[Example | Bad]]
    published: int | None = None
    file: str = EXAMPLES
    added: str = ""


def example(
    number: str,
    split: Split,
    texts: Sequence[str],
    target: int | float | str | dict[str, float] | None,
    image_id: str | None = None,
) -> Example | Bad:
    """An example, or why it is none: a text of it is blank."""
    if not all(text.strip() for text in texts):
        return Bad(number, "blank text", " | ".join(texts)[:200])
    source = [whole(text) for text in texts]
    return Example(id=number, split=split, source=source, image_id=image_id, target=target)


def label_order(classes: Sequence[str], given: str | None) -> tuple[str, ...]:
    """The classes in the order of the release's integers, which it does not publish: as given, else as they are.

    Raises:
        ConfigError: other classes are given.
    """
    order = tuple(label.strip() for label in given.split(",")) if given is not None else tuple(classes)
    if sorted(order) != sorted(classes):
        raise ConfigError(f"--labels {given}: expected {', '.join(classes)} in any order")
    return order


def write_sets(
    work: Work, benchmark: Benchmark, parts: Sequence[Part], others: Mapping[str, Callable[[Path], int]] | None = None
) -> str:
    """Write the lists of `parts`, those of one file in their order, then `others`; says what was done.

    Args:
        work: names all files that are written.
        others: file -> what writes it and returns how many records it holds.

    Raises:
        DataError: the folder holds something else, an id stands in two splits, or nothing is usable.
    """
    check_same(work.out, work.settings)
    _check_own(work.out, [*work.files, "rejects.jsonl", "manifest.json"])
    work.out.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    for file, same in groupby(parts, lambda part: part.file):
        write_jsonl(work.out / file, _checked(work, benchmark, file, list(same), counts))
    written = {Path(file).stem: write(work.out / file) for file, write in (others or {}).items()}
    _notice(benchmark, parts, counts)
    return work.finish({"examples": sum(counts.values()), **counts, **written}, "examples")


def _check_own(out: Path, names: Sequence[str]) -> None:
    """Raise a DataError where a folder without a manifest holds what is not of this stage."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; name a folder to write into")
    if out.is_dir() and not (out / "manifest.json").exists():
        others = sorted(p.name for p in out.iterdir() if p.name not in names and not p.name.startswith("."))
        if others:
            raise DataError(f"{out} holds other files ({', '.join(others[:3])}); name a new folder")


def _name(part: Part) -> str:
    """What a part is called in counts: its split, with the list where that is not the first."""
    return part.added or (part.split if part.file == EXAMPLES else f"{part.split} in {part.file}")


def _checked(
    work: Work, benchmark: Benchmark, file: str, parts: Sequence[Part], counts: Counter[str]
) -> Iterator[Example]:
    """The examples of a file, each id once; what is broken goes to the list of rejects."""
    seen: dict[str, Split] = {}
    for part in parts:
        counts[_name(part)] = 0
        for example in part.read():
            if isinstance(example, Bad):
                work.reject(*map(whole, example))
            elif example.id not in seen:
                seen[example.id] = part.split
                counts[_name(part)] += 1
                yield example
            elif seen[example.id] == part.split:
                work.reject(example.id, "id twice", "the first is kept")
            else:
                problem = f"id {example.id!r} is in {seen[example.id]} and in {part.split}, expected in one of them"
                raise benchmark.wrong(work.out / file, problem, "give each split the file that is published for it")


def _notice(benchmark: Benchmark, parts: Sequence[Part], counts: Counter[str]) -> None:
    """One line on all parts that have another number of examples than is published: a subset is as good as a slip."""
    told = [(_name(part), counts[_name(part)], part.published) for part in parts if part.published is not None]
    others = [f"{name} {got:,} (published: {published:,})" for name, got, published in told if got != published]
    if others:
        say(f"notice: {benchmark.title} has {', '.join(others)}; all of it is at {benchmark.home}")
