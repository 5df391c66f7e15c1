"""Names of Visual Genome's classes, which come in a file of their own: objects_vocab.txt of bottom-up attention."""

from pathlib import Path

from unimo.errors import DataError

GENOME_CLASSES = 1600


def read_class_names(file: Path | None, classes: int = GENOME_CLASSES) -> list[str]:
    """Background and the names of the file, one a line; without a file, background and numbers of `classes` ones.

    Raises:
        DataError: it cannot be read.
    """
    if file is None:
        return ["background", *(f"class {i}" for i in range(1, classes + 1))]
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file}: {error}") from error
    return ["background", *names]
