"""Checkpoint folders: written so that a kill at any instant leaves the last good one, and read strictly.

    checkpoints/step_00000123/model.safetensors      task.model's state, float32, by parameter name
                              task.safetensors       what else the task keeps, such as a teacher, if anything
                              optimizer.safetensors  moments and beta powers, by parameter name and kind
                              trainer_state.json     step, data position, configuration, fingerprint, ...
                              (extra files of the task: config, tokenizer)
                              COMPLETE               size and checksum of every file above; written last
    checkpoints/latest        the name of the newest folder

Why this is safe: everything is written and synced in a folder with a temporary name, which no reader considers. The
marker is written after the files, and the rename after the marker, so that a folder with its final name is whole; sizes
and checksums in the marker catch what a power cut, a careless copy or a disk did afterwards.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor, nn
from safetensors import SafetensorError, safe_open

from unimo.console import say
from unimo.errors import CheckpointError, DataError, NonFiniteError
from unimo.storage.atomic import atomic_write, sync, sync_folder, temporary_folder
from unimo.storage.bfloat16 import widen_bfloat16
from unimo.storage.cache import sha256
from unimo.storage.checksums import checksum
from unimo.storage.json_files import read_json
from unimo.storage.safetensors_writer import DTYPES, write_safetensors

MARKER, LATEST, BEST = "COMPLETE", "latest", "best"
MODEL, KEPT = "model.safetensors", "task.safetensors"
OPTIMIZER, TRAINER = "optimizer.safetensors", "trainer_state.json"


_STATE = {"step": int, "identity": dict, "interval": dict}  # types of what a trainer state holds
_FLOATS = ("float32", "float16", "bfloat16", "float64")
_KINDS = {code: kind for kind, code in DTYPES.items()} | {"BF16": "bfloat16"}  # that others may have written


def folder_of(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run_dir / "checkpoints" / f"step_{step:08d}"


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds, in memory of its own: training may go on while it is written."""

    model: dict[str, np.ndarray]
    kept: dict[str, np.ndarray]
    moments: dict[str, np.ndarray]
    trainer_state: str  # JSON


def copied(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors on the host."""
    return {name: tensor.numpy() for name, tensor in state.items()}


def save(folder: Path, snapshot: Snapshot, write_extras: Callable[[Path], None] | None) -> None:
    """Write one checkpoint folder and point `latest` to it.

    Raises:
        NonFiniteError: weights or moments are inf or nan; nothing of the folder is kept.
        CheckpointError: the operating system refused (disk full, read-only); earlier checkpoints are untouched and
            the unfinished folder is removed.
    """
    with whole_folder(folder) as temporary:
        _write_arrays(temporary / MODEL, snapshot.model)
        if snapshot.kept:
            _write_arrays(temporary / KEPT, snapshot.kept)
        _write_arrays(temporary / OPTIMIZER, snapshot.moments)
        (temporary / TRAINER).write_text(snapshot.trainer_state, encoding="utf-8")
        if write_extras is not None:
            write_extras(temporary)
    point(folder.parent, LATEST, folder.name)


def write_model(folder: Path, model: nn.Layer) -> None:
    """Write model.safetensors into an existing folder, a tensor at a time."""
    state = model.state_dict()
    shapes = {name: (dtype_of(t), list(t.shape)) for name, t in state.items()}
    write_safetensors(folder / MODEL, shapes, (_finite(name, t.numpy()) for name, t in state.items()))


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = {name: (array.dtype.name, list(array.shape)) for name, array in arrays.items()}
    write_safetensors(path, shapes, (_finite(name, array) for name, array in arrays.items()))


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    """The array, once all of it is a number.

    Raises:
        NonFiniteError: it holds inf or nan, so that nothing of the folder is kept.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise NonFiniteError(
            f"{name} is not finite ({bad:,} of {array.size:,} values are inf or nan), so it is not saved; earlier "
            "checkpoints are untouched. Lower the learning rate, or look at the data of the last updates"
        )
    return array


def dtype_of(tensor: Tensor) -> str:
    """The name of a tensor's type; a file holds those of DTYPES."""
    return str(tensor.dtype).removeprefix("paddle.")


def joined(layers: Mapping[str, nn.Layer]) -> dict[str, Tensor]:
    """The state of several layers under LAYER.NAME."""
    return {f"{key}.{name}": tensor for key, layer in layers.items() for name, tensor in layer.state_dict().items()}


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Hand out a temporary folder that, filled without an error, is synced, marked complete and takes the name.

    Raises:
        CheckpointError: the operating system refused; the temporary folder is removed.
    """
    try:
        with temporary_folder(folder) as temporary:
            yield temporary
            _mark_complete(temporary)
            shutil.rmtree(folder, ignore_errors=True)  # torn, or of a run that was set back behind this step
            os.rename(temporary, folder)
            sync_folder(folder.parent)
    except (OSError, DataError) as error:
        raise CheckpointError(
            f"cannot save {folder}: {getattr(error, 'strerror', None) or error}; earlier checkpoints are untouched. "
            "Make room or name another folder, and run the same command again; a training run resumes"
        ) from error


def _mark_complete(folder: Path) -> None:
    """Sync all files, then write the marker with their sizes and checksums."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        sync(path)
        files[str(path.relative_to(folder))] = {"bytes": path.stat().st_size, "xxh3_128": checksum(path)}
    (folder / MARKER).write_text(json.dumps(files, indent=1), encoding="utf-8")
    sync(folder / MARKER)
    sync_folder(folder)


def point(checkpoints: Path, pointer: str, name: str) -> None:
    """Let the pointer file `latest` or `best` name a checkpoint folder."""
    with atomic_write(checkpoints / pointer) as file:
        file.write(f"{name}\n".encode())


def prune(checkpoints: Path, keep_last: int) -> None:
    """Remove all but the newest `keep_last` checkpoints and those that a pointer names."""
    named = {_pointed(checkpoints, LATEST), _pointed(checkpoints, BEST)}
    whole = [folder for folder in sorted(checkpoints.glob("step_*")) if torn(folder, contents=False) is None]
    for folder in whole[:-keep_last]:
        if folder.name not in named:
            (folder / MARKER).unlink(missing_ok=True)  # first: a kill while removing must not leave a whole-looking one
            shutil.rmtree(folder)


def find_latest(run_dir: Path) -> Path | None:
    """The checkpoint that `latest` names, else the newest whole one; None if there is none.

    A torn folder is reported on stderr and skipped.
    """
    checkpoints = Path(run_dir) / "checkpoints"
    named = _pointed(checkpoints, LATEST)
    folders = sorted(checkpoints.glob("step_*"), key=lambda f: (f.name == named, f.name), reverse=True)
    for folder in folders:
        problem = torn(folder)
        if problem is None:
            if folder.name == named != max(other.name for other in folders):
                say(f"warning: taking {folder}, which {LATEST} names; there are newer ones")
            return folder
        say(f"warning: skipping torn checkpoint {folder}: {problem}")
    return None


def refuse_all_torn(run_dir: Path, found: Path | None) -> None:
    """Raise a CheckpointError where a run has checkpoints and none is whole: starting over would lose them."""
    folders = sorted((run_dir / "checkpoints").glob("step_*"))
    if found is None and folders:
        problems = "; ".join(f"{folder.name}: {torn(folder)}" for folder in folders[-3:])
        raise CheckpointError(
            f"no checkpoint of {run_dir} is whole ({problems}); restore one from a copy, or move the folder "
            "checkpoints away to start over"
        )


def find_best(run_dir: Path) -> Path | None:
    """The checkpoint that evaluations of the run found best, if they named one.

    Raises:
        CheckpointError: it is torn or gone; another one would give other numbers.
    """
    checkpoints = Path(run_dir) / "checkpoints"
    named = _pointed(checkpoints, BEST)
    if named is None:
        return None
    problem = torn(checkpoints / named) if Path(named).name == named else "expected the name of a checkpoint"
    if problem:
        raise CheckpointError(
            f"{checkpoints / BEST} names {named[:100]!r} as the best checkpoint: {problem}. Name another checkpoint "
            f"folder, or delete {BEST} to take the newest"
        )
    return checkpoints / named


def torn(folder: Path, contents: bool = True) -> str | None:
    """What is wrong with a checkpoint folder, or None if all its files are there as they were written.

    Args:
        contents: compare checksums, too, which reads each file once; not only sizes. Markers of earlier versions hold
            sizes alone.
    """
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return f"no readable {MARKER} marker"
    if not isinstance(files, dict):
        return f"its {MARKER} marker holds a {type(files).__name__}, expected sizes of files"
    for name, written in files.items():
        size, sum_ = (written.get("bytes"), written.get("xxh3_128")) if isinstance(written, dict) else (written, None)
        try:
            path = folder / name
            found = path.stat().st_size if path.is_file() else "missing"
            if found != size:
                return f"{name[:100]} is {found}, expected {size} bytes"
            if contents and sum_ and checksum(path) != sum_:
                return f"{name} has other bytes than were written (its checksum differs)"
        except (OSError, ValueError) as error:
            return f"{name[:100]!r} cannot be read: {error}"
    return None


def read_trainer_state(folder: Path) -> dict[str, Any]:
    """The trainer state of a whole checkpoint."""
    problem = torn(folder)
    if problem:
        raise CheckpointError(f"checkpoint {folder} is torn: {problem}; use another one")
    state = _State(read_json(folder / TRAINER, CheckpointError, "use another checkpoint"))
    for key, kind in _STATE.items():
        if key in state and type(state[key]) is not kind:
            got = f"{key} is {str(state[key])[:100]!r}, expected {kind.__name__}"
            raise CheckpointError(f"{folder / TRAINER}: {got}; use another checkpoint")
    return state


class _State(dict):
    """A trainer state, of which a key that is missing is one clear error."""

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(f"{TRAINER} of the checkpoint has no {key!r}; use another checkpoint")


def read_tensors(path: Path, shapes: dict[str, list[int]], kinds: Mapping[str, str] = {}) -> Iterator[np.ndarray]:
    """The arrays of a safetensors file in the order of `shapes`, one at a time; the check comes before the first.

    Floating values of other widths (float16, bfloat16, float64) become float32.

    Args:
        kinds: data types of those that are no float32.

    Raises:
        CheckpointError: unreadable file, or any missing, unexpected or wrongly shaped tensor, or one of another data
            type; all are listed.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            there = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}
            stored = {name: _KINDS.get(kind := file.get_slice(name).get_dtype(), kind) for name in there}
            problems = [f"missing: {name} {shape}" for name, shape in shapes.items() if name not in there]
            problems += [f"unexpected: {name} {shape}" for name, shape in there.items() if name not in shapes]
            problems += [
                f"shape of {name}: {there[name]}, the model has {shape}"
                for name, shape in shapes.items()
                if there.get(name, shape) != shape
            ]
            problems += [
                f"data type of {name}: {stored[name]}, expected {kind}"
                for name in shapes.keys() & there.keys()
                if stored[name] != (kind := kinds.get(name, "float32")) and {stored[name], kind} - set(_FLOATS)
            ]
            if problems:
                raise CheckpointError(f"{path} does not fit the model\n  - " + "\n  - ".join(problems))
            for name in shapes:
                if stored[name] == "bfloat16":
                    yield _bfloat16(path, name, shapes[name])
                else:
                    array = file.get_tensor(name)
                    yield array.astype(np.float32) if array.dtype.kind == "f" else array
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _bfloat16(path: Path, name: str, shape: list[int]) -> np.ndarray:
    """A tensor of a file that the library has checked, as float32; the library has no bfloat16 without torch."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        first, last = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + first)
        return widen_bfloat16(np.frombuffer(file.read(last - first), "<u2")).reshape(shape)


def digest(folder: Path) -> str:
    """The sha256 of a folder's weights, to tell models apart."""
    return sha256(folder / MODEL)


def load_model(folder: Path, model: nn.Layer) -> None:
    """Set all of the model's parameters and buffers from a checkpoint, or raise a CheckpointError and set none."""
    _read_state(folder / MODEL, model.state_dict())


def load_kept(folder: Path, kept: Mapping[str, nn.Layer]) -> None:
    """Set what a task keeps besides its model; a CheckpointError where the checkpoint is of a task that keeps other."""
    if kept:
        _read_state(folder / KEPT, joined(kept))
    elif (folder / KEPT).exists():
        raise CheckpointError(f"{folder} holds {KEPT}, but this task keeps nothing besides its model")


def _read_state(path: Path, state: Mapping[str, Tensor]) -> None:
    kinds = {name: dtype_of(t) for name, t in state.items()}
    arrays = read_tensors(path, {name: list(t.shape) for name, t in state.items()}, kinds)
    for tensor, array in zip(state.values(), arrays, strict=True):
        tensor.set_value(array)


def _pointed(checkpoints: Path, pointer: str) -> str | None:
    path = checkpoints / pointer
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None
