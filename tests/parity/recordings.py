"""The recordings of the original programs: where they lie, and which of them wait for a piece that comes later.

A recording is an `io*.npz`, a folder with an `expected.npz`, or a `sequences.json`. They lie in the folders of
tests/fixtures/parity, each described by its README.md; UNIMO_PARITY names another place that is laid out alike.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo.port.files.variables import open_variable, write_folder
from unimo.port.release import shapes_in

ROOT = Path(os.environ.get("UNIMO_PARITY") or Path(__file__).parents[1] / "fixtures" / "parity")
TOLERANCE = 1e-5

# Folder, recording, the step of this project's plan that brings what replays it (None: it is here); the first that
# fits. A recording of no other line is decoding, captions or summaries. `unimo`, the oldest recording, has always run.
PLAN = (
    ("unimo", "*", None),
    ("unimo2_forward", "*", None),
    ("unimo2_position_resize", "*", None),
    ("unimo_pair_tasks", "*", None),
    ("unimo2_pretrain", "*", None),
    ("unimo2_retrieval", "*", None),
    ("unimo2_baseline", "io_retrieval*", None),
    ("unimo2_baseline", "io_mnli*", None),
    ("unimo2_mnli", "*", None),
    ("unimo_text_tasks", "io_classification*", None),
    ("unimo_text_tasks", "io_regression*", None),
    ("unimo2_train_steps", "io_retrieval*", None),
    ("unimo2_train_steps", "io_mnli*", None),
    ("readers_unimo2", "flickr30k", None),
    ("readers_unimo2", "image_reader", None),
    ("readers_unimo2", "pretrain_masking", None),
    ("readers_unimo", "glue_*", None),
    ("readers_unimo", "regression_*", None),
    ("readers_unimo", "snli_ve", None),
    ("readers_unimo", "flickr30k", None),
    ("readers_unimo2", "mnli", None),
    ("*", "*", 11),
)


def step_of(folder: str, name: str) -> int | None:
    """The step that a recording waits for."""
    return next(step for f, n, step in PLAN if fnmatch(folder, f) and fnmatch(name, n))


def found_in(folder: str) -> list[Path]:
    """The recordings of a folder."""
    place = ROOT / folder
    readers = [path.parent for path in place.glob("*/expected.npz")]
    return sorted([*place.glob("io*.npz"), *place.glob("sequences.json"), *readers])


def each_recording(folder: str) -> Callable[[Any], Any]:
    """Run a test once for each recording of a folder, its argument `recording`; it fails where there is none.

    Those that wait for a step are skipped with its number.
    """
    return _over(folder, found_in(folder))


def each_replayed(folder: str) -> Callable[[Any], Any]:
    """The same over those alone that wait for nothing, if there are any."""
    found = found_in(folder)
    return _over(folder, [path for path in found if step_of(folder, path.stem) is None] or found)


def _over(folder: str, recordings: list[Path]) -> Callable[[Any], Any]:
    cases = [pytest.param(path, id=path.stem, marks=_waits(step_of(folder, path.stem))) for path in recordings]

    def decorate(test: Callable[..., None]) -> Any:
        @wraps(test)
        def run(recording: Path | None, **others: Any) -> None:
            if recording is None:
                pytest.fail(f"{ROOT / folder} holds no recording; UNIMO_PARITY names a folder laid out as the fixtures")
            test(recording=recording, **others)

        return pytest.mark.parametrize("recording", cases or [pytest.param(None, id="none")])(run)

    return decorate


def _waits(step: int | None) -> list[Any]:
    return [] if step is None else [pytest.mark.skip(reason=f"step {step}")]


def arrays(recording: Path) -> dict[str, np.ndarray]:
    """All arrays of an `io*.npz`."""
    with np.load(recording, allow_pickle=False) as file:
        return dict(file)


ADDED = ("image_emb.b_0", "image_loc.b_0")


def exchanges(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    """Two variables of one shape: each with the next of that shape in the order of their names.

    Left out is what makes no other function: the bias of attention keys, which adds the same to all scores of a query,
    and two biases that are added to the same sum.
    """
    alike: dict[tuple[int, ...], list[str]] = {}
    for name in sorted(name for name in shapes if not name.endswith("_key_fc.b_0")):
        alike.setdefault(shapes[name], []).append(name)
    for names in alike.values():
        yield from (pair for pair in zip(names, names[1:]) if pair != ADDED)


def unseen_exchanges(release: Path, copy: Path, difference: Callable[[Path], float]) -> list[tuple[str, str]]:
    """Exchanges in a release's folder that no output shows, of variables that outputs depend on.

    Args:
        copy: folder to make, in which they are exchanged.
        difference: the largest one to the recording, of what is in a folder.
    """
    copy.mkdir()
    for file in release.iterdir():
        shutil.copyfile(file, copy / file.name)  # without its mode: recordings may be for reading only
    unseen = []
    for one, other in exchanges(shapes_in(copy)):
        files = copy / one, copy / other
        _exchange(*files)
        if difference(copy) <= TOLERANCE:
            unseen.append((one, other))
        _exchange(*files)
    return [names for names in unseen if any(_matters(copy / name, difference) for name in names)]


def _exchange(one: Path, other: Path) -> None:
    kept = one.with_name(".kept")
    one.rename(kept)
    other.rename(one)
    kept.rename(other)


def _matters(file: Path, difference: Callable[[Path], float]) -> bool:
    """Whether other values of a variable show."""
    kept, values = file.read_bytes(), np.array(open_variable(file).read())
    noise = np.random.default_rng(0).normal(0, 0.1, values.shape).astype(values.dtype)
    write_folder(file.parent, {file.name: values + noise})
    shows = difference(file.parent) > TOLERANCE
    file.write_bytes(kept)
    return shows
