"""Text encoders of other libraries <-> the text side of UNIMO and UNIMO-2, which is the same function.

- Positions. A text's first token has row 2 of our position table. A table that starts elsewhere is shifted: rows of
  zeros come in front, or rows that no token has are dropped. Writing shifts it back.
- Token types. Our released models have none. A table of several rows is carried where our config has one
  (`type_vocab_size`); else its row 0, which the libraries add to every token of a single text, goes into the position
  table, so that the word table, also the LM head's, stays as it is.
- Poolers (a tanh there, a ReLU here) and heads other than the masked LM are not carried.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from unimo.errors import CheckpointError
from unimo.models.systems import skeleton
from unimo.port.files.tensor_files import open_tensors
from unimo.port.interchange import Checkpoint, Options, given_config
from unimo.port.library_folder import read_config, read_vocabulary, write_folder
from unimo.port.names.text_names import POSITIONS, TYPES, Library, our_name
from unimo.port.text_configs import (
    check_system,
    differences,
    epsilon_note,
    misfits,
    other_kind,
    our_config,
    text_sizes,
    their_config,
)
from unimo.port.weights import Lazy, Stored, Table, gather, linear_weights, problems, refuse, scatter, shapes_of
from unimo.readers.captions import FIRST_POSITION


def read(library: Library, path: Path, options: Options) -> Checkpoint:
    """A folder of the library, or the file of weights in one; a model of fewer layers takes the first ones.

    Raises:
        CheckpointError: damaged files, another library's, no config.json where no sizes are given, or all that our
            text side cannot be or that does not fit.
    """
    system, folder = options.system or "unimo", path if path.is_dir() else path.parent
    check_system(library, system, path)
    described = read_config(folder, library.defaults)
    refuse(path, other_kind(library, described or {}))
    stored, tokenizer = _open(library, path), read_vocabulary(folder)
    if described is None and options.config is None:
        raise CheckpointError(f"{folder} has no config.json beside the weights; it gives the number of attention heads")
    theirs = library.defaults if described is None else described
    refuse(path, misfits(library, theirs))
    first = library.first_position(theirs)
    if options.config:
        config = given_config(options.config, system, path)
    else:
        config = our_config(system, theirs, first, str(folder))
    if described is None:
        wrong = []
        notes = [f"no config.json beside the weights: head count and activation of {library.name} were not compared"]
    else:
        wrong = differences(system, config, theirs) + _config_problems(library, theirs, stored)
        notes = epsilon_note(library, config, theirs)
    words = text_sizes(system, config)["vocab_size"]
    if tokenizer and tokenizer.vocab_size > words:
        wrong.append(f"the vocabulary has {tokenizer.vocab_size} tokens, the word table {words} rows")
    heads = ("lm",) if library.holds_head(stored) else ()
    tensors, table = _take(path, library, stored, system, skeleton(system, config, heads), first, wrong)
    rows = tensors[our_name(system, POSITIONS)].shape[0] - (FIRST_POSITION - first)
    notes += _cuts(library, stored, config, system, rows)
    if our_name(system, TYPES) not in tensors and stored[library.types].shape[0] > 1:
        notes.append(f"{library.types}: row 0 went into the position table, other types are not carried")
    if tokenizer is None:
        notes.append(f"{folder} holds no vocabulary; `port convert` takes one by --tokenizer")
    return Checkpoint(system, config, heads, tensors, tokenizer, _unused(library, stored, table), tuple(notes))


def write(library: Library, folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Write the text side as a folder that the library loads. Returns what was not carried, and other notes.

    Raises:
        CheckpointError: the checkpoint has no text side that the library can be, or `folder` is not empty.
    """
    system, config, ours = checkpoint.system, checkpoint.config, checkpoint.tensors
    check_system(library, system, folder)
    lm, positions, types = "lm" in checkpoint.heads, our_name(system, POSITIONS), our_name(system, TYPES)
    table = library.name_table(system, text_sizes(system, config)["num_hidden_layers"], lm)
    theirs = their_config(library, system, config, lm, checkpoint.tokenizer)
    missing = [f"{name}: not in the checkpoint" for name in (*table, positions) if name not in ours]
    refuse(f"{library.name}: the checkpoint", missing + misfits(library, theirs))
    made = scatter(table, ours, linear_weights(skeleton(system, config, checkpoint.heads)) if library.torch else ())
    (rows, width), shift = (
        ours[positions].shape,
        FIRST_POSITION - library.first_position({**library.defaults, **theirs}),
    )
    made[library.positions] = Lazy((rows - shift, width), lambda: _shifted(ours[positions].read(), -shift))
    no_types = np.zeros((theirs["type_vocab_size"], width), np.float32)
    made[library.types] = ours.get(types) or Lazy(no_types.shape, lambda: no_types)
    if lm:
        heads = {name for group in library.head.values() for name in group}
        made = {name if name in heads else library.prefix + name: tensor for name, tensor in made.items()}
    left = sorted({name.split(".")[0] for name in ours if name not in {*table, positions, types}})
    notes = [f"not carried, {library.name} has no place for them: {', '.join(left)}"] if left else []
    if shift > 0 and ours[positions].read()[:shift].any():
        notes.append(f"not carried: the first {shift} rows of {positions}, which no token has")

    def vocabulary(place: Path) -> None:
        if checkpoint.tokenizer is None:
            notes.append("the checkpoint has no vocabulary, so none was written")
        else:
            notes.extend(library.write_vocabulary(place, checkpoint.tokenizer))

    write_folder(folder, theirs, made, "pt" if library.torch else "np", vocabulary)
    return notes


def _open(library: Library, path: Path) -> dict[str, Stored]:
    """The tensors at `path`, by the library's names of today without its prefix."""
    stored = {library.modern(name).removeprefix(library.prefix): t for name, t in open_tensors(path).items()}
    if not library.count_layers(stored):
        raise CheckpointError(
            f"{path}: no tensor named {library.layer_prefix}*, so it is no {library.name}; it has {sorted(stored)[:3]}"
        )
    return stored


def _config_problems(library: Library, theirs: Mapping[str, Any], stored: Mapping[str, Stored]) -> list[str]:
    """Where the sizes of a config.json are not those of the weights beside it."""
    got = {"num_hidden_layers": library.count_layers(stored)}
    for key, name in (("max_position_embeddings", library.positions), ("type_vocab_size", library.types)):
        if name in stored:
            got[key] = stored[name].shape[0]
    return [f"config.json says {key} {theirs[key]}, the weights have {n}" for key, n in got.items() if theirs[key] != n]


def _take(
    source: Path,
    library: Library,
    stored: Mapping[str, Stored],
    system: str,
    model: nn.Layer,
    first: int,
    wrong: list[str],
) -> tuple[dict[str, Stored], Table]:
    """Our parameters made of the library's tensors, and which it took for each.

    Args:
        model: of the shapes wanted; it needs no values.
        first: row of a text's first token in the library's position table.
        wrong: problems found so far.

    Raises:
        CheckpointError: too few layers; or listing `wrong`, and all that is missing, misshapen, or not tied as ours is.
    """
    shapes, transposed = shapes_of(model), linear_weights(model) if library.torch else set()
    lm, count = "lm" in model.heads, library.count_layers(stored)
    wanted = text_sizes(system, model.config)["num_hidden_layers"]
    if wanted > count:
        raise CheckpointError(f"{source}: a {library.name} of {count} layers cannot start a model of {wanted}")
    table = library.name_table(system, wanted, lm)
    positions, types = our_name(system, POSITIONS), our_name(system, TYPES)
    (rows, width), shift = shapes[positions], FIRST_POSITION - first
    whole, added = [(library.positions, rows - shift)], [] if types in shapes else [(library.types, 1)]
    if types in shapes:
        table[types] = (library.types,)
    wrong = [*wrong, *problems(table, stored, shapes, transposed), *(_untied(library, stored) if lm else [])]
    for name, least in whole + added:
        shape = stored[name].shape if name in stored else None
        if shape is None or len(shape) != 2 or shape[0] < least or shape[1] != width:
            wrong.append(f"{name}: {'missing' if shape is None else shape}, expected at least {least} rows of {width}")
    refuse(source, wrong)
    tensors = gather(table, stored, shapes, transposed)
    row = stored[library.types] if added else None
    tensors[positions] = Lazy((rows, width), lambda: _positions(stored[library.positions], row, shift)[:rows])
    table[positions] = tuple(name for name, _ in whole + added)
    return tensors, table


def _cuts(library: Library, stored: Mapping[str, Stored], config: Any, system: str, rows: int) -> list[str]:
    """What a config of fewer layers or positions leaves behind; `rows` of their position table have a place."""
    layers, taken = library.count_layers(stored), text_sizes(system, config)["num_hidden_layers"]
    positions = stored[library.positions].shape[0]
    notes = [f"only the first {taken} of {layers} layers were taken"] if taken < layers else []
    if rows < positions:
        notes.append(f"only the first {rows} of {positions} positions were taken")
    return notes


def _untied(library: Library, stored: Mapping[str, Stored]) -> list[str]:
    return [
        f"{copy}: differs from {original}; our LM head is tied to the word table and has one bias"
        for copy, original in library.copies.items()
        if {copy, original} <= stored.keys() and not np.array_equal(stored[copy].read(), stored[original].read())
    ]


def _positions(theirs: Stored, types: Stored | None, shift: int) -> np.ndarray:
    table = theirs.read().astype(np.float32, copy=False)
    row = None if types is None else types.read()[0].astype(np.float32)
    return _shifted(table if row is None or not row.any() else table + row, shift)


def _shifted(table: np.ndarray, by: int) -> np.ndarray:
    """A position table with `by` rows of zeros in front of it, or without its first `-by` rows."""
    if by <= 0:
        return table[-by:]
    return np.concatenate([np.zeros((by, table.shape[1]), table.dtype), table])


def _unused(library: Library, stored: Mapping[str, Stored], table: Table) -> tuple[str, ...]:
    """Tensors that went into no parameter of ours and repeat none that did."""
    used = {name for group in table.values() for name in group}
    copies = {copy for copy, original in library.copies.items() if original in used}
    return tuple(name for name in stored if name not in used | copies)
