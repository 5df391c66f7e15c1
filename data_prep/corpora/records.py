"""What the lists of all formats are read into: pictures, and records that are none."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from unimo.readers.annotations import Split
from unimo.storage.encodings import open_text


class Bad(NamedTuple):
    """A record of a list that is none."""

    place: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """One picture of a list."""

    image_id: str
    split: Split
    captions: tuple[str, ...] = ()
    address: str | None = None
    file: str = ""  # its name where the pictures are at hand, with the folders that the list names
    also: tuple[str, ...] = ()  # ids under which other lists have the same picture
    md5: str | None = None  # of the file at the address, in base64
    credit: dict[str, Any] = field(default_factory=dict)  # licence, author and what else is said of the picture
    other_files: tuple[str, ...] = ()  # names that it may have at hand where `file` is not there
    lost: tuple[Bad, ...] = ()  # captions that are of no use


def each(records: Iterable[Any], make: Callable[[Any], Row | Bad], where: str) -> Iterator[Row | Bad]:
    """What `make` makes of each record; those that it cannot take are bad."""
    for number, record in enumerate(records, start=1):
        try:
            yield make(record)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            yield Bad(f"{where}#{number}", "record is laid out in another way", repr(error)[:200])


def open_list(path: Path, newline: str | None = None) -> TextIO:
    """Open a list as text in the encoding that its first bytes tell, with U+FFFD for bytes of no such text."""
    return open_text(path, newline, errors="replace")


def text_or_none(value: Any) -> str | None:
    """What a list may leave out: a text, or None for all else."""
    return value if isinstance(value, str) and value else None
