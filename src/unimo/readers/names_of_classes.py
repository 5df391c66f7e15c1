"""What classes are called, where their own names are numbers or WordNet's ids.

CLASS<TAB>name, synonym     a line each; a line without a tab is CLASS name, synonym: its first blank separates, as in
                            ImageNet's LOC_synset_mapping.txt ("n01440764 tench, Tinca tinca")
"""

from pathlib import Path

from unimo.errors import DataError
from unimo.readers.annotations import report, says_nothing
from unimo.storage.encodings import text_of


def read_class_names(path: Path) -> dict[str, str]:
    """Class -> its first name, in the order of the file.

    Raises:
        DataError: no text, no line, and with line numbers: a class without a name, or one that is there twice.
    """
    try:
        lines = text_of(path.read_bytes()).split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} holds no names of classes: {error}; expected text, CLASS<TAB>name a line") from error
    found: dict[str, str] = {}
    places: dict[str, int] = {}
    problems = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        own, names = [*(part.strip() for part in line.split("\t" if "\t" in line else None, maxsplit=1)), ""][:2]
        name = names.split(",")[0].strip()
        if says_nothing(name):
            problems.append(f"line {number}: class {own!r} has no name, got {line[:60]!r}, expected CLASS<TAB>name")
        elif own in places:
            problems.append(f"line {number}: class {own!r} was already on line {places[own]}")
        found[own] = name
        places.setdefault(own, number)
    report(path, problems)
    if not found:
        raise DataError(f"{path} holds no names of classes; expected CLASS<TAB>name a line")
    return found
