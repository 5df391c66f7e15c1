"""The releases of the catalogue: fetched, unpacked, ported, verified and kept, one process at a time.

The cache, $UNIMO_CACHE/zoo or ~/.cache/unimo/zoo:

    hashes.json                 sha256 of every archive that was ever ported, by address; later ones must agree
    unimo-base-en.lock          one process fetches, others wait
    unimo-base-en/unimo_base_en.tar.gz (.part)
                  model/        our model folder, and port.json: where it came from, what started at random
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from unimo.config import find, load
from unimo.engine.checkpoint import torn
from unimo.errors import CheckpointError, DataError, UnimoError
from unimo.models.systems import SYSTEMS, skeleton
from unimo.port.interchange import Checkpoint, Options
from unimo.port.ours import write_folder
from unimo.port.release import MARKS, NAMES, read_release
from unimo.port.weights import finite, shapes_of
from unimo.readers.tokenizer import load_tokenizer
from unimo.storage.atomic import atomic_write
from unimo.storage.cache import sha256
from unimo.storage.locks import locked
from unimo.zoo.catalogue import HASHES, PORT_RECORD, Entry, home_of, read_record, recorded_hash
from unimo.zoo.download import download
from unimo.zoo.unpack import unpack


def fetch(
    entry: Entry,
    source: Path | None = None,
    cache: Path | None = None,
    offline: bool = False,
    log: Callable[[str], None] = print,
    **network: Any,
) -> Path:
    """The entry's ported model folder: from the cache, else fetched, unpacked, ported and verified.

    Args:
        source: archive or unpacked folder that the user has; it replaces what the cache has.
        offline: do not use the network.
        network: `timeout`, `attempts` and `wait` of `download`.

    Raises:
        DataError: it cannot be had (the message says how to bring it), its hash is not the recorded one, or the
            archive is damaged or hostile.
        CheckpointError: what is inside is not this model.
    """
    home = home_of(entry, cache)
    folder = home / "model"
    if source is None and torn(folder) is None:
        return folder
    with locked(home.parent / f"{entry.name}.lock", log):
        if source is not None:
            _port(entry, source.resolve(), home, log)
        elif torn(folder) is not None:  # another process may have done it meanwhile
            archive = home / entry.archive
            if not archive.exists():
                _download(entry, archive, offline, log, network)
            try:
                _port(entry, archive, home, log)
            except UnimoError as error:
                raise type(error)(f"{error}\n{archive} came from {entry.url}; delete it to fetch it again") from error
    return folder


def _download(entry: Entry, archive: Path, offline: bool, log: Callable[[str], None], network: dict[str, Any]) -> None:
    try:
        if offline:
            raise DataError(f"{entry.name} is not in the cache, and --offline forbids to fetch it")
        log(f"fetching {entry.url} into {archive.parent}")
        download(entry.url, archive, _most_bytes(entry), log=log, **network)
    except DataError as error:
        raise DataError(
            f"{error}\nTo bring {entry.name} here by hand, download\n  {entry.url}\non another machine, then run\n"
            f"  unimo zoo fetch {entry.name} --from {entry.archive}\n"
            f"or put the file at {archive} and run the same command again"
        ) from error


def _port(entry: Entry, source: Path, home: Path, log: Callable[[str], None]) -> None:
    """Write `home`/model from an archive or an unpacked folder."""
    if not source.exists():
        raise DataError(f"{source} does not exist; expected {entry.archive} or the folder that it unpacks to")
    unpacked, record = home / "unpacked", {"source": str(source)}
    home.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_file():
            record = _hash(entry, source, home)
            log(f"unpacking {source}")
            unpack(source, unpacked, _most_bytes(entry))
        lines, random = _convert(entry, _variables_in(entry, unpacked if source.is_file() else source), home)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    with atomic_write(home / "ported" / PORT_RECORD) as file:
        file.write(json.dumps(record | {"random": random, "lines": lines}, indent=1).encode())
    shutil.rmtree(home / "model", ignore_errors=True)
    os.rename(home / "ported", home / "model")
    if source.is_file():
        lines.append(_remember(entry, record, home, log))
    for line in [*lines, f"wrote {home / 'model'}"]:
        log(line)


def _hash(entry: Entry, archive: Path, home: Path) -> dict[str, Any]:
    """What identifies an archive; raises a DataError where it is not the one that came first from this address."""
    origin = entry.url if archive.parent == home else str(archive)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    found = {"source": origin, "sha256": sha256(archive), "bytes": archive.stat().st_size, "date": date}
    first = recorded_hash(entry, home.parent)
    if first and first["sha256"] != found["sha256"]:
        raise DataError(
            f"{archive} is not the file that was first seen for {entry.name}: its sha256 is {found['sha256']}, "
            f"expected {first['sha256']} (recorded {first['date']} from {first['source']} in {home.parent / HASHES}). "
            "One of the two is damaged, or the file was replaced where it is published; ask somebody else for theirs"
        )
    return found


def _remember(entry: Entry, record: dict[str, Any], home: Path, log: Callable[[str], None]) -> str:
    """Record the hash of an archive that was ported, unless there is one; returns what is to be said of it."""
    with locked(home.parent / "hashes.lock", log):
        hashes = read_record(home.parent / HASHES)
        if entry.url in hashes:
            return f"sha256 {record['sha256']}, as recorded on {hashes[entry.url]['date']}"
        with atomic_write(home.parent / HASHES) as file:
            file.write(json.dumps(hashes | {entry.url: record}, indent=1).encode())
    return (
        f"no hash of {entry.archive} is published; recorded sha256 {record['sha256']}, later fetches are checked "
        "against it"
    )


def _variables_in(entry: Entry, root: Path) -> Path:
    """The folder with one file a variable, at or below `root`; where the entry says, or the only one there is."""
    for folder in (root, root / entry.folder):
        if _is_release(folder):
            return folder
    found = sorted({path.parent for name in MARKS for path in root.rglob(name) if path.is_file()})
    if len(found) != 1:
        raise CheckpointError(
            f"{root} holds {len(found)} folders with a file {' or '.join(MARKS)}, expected one, "
            f"{entry.folder}{': ' if found else ''}{', '.join(str(f.relative_to(root)) for f in found)}"
        )
    return found[0]


def _convert(entry: Entry, variables: Path, home: Path) -> tuple[list[str], list[str]]:
    """Write `home`/ported. Returns what people should know, and the parts that start at random."""
    checkpoint = read_release(variables, Options(system=entry.system, config=config_of(entry)))
    if entry.tokenizer:
        checkpoint = replace(checkpoint, tokenizer=load_tokenizer(find(entry.tokenizer)))
    lines = [*_compare(entry, checkpoint), *checkpoint.facts()]
    lines += write_folder(home / "ported", replace(checkpoint, tensors=finite(checkpoint.tensors)))
    shapes = shapes_of(skeleton(checkpoint.system, checkpoint.config, checkpoint.heads))
    return lines, part_names(name for name in shapes if name not in checkpoint.tensors)


def _compare(entry: Entry, checkpoint: Checkpoint) -> list[str]:
    """What was found, beside what the entry expects: shapes are checked already, whole parts may be absent."""
    table = NAMES[entry.system].name_table(checkpoint.config)
    variables = sum(len(table[name]) for name in checkpoint.tensors)
    numbers = sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values())
    lines = [f"{entry.name}: {variables:,} variables make {numbers:,} parameters"]
    if entry.variables and entry.parameters:
        lines[0] += f"; expected {entry.variables:,} and {entry.parameters:,}"
    expected = shapes_of(skeleton(entry.system, config_of(entry), entry.heads))
    absent = part_names(name for name in expected if name not in checkpoint.tensors)
    further = part_names(name for name in checkpoint.tensors if name not in expected)
    if absent:
        lines.append(f"expected and not there: {', '.join(absent)}")
    if further:
        lines.append(f"there besides: {', '.join(further)}")
    return lines


def config_of(entry: Entry) -> Any:
    """The entry's sizes."""
    config = load(SYSTEMS[entry.system].config, find(entry.model))
    return config.model_copy(update={"num_labels": entry.labels}) if entry.labels else config


def _most_bytes(entry: Entry) -> int:
    """More than any honest archive of the entry has: weights, two moments, and 1 GiB of what nobody listed."""
    shapes = shapes_of(skeleton(entry.system, config_of(entry), entry.heads))
    return 3 * 4 * sum(map(math.prod, shapes.values())) + (1 << 30)


def _is_release(path: Path) -> bool:
    return any((path / name).is_file() for name in MARKS)


def part_names(names: Iterable[str]) -> list[str]:
    """The parts of a model that parameters belong to."""
    return sorted({name.split(".")[0] for name in names})
