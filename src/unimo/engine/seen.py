"""What a model has seen: a sentence for each training behind it, kept in its folder and in those that start there."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from unimo.engine import checkpoint
from unimo.engine.model_folder import SEEN, locate
from unimo.errors import CheckpointError
from unimo.storage.json_files import read_json


class Seen(TypedDict):
    """What seen.json of a model folder holds."""

    before: list[str]  # what the model had seen when it started
    training: str | None  # what it is trained on; the updates are those of the checkpoint. None: nothing


def seen_by(folder: Path) -> list[str]:
    """What the model of a folder has seen, first things first; empty where nobody wrote it down (ported models).

    Raises:
        CheckpointError: the record is damaged.
    """
    if not (folder / SEEN).is_file():
        return []
    found = read_json(folder / SEEN, CheckpointError)
    before, training = found.get("before"), found.get("training")
    if not isinstance(before, list) or not all(isinstance(part, str) for part in [*before, training or ""]):
        raise CheckpointError(f"{folder / SEEN} holds {str(found)[:100]}, expected sentences; delete the file")
    if training is None:
        return [*before, "not trained"]
    state = read_json(folder / checkpoint.TRAINER, CheckpointError) if (folder / checkpoint.TRAINER).is_file() else {}
    return [*before, f"{training}, {state['step']} updates" if "step" in state else training]


def seen_at_start(sources: Iterable[str | Path]) -> list[str]:
    """What a model has seen that starts from folders, runs, files or names of the zoo, or from nothing."""
    return [part for source in sources for part in _seen_by_source(source)] or ["started at random"]


def _seen_by_source(source: str | Path) -> list[str]:
    known: list[str] = []
    if Path(source).is_dir():
        try:
            known = seen_by(locate(source))
        except CheckpointError:  # of another library, or damaged: who reads the weights says so
            pass
    return [part for part in known if part != "not trained"] or [f"started from {source}"]
