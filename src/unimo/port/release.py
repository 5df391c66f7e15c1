"""Checkpoints of the original releases: a folder of one file per variable, or one combined file of them all.

Both releases (Paddle 1.8 and 2.1) write the same bytes. A training checkpoint holds the optimiser's variables besides.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from unimo.config import Config, validate
from unimo.errors import CheckpointError, ConfigError
from unimo.models.systems import SYSTEMS, skeleton
from unimo.models.unimo import UnimoConfig
from unimo.models.unimo2 import Unimo2Config
from unimo.port.files.variables import list_variables, open_combined, open_variable, write_combined, write_folder
from unimo.port.interchange import Checkpoint, Options, given_config
from unimo.port.moments import is_optimizer_variable, read_moments, write_moments
from unimo.port.names import unimo2_names, unimo_names
from unimo.port.names.release_names import holds
from unimo.port.weights import Stored, gather, problems, refuse, scatter, shapes_of, undamaged, values_of
from unimo.storage.atomic import new_folder
from unimo.storage.encodings import text_of

NAMES = {"unimo": unimo_names, "unimo-2": unimo2_names}  # name table, parts, heads and sizes of each release
CONFIGS: dict[str, type[UnimoConfig] | type[Unimo2Config]] = {"unimo": UnimoConfig, "unimo-2": Unimo2Config}
REQUIRED = {"unimo": ("text", "encoder"), "unimo-2": unimo2_names.CORE}  # a text task's save has no image embedding
HEAD_WIDTH = 64  # of every released size
EPSILON = 1e-5  # of every post-LN layer norm
MARKS = ("word_embedding", "vq_emb")  # the file that every folder of UNIMO and of UNIMO-2 has
RELEASED_LABELS = (1, 2, 3)  # STS-B; SST-2 and CoLA; MNLI


def read_release(path: Path, options: Options, parts: Collection[str] | None = None) -> Checkpoint:
    """A folder of one file per variable.

    Args:
        parts: of the model (keys of PARTS), to be read and no others, for heads of the label count that is given;
            default: those of which anything is there.

    Raises:
        CheckpointError: listing all variables of the parts that are missing, damaged or of another shape.
        ConfigError: sizes that are of another system, or that no release has.
    """
    stored, others = _open(path)
    notes = (f"not variable files, left alone: {', '.join(others)}",) if others else ()
    return _read(path, stored, options, notes, parts)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every variable in a folder; () of a damaged one."""
    return _shapes(_open(path)[0])


def _open(path: Path) -> tuple[dict[str, Stored | CheckpointError], list[str]]:
    """The variables in a folder, a damaged one as the error that says so, and the names of other files."""
    files, others = list_variables(path)
    stored: dict[str, Stored | CheckpointError] = {}
    for name, file in files.items():
        try:
            stored[name] = open_variable(file)
        except CheckpointError as error:  # reported with all other problems, if the variable is needed
            stored[name] = error
    return stored, others


def _shapes(stored: Mapping[str, Stored | CheckpointError]) -> dict[str, tuple[int, ...]]:
    return {name: () if isinstance(tensor, CheckpointError) else tensor.shape for name, tensor in stored.items()}


def loaded(checkpoint: Checkpoint) -> list[str]:
    """What was read of a release, one fact a line."""
    table = NAMES[checkpoint.system].name_table(checkpoint.config)
    variables = sum(len(table[name]) for name in checkpoint.tensors)
    return [f"loaded {variables} tensors into {len(checkpoint.tensors)} parameters", *checkpoint.facts()]


def read_combined(path: Path, options: Options) -> Checkpoint:
    """One file of all variables (`save_persistables(filename=...)`): in sorted order and without names.

    Raises:
        ConfigError: neither names nor sizes were given, or they do not tell which variable is which.
    """
    records = open_combined(path)
    if options.names:
        try:
            lines = text_of(options.names.read_bytes()).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{options.names}: expected variable names, one a line, got: {error}") from error
        names = sorted(line.strip() for line in lines if line.strip())
        if len(names) != len(records):
            raise ConfigError(f"{options.names} has {len(names)} names, {path} {len(records)} variables")
        return _read(path, dict(zip(names, records)), options)
    if not options.config:
        raise ConfigError(
            f"{path} holds {len(records)} variables without their names; give the release's json by --config, or a "
            "list of the names, one a line, by --names"
        )
    return _read(path, dict(zip(_guess_names(path, records, options.config), records)), options)


def write_release(path: Path, checkpoint: Checkpoint) -> list[str]:
    """Write a new folder of one file per variable: in an old one, variables of two models would mix.

    Raises:
        CheckpointError: `path` exists and is not empty.
        ConfigError: a model that the release cannot be.
    """
    variables, notes = _release_variables(checkpoint)
    with new_folder(path) as temporary:
        write_folder(temporary, variables)
    return notes


def write_release_combined(path: Path, checkpoint: Checkpoint) -> list[str]:
    """Write one combined file, in sorted order of the names."""
    variables, notes = _release_variables(checkpoint)
    write_combined(path, variables)
    return notes


def _read(
    path: Path,
    stored: Mapping[str, Stored | CheckpointError],
    options: Options,
    notes: tuple[str, ...] = (),
    parts: Collection[str] | None = None,
) -> Checkpoint:
    system = "unimo-2" if any(name.startswith(("text.", "vit.", "grounded.")) for name in stored) else "unimo"
    names, model_names = NAMES[system], {n for n in stored if not is_optimizer_variable(n)}
    if options.system not in (None, system):
        raise ConfigError(f"{path} is of {system}, not of {options.system}")
    if options.config:
        config = given_config(options.config, system, path)
        notes += _compare(path, system, config)
    else:
        config = _config_of_shapes(path, stored, system)
        notes += (f"no --config: sizes are those of the variables, with attention heads of width {HEAD_WIDTH}",)
    there = _shapes(stored)
    heads, labels = names.heads_of(there)
    if parts is not None:
        heads = tuple(head for head, of in names.HEAD_PARTS.items() if {*of} & {*parts})
    else:
        if labels:
            taken = config.num_labels if config.num_labels in labels else labels[0]
            config = config.model_copy(update={"num_labels": taken})
        if labels[1:]:
            notes += (f"of the classification heads for {labels} labels only that for {taken} is taken",)
        tables = {part: names.name_table(config, [part]) for part in names.parts_of(heads)}
        parts = [part for part, table in tables.items() if part in REQUIRED[system] or holds(there, table)]
    table = names.name_table(config, parts)
    shapes = shapes_of(skeleton(system, config, heads))
    refuse(path, problems(table, stored, shapes))
    used = {name for group in names.name_table(config).values() for name in group}
    unused = tuple(f"{n} ({names.NOT_OURS[n]})" if n in names.NOT_OURS else n for n in sorted(model_names - used))
    state, step = read_moments(path, table, stored, shapes) if options.optimizer else (None, 0)
    if not options.optimizer and len(stored) > len(model_names):
        left = len(stored) - len(model_names)
        notes += (f"{left} variables of the optimiser are left; `port convert --optimizer` takes them",)
    return Checkpoint(system, config, heads, gather(table, undamaged(stored), shapes), None, unused, notes, state, step)


def _config_of_shapes(path: Path, stored: Mapping[str, Stored | CheckpointError], system: str) -> Any:
    shapes = {name: tensor.shape for name, tensor in undamaged(stored).items()}
    try:
        values = NAMES[system].sizes_in(shapes)
    except (KeyError, ValueError, IndexError) as error:  # a core variable is missing or not of two dimensions
        raise CheckpointError(f"{path}: no sizes can be read off its variables ({error}); is it a release?") from error
    config = SYSTEMS[system].config
    heads = {key: values["hidden_size"] // HEAD_WIDTH for key in config.model_fields if key.endswith("attention_heads")}
    if values["hidden_size"] % HEAD_WIDTH:
        raise ConfigError(
            f"{path}: hidden size {values['hidden_size']} is no multiple of {HEAD_WIDTH}, the width of the released "
            "models' attention heads; give the json with num_attention_heads by --config"
        )
    return validate(config, values | heads, source=str(path))


def _release_variables(checkpoint: Checkpoint) -> tuple[dict[str, Stored], list[str]]:
    """The checkpoint's tensors under the release's names, and what has no name there."""
    if checkpoint.system not in NAMES:
        raise ConfigError(f"no release of {checkpoint.system} exists; expected {' or '.join(NAMES)}")
    names, config = NAMES[checkpoint.system], checkpoint.config
    notes = _compare(f"a release's {checkpoint.system}", checkpoint.system, config)
    table = names.name_table(config, names.parts_of(checkpoint.heads))
    table = {ours: theirs for ours, theirs in table.items() if ours in checkpoint.tensors}
    variables = scatter(table, checkpoint.tensors)
    if checkpoint.optimizer is not None:
        variables |= write_moments(table, checkpoint.optimizer, checkpoint.step)
    left = sorted({name.split(".")[0] for name in checkpoint.tensors if name not in table})
    lost = [f"not carried, the release has no variables for: {', '.join(left)}"] if left else []
    return variables, [*lost, *notes]


def _compare(source: object, system: str, config: Any) -> tuple[str, ...]:
    """What of our sizes no variable shows and every release has otherwise.

    Raises:
        ConfigError: sizes that make another function of its variables.
    """
    CONFIGS[system].from_release(config.model_dump(), source=f"the config for {source}")
    widths = {config.hidden_size // getattr(config, k) for k in config.model_fields if k.endswith("attention_heads")}
    others = ", ".join(map(str, sorted(widths - {HEAD_WIDTH})))
    notes = [f"attention heads are {others} wide in this model, {HEAD_WIDTH} in every released one"] if others else []
    if config.layer_norm_eps != EPSILON:
        notes.append(f"layer_norm_eps is {config.layer_norm_eps} in this model, always {EPSILON} in the release's code")
    return tuple(notes)


def _guess_names(path: Path, records: Sequence[Stored], given: Path | Config) -> list[str]:
    """The sorted names of a combined file: those of a set of heads whose shapes, in order, are the file's."""
    shapes, found = [record.shape for record in records], []
    for system, names in NAMES.items():
        try:
            config = given_config(given, system, path)
        except ConfigError:  # the json of the other release
            continue
        for count in range(len(names.HEAD_PARTS) + 1):
            for heads in itertools.combinations(names.HEAD_PARTS, count):
                for labels in {*RELEASED_LABELS, config.num_labels} if "classify" in heads else {config.num_labels}:
                    sized = config.model_copy(update={"num_labels": labels})
                    table = names.name_table(sized, names.parts_of(heads))
                    if sum(map(len, table.values())) != len(shapes):
                        continue
                    expected = scatter(table, values_of(skeleton(system, sized, heads)))
                    if [expected[name].shape for name in sorted(expected)] == shapes:
                        found.append(sorted(expected))
    if len(found) != 1:
        raise ConfigError(
            f"{path}: {len(found)} sets of variable names fit its {len(records)} shapes and the sizes given; give the "
            "names, one a line, by --names"
        )
    return found[0]
