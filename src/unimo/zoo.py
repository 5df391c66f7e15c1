"""Models by name: fetched, unpacked, ported and cached on first use; read from any folder that holds one.

    model = unimo.zoo.from_pretrained("unimo-base-en", heads=["pool", "match"])
    lines = unimo.zoo.start(another_model, "unimo-base-en")

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
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from paddle import nn

from unimo.archives import unpack
from unimo.catalogue import HASHES, PORT_RECORD, Entry, entry_of, home_of, read_json, recorded_hash
from unimo.config import find, load
from unimo.download import download
from unimo.engine import model_folder
from unimo.engine.checkpoint import torn
from unimo.errors import CheckpointError, ConfigError, DataError, UnimoError
from unimo.models.systems import SYSTEMS, skeleton, system_of
from unimo.port.checkpoint import Checkpoint, Options, build
from unimo.port.convert import fitting
from unimo.port.formats import FORMATS, detect
from unimo.port.ours import parts_without, read_folder, write_folder
from unimo.port.release import MARKS, NAMES, read_release
from unimo.port.weights import fill, finite, shapes_of
from unimo.readers.tokenizer import Tokenizer, load_tokenizer
from unimo.storage.atomic import atomic_write
from unimo.storage.cache import locked, sha256


def from_pretrained(name_or_path: str | Path, heads: Iterable[str] | None = None) -> nn.Layer:
    """A model in eval mode with its weights; `model.tokenizer` is its Tokenizer, or None where it has none.

    Args:
        name_or_path: a name of the zoo, fetched if need be; a model folder or run folder of this toolkit; or a
            checkpoint of any format that tells itself (port.formats), which is ported on the fly.
        heads: those to build; default: those of the checkpoint. One that the checkpoint lacks starts at random, and a
            warning names it.

    Raises:
        ConfigError: no such name, or heads that the system does not have.
        CheckpointError, DataError: it could not be fetched, or is torn, damaged or hostile.
    """
    path = Path(name_or_path)
    form = _format_of(path) if path.exists() else "unimo"
    if form != "unimo":
        warnings.warn(
            f"{path} is a checkpoint of format {form}, ported on the fly; once and for all: "
            f"{_convert_command(path, form)}",
            stacklevel=2,
        )
    checkpoint, random = read_any(name_or_path)
    model, lacking = build(checkpoint, heads)
    random = sorted({*random, *_parts(lacking)} & {*_parts(shapes_of(model))})
    if random:
        warnings.warn(f"{name_or_path} does not hold {', '.join(random)}, which start at random", stacklevel=2)
    model.tokenizer = checkpoint.tokenizer
    return model


def read_any(name_or_path: str | Path, options: Options | None = None) -> tuple[Checkpoint, list[str]]:
    """What lies at a name of the zoo (fetched if need be) or a path, of any format that tells itself.

    Returns:
        The checkpoint, and the parts of it that were at random when it was ported.

    Raises:
        ConfigError: neither a path nor a name, or options that do not go with what is there.
        CheckpointError, DataError: nothing usable there, or it could not be fetched.
    """
    path, options = Path(name_or_path), options or Options()
    form = _format_of(path) if path.exists() else "unimo"
    if form != "unimo":
        return FORMATS[form].read(path, options), []
    folder = locate(name_or_path)
    return read_folder(folder, options), read_json(folder / PORT_RECORD).get("random", [])


def start(model: nn.Layer, name_or_path: str | Path) -> list[str]:
    """Set all parameters of a model that a checkpoint holds; the others keep their values.

    What does not fit is found before any is set, a value that is not finite only when its turn comes.
    An encoder of another library, which starts a part of the model, is read by the model's sizes: of more layers or
    positions than the model has it gives the first ones. So is a release, whose variables must have these sizes.

    Args:
        name_or_path: as of `from_pretrained`.

    Returns:
        What a person should know, one fact a line.

    Raises:
        ConfigError: neither a path nor a name, or a checkpoint of another system.
        CheckpointError: damaged, a value that is not finite, or all that does not fit the model.
        DataError: it could not be fetched.
    """
    system, shapes, source = system_of(model), shapes_of(model), str(name_or_path)
    checkpoint, random = read_any(name_or_path, Options(system=system, config=model.config))
    carried, notes = fitting(checkpoint, system, model.config, shapes, source)
    try:
        fill(model, finite(carried))
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    lines = [f"loaded {len(carried)} of {len(shapes)} parameters from {source}"]
    random = sorted({*parts_without(carried, shapes), *({*random} & {*_parts(shapes)})})
    if random:
        lines.append(f"not in the checkpoint, starting at random: {', '.join(random)}")
    unused = (*checkpoint.unused, *(name for name in checkpoint.tensors if name not in carried))
    return lines + replace(checkpoint, unused=unused, notes=(*checkpoint.notes, *notes)).facts()


def save_pretrained(model: nn.Layer, path: str | Path, tokenizer: Tokenizer | None = None) -> None:
    """Write a model folder that `from_pretrained` and every command takes; an earlier one there is replaced.

    Args:
        tokenizer: default: the one that `from_pretrained` gave to the model.

    Raises:
        CheckpointError: `path` exists and is no model folder, or cannot be written.
    """
    model_folder.write_model(Path(path), model, tokenizer or getattr(model, "tokenizer", None))


def locate(name_or_path: str | Path) -> Path:
    """The model folder that a name of the zoo (fetched if need be) or a path means. A path that exists comes first.

    Raises:
        ConfigError: neither a path nor a name.
        CheckpointError, DataError: nothing usable there, or it could not be fetched.
    """
    path = Path(name_or_path)
    if not path.exists():
        try:
            entry = entry_of(str(name_or_path))
        except ConfigError as error:
            raise ConfigError(f"{path} does not exist, and {error}") from error
        return fetch(entry)
    form = _format_of(path)
    if form != "unimo":
        raise CheckpointError(f"{path} is a checkpoint of format {form}; convert it: {_convert_command(path, form)}")
    return model_folder.locate(path)


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
        hashes = read_json(home.parent / HASHES)
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
    return lines, _parts(name for name in shapes if name not in checkpoint.tensors)


def _compare(entry: Entry, checkpoint: Checkpoint) -> list[str]:
    """What was found, beside what the entry expects: shapes are checked already, whole parts may be absent."""
    table = NAMES[entry.system].name_table(checkpoint.config)
    variables = sum(len(table[name]) for name in checkpoint.tensors)
    numbers = sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values())
    lines = [f"{entry.name}: {variables:,} variables make {numbers:,} parameters"]
    if entry.variables and entry.parameters:
        lines[0] += f"; expected {entry.variables:,} and {entry.parameters:,}"
    expected = shapes_of(skeleton(entry.system, config_of(entry), entry.heads))
    absent = _parts(name for name in expected if name not in checkpoint.tensors)
    further = _parts(name for name in checkpoint.tensors if name not in expected)
    lines += [f"expected and not there: {', '.join(absent)}"] * bool(absent)
    return lines + [f"there besides: {', '.join(further)}"] * bool(further)


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


def _format_of(path: Path) -> str:
    """The format of what is there; a folder that tells none is left to `model_folder.locate`, which says what it lacks.

    Raises:
        CheckpointError: a file that is damaged or tells none.
    """
    try:
        return detect(path)
    except CheckpointError:
        if path.is_file():
            raise
        return "unimo"


def _convert_command(path: Path, form: str) -> str:
    vocabulary = " --tokenizer model_files/dict" if form.startswith("release") else ""
    return f"unimo port convert {path} FOLDER{vocabulary}"


def _parts(names: Iterable[str]) -> list[str]:
    """The parts of a model that parameters belong to."""
    return sorted({name.split(".")[0] for name in names})
