"""Names of Visual Genome's classes, which come in a file of their own: objects_vocab.txt of bottom-up attention."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimo.errors import DataError
from unimo.storage.encodings import text_of

GENOME_CLASSES = 1600
SYNONYMS = "synonyms"  # key of a store's extractor: class name -> its other names


def read_class_names(file: Path | None, classes: int = GENOME_CLASSES) -> list[str]:
    """Background and the classes of the file, one a line; without a file, background and numbers of `classes` ones.

    A class goes by the first name of its line. A line of the background at the top is not counted as a class.

    Raises:
        DataError: the file cannot be read, or a line holds no name.
    """
    if file is None:
        return ["background", *(f"class {i}" for i in range(1, classes + 1))]
    return ["background", *(names[0] for names in _lines(file))]


def read_synonyms(file: Path | None) -> dict[str, Any]:
    """What the extractor of a store says of the file: {} where no line has a second name.

    Raises:
        DataError: the file cannot be read, or a line holds no name.
    """
    lines = _lines(file) if file else []
    found = {names[0]: names[1:] for names in lines if len(names) > 1}
    return {SYNONYMS: found} if found else {}


def all_names(class_name: str, extractor: Mapping[str, Any]) -> list[str]:
    """The names of a class of a store, that which it goes by first."""
    names = _split(class_name)  # stores made before names were split hold the whole line
    return [*names, *(extractor.get(SYNONYMS) or {}).get(class_name, ())]


def _lines(file: Path) -> Sequence[list[str]]:
    """The names of each class."""
    try:
        lines = text_of(file.read_bytes()).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    classes = [_split(line) for line in lines if line.strip()]
    if [] in classes:
        raise DataError(f"{file}: class {classes.index([]) + 1} has no name; expected a name, or several with commas")
    if classes and classes[0][0].strip("_").lower() == "background":
        return classes[1:]
    return classes


def _split(line: str) -> list[str]:
    return [name.strip() for name in line.split(",") if name.strip()]
