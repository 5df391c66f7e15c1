"""GLUE's tables and those of the release -> examples. Which of the two a file is, its first line tells.

GLUE        its own columns, another set for each task and often for each split; CoLA's train and dev have no header
release     text_a, text_b of pairs, label as an integer in every split (of tests it says nothing), and perhaps qid
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from data_prep.benchmarks.example_sets import (
    EXAMPLES,
    NO_GOLD,
    SPLITS,
    Benchmark,
    Part,
    example,
    label_order,
    write_sets,
)
from data_prep.corpora.records import Bad
from data_prep.stage import Work
from unimo.console import say
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import Split
from unimo.readers.examples import Example
from unimo.storage.encodings import open_text

MISMATCHED, DIAGNOSTIC = "mismatched.jsonl", "ax.jsonl"
HIGHEST = 5.0  # STS-B's scores are means of 0 to 5


@dataclass(frozen=True)
class Table:
    """One file of a task: its names in GLUE and in the release, and the number of examples that GLUE publishes."""

    split: Split
    published: int
    names: tuple[str, ...]
    file: str = EXAMPLES


@dataclass(frozen=True)
class Task:
    """A task of GLUE.

    Attributes:
        texts: names of the columns of texts, in all spellings that GLUE's files have.
        labels: names of the column of labels, likewise.
        classes: in the order of GLUE's integers; none where the label is a score.
        headless: columns of files without a header line.
    """

    title: str
    texts: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    tables: tuple[Table, ...]
    headless: tuple[str, ...] = ()

    @property
    def benchmark(self) -> Benchmark:
        """The set as its errors name it."""
        return Benchmark(self.title, "gluebenchmark.com (Tasks)")


def _tables(train: int, dev: int, test: int) -> tuple[Table, ...]:
    return tuple(Table(split, n, (f"{split}.tsv",)) for split, n in zip(SPLITS, (train, dev, test), strict=True))


# Numbers of examples: the download itself, as GLUE's paper (arXiv 1804.07461, table 1) rounds them.
TASKS = {
    "sst-2": Task("SST-2", (("sentence",),), ("label",), ("negative", "positive"), _tables(67_349, 872, 1_821)),
    "cola": Task(
        "CoLA",
        (("sentence",),),
        ("label",),
        ("unacceptable", "acceptable"),
        _tables(8_551, 1_043, 1_063),
        headless=("source", "label", "star", "sentence"),
    ),
    "mnli": Task(
        "MNLI",
        (("sentence1", "sentence2"), ("Premise", "Hypothesis")),
        ("gold_label", "Label"),
        ("entailment", "neutral", "contradiction"),
        (
            Table("train", 392_702, ("train.tsv",)),
            Table("dev", 9_815, ("dev_matched.tsv", "m/dev.tsv")),
            Table("test", 9_796, ("test_matched.tsv", "m/test.tsv")),
            Table("dev", 9_832, ("dev_mismatched.tsv", "mm/dev.tsv"), MISMATCHED),
            Table("test", 9_847, ("test_mismatched.tsv", "mm/test.tsv"), MISMATCHED),
            Table(
                "test",
                1_104,
                ("diagnostic.tsv", "diagnostic-full.tsv", "AX.tsv", "../diagnostic/diagnostic.tsv"),
                DIAGNOSTIC,
            ),
        ),
    ),
    "sts-b": Task("STS-B", (("sentence1", "sentence2"),), ("score",), (), _tables(5_749, 1_500, 1_379)),
}


class Columns(NamedTuple):
    """Where in a table's rows things stand."""

    names: Sequence[str]
    texts: Sequence[int]
    label: int | None
    number: int | None
    release: bool = False
    header: bool = True


def convert(
    name: str,
    source: Path,
    out: Path,
    splits: Sequence[Split] = (),
    labels: str | None = None,
    lower_case: bool = False,
) -> str:
    """Write the lists of a task into the folder `out`, and say what was done.

    Args:
        name: a key of TASKS.
        splits: those that are wanted, by default all; the files of others need not be there.
        labels: the classes in the order of the release's integers, with commas between; by default GLUE's.
        lower_case: texts in small letters.

    Raises:
        ConfigError: `labels` are other classes than the task's, or no file has integers of the release.
        DataError: files are missing or not of the task, or `out` holds something else.
    """
    task = TASKS[name]
    found = _found(task, source, splits)
    opened = [(table, path, _columns(task, table, path)) for table, path in found]
    release = any(columns.release for _, _, columns in opened)
    order = label_order(task.classes, labels)
    if labels and not release:
        raise ConfigError("--labels is not used: GLUE's own files say what their labels are; leave it out")
    settings = {
        "set": name,
        "form": "release" if release else "public",
        "labels": list(order),
        "lower_case": lower_case,
        "files": {path.name if path.parent == source else str(path): path.stat().st_size for _, path in found},
    }
    names = tuple(dict.fromkeys(table.file for table, _ in found))
    work = Work(f"benchmarks {name}", out, settings, [path for _, path in found], files=names)
    parts = []
    for table, path, columns in opened:
        known = replace(task, classes=order) if columns.release else task
        parts.append(
            Part(table.split, partial(_read, known, table, path, columns, lower_case), table.published, table.file)
        )
    if release and order:
        say(
            f"notice: integers of the release's files are taken as {', '.join(f'{i} {c}' for i, c in enumerate(order))}"
        )
    return write_sets(work, task.benchmark, parts)


def _found(task: Task, source: Path, splits: Sequence[Split]) -> list[tuple[Table, Path]]:
    """The files of the wanted splits. Raises DataError where some are missing."""
    wanted = [table for table in task.tables if table.split in (splits or SPLITS)]
    paths = [next((source / n for n in table.names if (source / n).is_file()), None) for table in wanted]
    missing = [" or ".join(table.names) for table, path in zip(wanted, paths) if path is None]
    if missing:
        raise task.benchmark.missing(source, missing)
    return [(table, path) for table, path in zip(wanted, paths) if path]


def _columns(task: Task, table: Table, path: Path) -> Columns:
    """What the first line of a table tells. Raises DataError for a file that is none of the task's."""
    _, names = next(_rows(task, path), (0, []))
    if "text_a" in names:
        columns = [column for column in ("text_a", "text_b") if column in names]
        if len(columns) == len(task.texts[0]) and "label" in names:
            texts, label = [names.index(column) for column in columns], names.index("label")
            return Columns(names, texts, label, names.index("qid") if "qid" in names else None, release=True)
    answered = table.split == "test" or {*task.labels} & {*names}
    for spelling in task.texts:
        if set(spelling) <= {*names} and answered:
            spelt = next((label for label in task.labels if label in names), None)
            number = names.index("index") if "index" in names else None
            return Columns(names, [names.index(c) for c in spelling], names.index(spelt) if spelt else None, number)
    if task.headless and len(names) == len(task.headless) and names[1] in ("0", "1"):
        texts = [task.headless.index(column) for column in task.texts[0]]
        return Columns(task.headless, texts, task.headless.index("label"), None, header=False)
    raise task.benchmark.wrong(
        f"{path}:1",
        f"the columns are {names[:12]}, expected {', '.join((*task.texts[0], task.labels[0]))} as in GLUE, or "
        f"{'text_a, text_b' if len(task.texts[0]) == 2 else 'text_a'} and label as in the release",
        "give the folder of this task's tables, in which only test has no label",
    )


def _rows(task: Task, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line. Quotes mean nothing. Raises DataError for what is no table in UTF-8."""
    try:
        with open_text(path) as file:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            yield from ((reader.line_num, fields) for fields in reader if fields)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise task.benchmark.wrong(path, f"is no table of text in UTF-8 ({error})", "fetch the file again") from error


def _read(task: Task, table: Table, path: Path, columns: Columns, lower_case: bool) -> Iterator[Example | Bad]:
    """The examples of a table in its order. Raises DataError for a row that is cut short, and an unknown label."""
    labelled = table.split != "test" or _is_answered(task, table, path, columns)
    for row, (line, fields) in enumerate(islice(_rows(task, path), int(columns.header), None)):
        if len(fields) != len(columns.names):
            raise task.benchmark.wrong(
                f"{path}:{line}",
                f"{len(fields)} columns, expected {len(columns.names)} ({', '.join(columns.names)})",
                "the line is damaged or cut short: fetch the file again",
            )
        number = f"{table.split}:{row if columns.number is None else fields[columns.number]}"
        texts = [fields[column] if columns.release else fields[column].strip() for column in columns.texts]
        told = fields[columns.label] if labelled and columns.label is not None else None
        if told == NO_GOLD:
            yield Bad(number, "no gold label", f"{path.name}:{line}")
            continue
        target = None if told is None else _target(task, told, f"{path}:{line}")
        yield example(number, table.split, [t.lower() for t in texts] if lower_case else texts, target)


def _is_answered(task: Task, table: Table, path: Path, columns: Columns) -> bool:
    """Whether the labels of a test are answers. They are public of the diagnostic set only, where the file has them.

    The release's tables have a column of labels always: one label for the whole set is a filling.
    """
    if table.file != DIAGNOSTIC or columns.label is None:
        return False
    rows = islice(_rows(task, path), int(columns.header), None)
    return len({fields[columns.label] for _, fields in rows if len(fields) > columns.label}) > 1


def _target(task: Task, told: str, place: str) -> str | float:
    """The class by its name or its integer, or the score."""
    if task.classes:
        if told in task.classes:
            return told
        if told.isdecimal() and int(told) < len(task.classes):
            return task.classes[int(told)]
        expected = f"{', '.join(task.classes)} or 0 to {len(task.classes) - 1}"
    else:
        try:
            if 0 <= float(told) <= HIGHEST:
                return float(told)
        except ValueError:
            pass
        expected = f"a score from 0 to {HIGHEST:g}"
    raise task.benchmark.wrong(
        place, f"label {told[:60]!r}, expected {expected}", "correct the line or fetch the file again"
    )
