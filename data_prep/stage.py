"""What the stages share: a part of the work (--shard i/n), records left out, and the manifest of what was made."""

import json
import platform
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, overload

import click

from unimo.console import heeded
from unimo.errors import DataError
from unimo.readers.annotations import write_jsonl
from unimo.storage.atomic import atomic_write
from unimo.storage.cache import sha256
from unimo.storage.json_files import read_json

T = TypeVar("T")
PATH = click.Path(path_type=Path)
cache_option = click.option(
    "--cache", type=PATH, help="Where downloads are kept.  [default: $UNIMO_CACHE or ~/.cache/unimo]"
)


@dataclass(frozen=True)
class Shard:
    """Part `number` (from 1) of `count` parts of a list; the parts, one after the other, are the list."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @overload
    def of(self, items: range) -> range: ...

    @overload
    def of(self, items: Sequence[T]) -> Sequence[T]: ...

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The items of this part."""
        first, end = (len(items) * k // self.count for k in (self.number - 1, self.number))
        return items[first:end]

    def place(self, out: Path) -> Path:
        """Where this part of `out` is written: out.2-of-8 with the suffix of `out`, or `out` itself if it is all."""
        return out if self.count == 1 else out.with_name(f"{out.stem}.{self.number}-of-{self.count}{out.suffix}")


WHOLE = Shard()


class _ShardType(click.ParamType):
    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        if isinstance(value, Shard):
            return value
        number, _, count = value.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is no part such as 2/8, the second of eight", param, ctx)
        return Shard(int(number), int(count))


shard_option = click.option(
    "--shard",
    type=_ShardType(),
    default=WHOLE,
    show_default=False,
    help="Do part i of n only, beside the others as OUTPUT.i-of-n; `python -m data_prep merge OUTPUT` joins them.",
)


@dataclass
class Work:
    """One run of a stage: counts what it leaves out, and writes rejects.jsonl and manifest.json beside the output.

    Args:
        out: the file or folder that the run makes; a folder holds both lists, beside a file they are called after it.
        settings: whatever must be equal in all parts of one output.
        inputs: files and feature stores that are read; their hashes go into the manifest.
        packages: `Package.record()` of each archive used, with its licence.
        distributions: installed Python packages whose versions decide what comes out.
        files: those in the folder `out` that are the data set; the manifest holds their hashes.
        threads: that this run computed in, where their number decides bytes; what earlier runs left there may differ.

    Raises:
        DataError: `out` is one of the inputs.
    """

    stage: str
    out: Path
    settings: Mapping[str, Any]
    inputs: Sequence[Path]
    shard: Shard = WHOLE
    packages: Sequence[Mapping[str, str]] = ()
    distributions: Sequence[str] = ()
    files: Sequence[str] = ()
    threads: int | None = None
    rejects: list[dict[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.out.resolve() in [path.resolve() for path in self.inputs]:
            raise DataError(f"{self.out} is what the stage reads and what it would write; name another output")

    def reject(self, record_id: str, reason: str, detail: str = "") -> None:
        """Leave a record out; the manifest counts reasons, so what differs between records belongs into the detail."""
        self.rejects.append({"id": record_id, "reason": reason, "detail": detail})

    def finish(self, counts: Mapping[str, int], unit: str, done: int | None = None) -> str:
        """Write both files and return a line for people.

        Args:
            counts: what the output holds; `unit` is the key of it that the rate is of.
            done: how many of them this run made, where others were there before.

        Raises:
            DataError: nothing came out (a part may be empty: `merge` looks at all of them).
        """
        if not counts[unit] and self.shard.count == 1:
            shown = "; ".join(f"{r['id']}: {r['reason']} ({r['detail']})" for r in self.rejects[:3])
            shown = shown or "the input is empty"
            raise DataError(f"{self.stage}: nothing usable, {len(self.rejects)} records left out: {shown}")
        seconds, done = time.monotonic() - self.started, counts[unit] if done is None else done
        write_jsonl(beside(self.out, "rejects.jsonl"), self.rejects)
        manifest: dict[str, Any] = {
            "stage": self.stage,
            "settings": dict(self.settings),
            "shard": str(self.shard),
            "inputs": {str(path): _digest(path) for path in self.inputs},
            "packages": list(self.packages),
            "versions": versions(self.distributions),
            "counts": dict(counts),
            "rejects": dict(Counter(r["reason"] for r in self.rejects)),
            "seconds": round(seconds, 1),
        }
        if self.threads is not None:
            manifest["threads"] = self.threads
        if self.files:
            manifest["sha256"] = {name: sha256(self.out / name) for name in self.files}
        write_manifest(self.out, manifest)
        made = ", ".join(f"{n:,} {what}" for what, n in counts.items())
        rate = f"{done:,} {unit} now, {done / max(seconds, 1e-9):.1f} a second"
        line = f"{self.out}: {made} in {seconds:.0f} s ({rate})"
        if self.rejects:
            line += f"; {len(self.rejects)} left out ({beside(self.out, 'rejects.jsonl')})"
        return line


def restore_signals() -> None:
    """Put the handlers of __main__ back in their place: the import of Paddle puts others there, which kill at once.

    Another thread than the first may not set handlers, and none of ours are there.
    """
    if threading.current_thread() is threading.main_thread():
        for number in heeded():
            signal.signal(number, signal.getsignal(number))


def beside(out: Path, name: str) -> Path:
    """Where a list that belongs to `out` lies: in it if it is a folder, else NAME.LIST after it."""
    return out / name if out.is_dir() else out.with_name(f"{out.stem}.{name}")


def write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of `out`, atomically."""
    with atomic_write(beside(out, "manifest.json")) as file:
        file.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode())


def read_manifest(out: Path) -> dict[str, Any]:
    """The manifest of `out`. Raises DataError where there is none, or a damaged one."""
    path = beside(out, "manifest.json")
    hint = f"{path} is not a stage's manifest; the stage writes it last, so run it to its end"
    manifest = read_json(path, DataError, hint)
    if not {"stage", "settings", "shard", "inputs", "counts", "rejects"} <= manifest.keys():
        raise DataError(f"{path} has only {', '.join(sorted(manifest))}; {hint}")
    return manifest


def check_same(out: Path, settings: Mapping[str, Any]) -> None:
    """Raise a DataError where `out` holds a set of other settings, whose files would stay beside the new ones."""
    manifest = out / "manifest.json"
    if manifest.exists() and (was := read_json(manifest).get("settings")) != dict(settings):
        raise DataError(f"{out} holds a set that was made otherwise ({was}); name another folder, or remove it")


def _digest(path: Path) -> str:
    """sha256 of a file, or of the index of a feature store, which holds those of its shards."""
    return sha256(path / "index.json" if path.is_dir() else path)


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Of Python and of these installed packages."""
    return {"python": platform.python_version()} | {name: _version(name) for name in distributions}


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
