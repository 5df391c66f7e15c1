"""The recordings of the original programs: where they lie, and which of them wait for a piece that comes later.

A recording is an `io*.npz`, a folder with an `expected.npz`, or a `sequences.json`. They lie in the folders of
tests/fixtures/parity, each described by its README.md; UNIMO_PARITY names another place that is laid out alike.
"""

import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unimo.port.files.variables import open_variable, write_folder
from unimo.port.release import shapes_in

ROOT = Path(os.environ.get("UNIMO_PARITY") or Path(__file__).parents[1] / "fixtures" / "parity")
TOLERANCE = 1e-5

# Folder, recording, the step of this project's plan that brings what replays it (None: it is here); the first that
# fits. A recording of no other line is decoding, captions or summaries.
PLAN = (
    ("unimo", "*", None),
    ("unimo2_forward", "*", None),
    ("unimo2_position_resize", "*", None),
    ("unimo_pair_tasks", "io_retrieval*", None),
    ("unimo2_pretrain", "*", 9),
    ("unimo2_retrieval", "*", 9),
    ("unimo2_baseline", "io_retrieval*", 9),
    ("unimo2_train_steps", "io_retrieval*", 9),
    ("readers_unimo2", "flickr30k", 9),
    ("readers_unimo2", "image_reader", 9),
    ("readers_unimo2", "pretrain_masking", 9),
    ("unimo_pair_tasks", "io_entailment*", 10),
    ("unimo_text_tasks", "io_classification*", 10),
    ("unimo_text_tasks", "io_regression*", 10),
    ("unimo2_mnli", "*", 10),
    ("unimo2_baseline", "io_mnli*", 10),
    ("unimo2_train_steps", "io_mnli*", 10),
    ("readers_unimo", "glue_*", 10),
    ("readers_unimo", "regression_*", 10),
    ("readers_unimo", "snli_ve", 10),
    ("readers_unimo", "flickr30k", 10),
    ("readers_unimo2", "mnli", 10),
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
    skip = pytest.mark.skip
    found = [(path, step_of(folder, path.stem)) for path in found_in(folder)]
    cases = [
        pytest.param(path, id=path.stem, marks=[skip(reason=f"step {step}")] if step else []) for path, step in found
    ]
    return _over(folder, cases)


def each_replayed(folder: str) -> Callable[[Any], Any]:
    """The same over those alone that wait for nothing."""
    found = [path for path in found_in(folder) if step_of(folder, path.stem) is None]
    return _over(folder, [pytest.param(path, id=path.stem) for path in found])


def _over(folder: str, cases: list[Any]) -> Callable[[Any], Any]:
    nothing = [] if found_in(folder) else [pytest.param(ROOT / folder, id="none")]
    return pytest.mark.parametrize("recording", cases or nothing, indirect=True)


def arrays(recording: Path) -> dict[str, np.ndarray]:
    """All arrays of an `io*.npz`."""
    with np.load(recording, allow_pickle=False) as file:
        return dict(file)


def exchanges(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    """Two variables of one shape: each with the next of that shape in the order of their names.

    The bias of attention keys is left out: it adds the same to all scores of a query, so no output shows it.
    """
    alike: dict[tuple[int, ...], list[str]] = {}
    for name in sorted(name for name in shapes if not name.endswith("_key_fc.b_0")):
        alike.setdefault(shapes[name], []).append(name)
    for names in alike.values():
        yield from zip(names, names[1:])


def unseen_exchanges(checkpoint: Path, difference: Callable[[], float]) -> list[tuple[str, str]]:
    """Exchanges in a release's folder that no output shows, of variables that outputs depend on.

    Args:
        difference: the largest one to the recording, of what is in the folder now.
    """
    unseen = []
    for one, other in exchanges(shapes_in(checkpoint)):
        files = checkpoint / one, checkpoint / other
        _exchange(*files)
        if difference() <= TOLERANCE:
            unseen.append((one, other))
        _exchange(*files)
    return [names for names in unseen if any(_matters(checkpoint / name, difference) for name in names)]


def _exchange(one: Path, other: Path) -> None:
    kept = one.with_name(".kept")
    one.rename(kept)
    other.rename(one)
    kept.rename(other)


def _matters(file: Path, difference: Callable[[], float]) -> bool:
    """Whether other values of a variable show."""
    kept, values = file.read_bytes(), np.array(open_variable(file).read())
    noise = np.random.default_rng(0).normal(0, 0.1, values.shape).astype(values.dtype)
    write_folder(file.parent, {file.name: values + noise})
    shows = difference() > TOLERANCE
    file.write_bytes(kept)
    return shows
