"""The checkpoints that the model zoo knows by name: model_configs/zoo.yaml, and what people are shown of it."""

import difflib
from pathlib import Path
from typing import Any

from pydantic import Field

from unimo.config import Config, Mode, find, load
from unimo.errors import ConfigError
from unimo.paper import Number, rows
from unimo.storage.cache import cache_folder
from unimo.storage.json_files import read_json

HASHES = "hashes.json"  # in the zoo's cache folder, by address
SHARING = ("image_retrieval", "text_retrieval", "captioning")  # tasks that have a dataset in common with others
PORT_RECORD = "port.json"  # beside a ported model: where it came from, and what started at random


class Row(Config):
    """A row of a paper's table, or the part of it with these datasets and this mode."""

    table: str
    row: str
    datasets: list[str] = []
    mode: Mode | None = None


class Entry(Config):
    """A released checkpoint."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    about: str
    system: str
    model: str  # YAML file of the sizes, from the root of the clone
    tokenizer: str | None = None  # folder of the vocabulary, from the root of the clone
    url: str
    folder: str
    heads: list[str]
    labels: int | None = None  # outputs of the classification head
    variables: int | None = None  # files that make the parameters of these heads; None: not known
    parameters: int | None = None  # numbers in them
    presumed: list[str] = []  # keys above that nobody stated
    rows: list[Row]  # where the papers print its scores
    not_known: list[str] = []

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return self.url.rsplit("/", 1)[-1]


class Catalogue(Config):
    """The content of zoo.yaml."""

    entries: list[Entry]


def entries(path: str | Path = "model_configs/zoo.yaml") -> dict[str, Entry]:
    """All entries by name."""
    return {entry.name: entry for entry in load(Catalogue, find(path)).entries}


def entry_of(name: str) -> Entry:
    """The entry of a name; raises a ConfigError that lists the names."""
    known = entries()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigError(f"the zoo has no model {name!r}{hint} It has: {', '.join(known)}")
    return known[name]


def named(name_or_path: str | Path) -> Entry | None:
    """The entry that a name means; None where it is a path that exists, which comes first. Nothing is read or fetched.

    Raises:
        ConfigError: neither a path nor a name.
    """
    if Path(name_or_path).exists():
        return None
    try:
        return entry_of(str(name_or_path))
    except ConfigError as error:
        raise ConfigError(f"{name_or_path} does not exist, and {error}") from error


def home_of(entry: Entry, cache: Path | None = None) -> Path:
    """The entry's folder in the cache: its archive while and after it is fetched, and `model`, the ported folder."""
    return cache_folder(cache) / "zoo" / entry.name


def recorded_hash(entry: Entry, zoo: Path) -> dict[str, Any] | None:
    """What the first archive of the entry's address gave: sha256, bytes, source, date; None before there was one."""
    return read_record(zoo / HASHES).get(entry.url)


def read_record(path: Path) -> dict[str, Any]:
    """A json object that the zoo keeps; empty where there is none yet. Raises a ConfigError for any other file."""
    return read_json(path, ConfigError, "repair or remove it") if path.exists() else {}


def table(cache: Path | None = None) -> list[str]:
    """`unimo zoo list`: one line an entry."""
    rows = [("name", "system", "parameters", "cached", "about")]
    for entry in entries().values():
        cached = "yes" if (home_of(entry, cache) / "model" / "COMPLETE").is_file() else "no"
        rows.append((entry.name, entry.system, _number(entry.parameters), cached, entry.about))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def card(entry: Entry, cache: Path | None = None) -> list[str]:
    """`unimo zoo show`: all that is known of an entry, and what is not."""
    home = home_of(entry, cache)
    record = recorded_hash(entry, home.parent)
    ported = read_record(home / "model" / PORT_RECORD)
    weights = f"{4 * entry.parameters / 1e6:,.0f} MB" if entry.parameters else "not known"
    facts = {
        "about": entry.about,
        "system": entry.system,
        "sizes": entry.model,
        "heads": ", ".join(entry.heads) + (f" ({entry.labels} labels)" if entry.labels else ""),
        "parameters": _number(entry.parameters),
        "variables": _number(entry.variables),
        "presumed": ", ".join(entry.presumed) or "nothing",
        "address": entry.url,
        "folder in it": entry.folder,
        "sha256": f"{record['sha256']} ({record['bytes']:,} bytes, first seen {record['date']}, {record['source']})"
        if record
        else "none is published, none recorded yet; the first fetch records one",
        "disk needed": f"archive (size not known) + {weights} while it is unpacked + {weights} for the ported model",
        "ported model": f"{home / 'model'}, from {ported['source']}" if ported else "not in the cache",
        "archive": str(home / entry.archive) if (home / entry.archive).exists() else "not in the cache",
    }
    lines = [entry.name, *(f"  {key:<13} {value}" for key, value in facts.items())]
    lines += ["  scores of the papers, fine-tuned unless it says so:"]
    found = scores(entry)
    width = max(map(len, found), default=0)
    lines += [f"    {task:<{width}}  {', '.join(values)}" for task, values in found.items()]
    lines += ["  not known:", *(f"    {line}" for line in entry.not_known)]
    if ported:
        lines += ["  when it was ported:", *(f"    {line}" for line in ported["lines"])]
    return lines


def scores(entry: Entry) -> dict[str, list[str]]:
    """Task -> what the papers print for it, each as metric, value and, where there are several, the split."""
    tasks: dict[str, list[Number]] = {}
    for number in (n for part in entry.rows for n in rows(part.table, part.row, part.datasets, part.mode)):
        task = f" {number.task.replace('_', ' ')}" if number.task in SHARING else ""
        mode = "" if number.mode == "finetuned" else f", {number.mode.replace('_', '-')}"
        tasks.setdefault(f"{number.dataset}{task}{mode}", []).append(number)
    return {
        task: [
            f"{n.metric} {n.value:g}" + (f" ({n.split})" if len({other.split for other in found}) > 1 else "")
            for n in found
        ]
        for task, found in tasks.items()
    }


def _number(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"
