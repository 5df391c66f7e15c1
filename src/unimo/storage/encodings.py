"""Text that other programs wrote: UTF-8, with or without a byte order mark, or UTF-16 or UTF-32 with one."""

import codecs
from pathlib import Path
from typing import TextIO

MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_MARK = 4  # bytes that `encoding_of` needs to see


def encoding_of(start: bytes) -> str:
    """The name of the encoding of a text that begins with these bytes; decoding by it drops the mark."""
    return next((encoding for mark, encoding in MARKS if start.startswith(mark)), "utf-8")


def encoding_in(path: Path) -> str:
    """`encoding_of` a file. Raises OSError where it cannot be opened."""
    with open(path, "rb") as file:
        return encoding_of(file.read(LONGEST_MARK))


def open_text(path: Path, newline: str | None = None, errors: str = "strict") -> TextIO:
    """Open a file for reading text, in the encoding that its first bytes tell; `newline` and `errors` as of `open`.

    Raises:
        OSError: it cannot be opened. Reading raises a UnicodeDecodeError, a ValueError, for bytes of no such text
            where `errors` is strict.
    """
    return open(path, encoding=encoding_in(path), errors=errors, newline=newline)


def text_of(content: bytes) -> str:
    """A whole text. Raises a UnicodeDecodeError, a ValueError, for bytes of no such text."""
    return content.decode(encoding_of(content[:LONGEST_MARK]))
