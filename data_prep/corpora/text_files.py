"""Texts of files that are too large for the memory: lines, passages between blank lines, or a key of JSON lines.

A part of the work is a range of bytes of all files together. A line belongs to where it begins, a passage to where the
blank line before it begins, a .gz file whole to where it begins.
"""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from data_prep.stage import Shard
from unimo.errors import DataError
from unimo.readers.annotations import says_nothing
from unimo.storage.encodings import LONGEST_MARK, encoding_of

MAX_TEXT = 16 << 20  # bytes of one text, ours: a file without line ends must not fill the memory
NOTHING = "no letter, digit or symbol"
_BLOCK = 1 << 20
_LOOK = 1 << 18  # bytes that tell what a file is
_FOREIGN = {
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\0": "packed by xz",
    b"PK\x03\x04": "packed by zip",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
}
_ALL = 1 << 62


class Position(NamedTuple):
    """Where a run goes on: in which file, at which byte of its unpacked content, and the number of the line there."""

    file: int
    byte: int
    line: int


class Record(NamedTuple):
    """A text, or the reason why there is none; reading goes on at `after`."""

    place: str  # FILE:LINE
    text: str
    reason: str
    after: Position


def source_files(sources: Sequence[Path]) -> list[Path]:
    """Files of all sources in reading order; folders with all that is below them, but for hidden files.

    Raises:
        DataError: a source is missing, or a folder empty.
    """
    files = []
    for source in sources:
        found = [source]
        if source.is_dir():
            inside = sorted(path for path in source.rglob("*") if path.is_file())
            found = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(source).parts)]
        if not found or not found[0].is_file():
            raise DataError(f"{source}: {'no such file or folder' if found else 'the folder holds no file'}")
        files += found
    return files


def read(files: Sequence[Path], by: str, key: str, shard: Shard, start: Position | None = None) -> Iterator[Record]:
    """Every text of a part of the files, in order, from `start` on; bad ones with a reason.

    Args:
        by: "line" or "passage", what a text of a plain file is.
        key: of the text in each object of .jsonl files.
    """
    sizes = [path.stat().st_size for path in files]
    first, end = (sum(sizes) * k // shard.count for k in (shard.number - 1, shard.number))
    packed_files = [layout_of(path).undivided for path in files]
    before = 0  # bytes of the files before this one
    with tqdm(desc="read", total=end - first, unit="B", unit_scale=True) as bar:
        for number, (path, size) in enumerate(zip(files, sizes)):
            begin, stop, packed = max(first - before, 0), end - before, packed_files[number]
            mine = begin < size and stop > 0 and not (packed and begin) and (start is None or start.file <= number)
            at = start if start and start.file == number else None
            for line, text, reason, (byte, next_line) in texts_of(path, by, key, begin, stop, at) if mine else ():
                yield Record(f"{path}:{line}", text, reason, Position(number, byte, next_line))
                if not packed:
                    bar.update(before + byte - first - bar.n)
            before += size
            bar.update(max(0, min(before, end) - first - bar.n))


_Text = tuple[int, str, str, tuple[int, int]]  # line, text, reason, (byte and line after it)


def texts_of(
    path: Path, by: str = "line", key: str = "text", begin: int = 0, stop: int = _ALL, start: Position | None = None
) -> Iterator[_Text]:
    """Texts of a file that belong to its bytes [begin, stop); from `start` on, where a run before stopped."""
    layout = layout_of(path)
    with open(path, "rb") as raw, gzip.GzipFile(fileobj=raw) if layout.packed else raw as file:
        other = layout.encoding not in ("utf-8", "utf-8-sig")
        lines = _Lines(io.BufferedReader(_Utf8(file, layout.encoding)) if other else file, other)
        try:
            if start:
                lines.seek(start.byte, start.line)
            elif begin:
                lines.seek(begin - 1, 1 + _line_ends(path, begin - 1))
                lines.next()  # the rest of a line that began before
            stop = _ALL if layout.undivided else stop
            if layout.objects:
                yield from _one_a_line(lines, stop, lambda line: _of_json(line, key))
            elif by == "line":
                yield from _one_a_line(lines, stop, _plain)
            else:
                yield from _passages(lines, stop, begins=not begin and not start)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:  # gzip's own; of a disk that fails nothing is listed
            yield lines.number, "", f"gzip data damaged or cut short: {error}", (lines.byte, lines.number)


class Layout(NamedTuple):
    """What a file is, as its contents tell."""

    packed: bool  # by gzip
    encoding: str
    objects: bool  # each line is a JSON object

    @property
    def undivided(self) -> bool:
        """Whether it can be read from its start only."""
        return self.packed or self.encoding not in ("utf-8", "utf-8-sig")


def layout_of(path: Path) -> Layout:
    """Look at the start of a file.

    Raises:
        DataError: it is packed in another way than by gzip, no text, or one array of JSON objects.
    """
    with open(path, "rb") as file:
        start = file.read(_LOOK)
    packed = path.suffix == ".gz" or start.startswith(b"\x1f\x8b")
    if packed:
        try:
            with gzip.open(path) as unpacked:
                start = unpacked.read(_LOOK)
        except (OSError, EOFError, zlib.error):  # reading lists it
            start = b""
    encoding = encoding_of(start[:LONGEST_MARK])
    kind = next((name for mark, name in _FOREIGN.items() if start.startswith(mark)), "")
    plain = encoding in ("utf-8", "utf-8-sig")
    if kind or (
        plain and b"\0" in start and start[: _LOOK - 4].decode("utf-8", "ignore").encode() != start[: _LOOK - 4]
    ):
        raise DataError(
            f"{path} is {kind or 'no text but binary'}; expected plain text or .gz: unpack it, or leave it out"
        )
    text = start.decode(encoding, "ignore")
    if re.match(r'\s*\[\s*\{\s*"', text):
        raise DataError(
            f"{path} is an array of JSON objects; expected one object a line: jq -c '.[]' {path} > FILE.jsonl"
        )
    lines = [line for line in text.split("\n") if line.strip()]
    seen = lines[:-1] if len(start) == _LOOK else lines
    name = path.name.lower().removesuffix(".gz")
    return Layout(packed, encoding, name.endswith((".jsonl", ".ndjson")) or bool(seen) and all(map(_is_object, seen)))


def _is_object(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


class _Utf8(io.RawIOBase):
    """A text of another encoding as UTF-8; what cannot be decoded is no UTF-8 either. It is read from its start."""

    def __init__(self, file: gzip.GzipFile | io.BufferedReader, encoding: str):
        self._file, self._decoder, self._left = file, codecs.getincrementaldecoder(encoding)("surrogatepass"), b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and not self._ended:
            block = self._file.read(_BLOCK)
            self._ended = not block
            try:
                self._left = self._decoder.decode(block).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                self._left, self._ended = b"\xff", True
            if self._ended and self._decoder.getstate()[0]:
                self._left += b"\xff"
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size


class _Lines:
    """Reads a file line by line and knows where it is."""

    def __init__(self, file: gzip.GzipFile | io.BufferedReader, forward: bool = False):
        self.forward = forward
        self.file, self.byte, self.number = file, 0, 1

    def seek(self, byte: int, number: int) -> None:
        if self.forward:
            left = byte
            while left and (block := self.file.read(min(left, _BLOCK))):
                left -= len(block)
        else:
            self.file.seek(byte)
        self.byte, self.number = byte, number

    def next(self) -> bytes | None:
        """The next line with its end; b"" at the end of the file, None for a line longer than MAX_TEXT."""
        part = self.file.readline(MAX_TEXT)
        line: bytes | None = part
        self.byte += len(part)
        while len(part) == MAX_TEXT and not part.endswith(b"\n"):
            line, part = None, self.file.readline(MAX_TEXT)
            self.byte += len(part)
        self.number += 1
        return line


def _line_ends(path: Path, end: int) -> int:
    count = 0
    with open(path, "rb") as file:
        while end > 0 and (block := file.read(min(_BLOCK, end))):
            count += block.count(b"\n")
            end -= len(block)
    return count


def _one_a_line(lines: _Lines, stop: int, parse: Callable[[bytes | None], tuple[str, str]]) -> Iterator[_Text]:
    while lines.byte < stop:
        number, line = lines.number, lines.next()
        if line == b"":
            return
        if line is None or line.strip():
            yield number, *parse(line), (lines.byte, lines.number)


def _passages(lines: _Lines, stop: int, begins: bool) -> Iterator[_Text]:
    """`begins`: whether a passage may begin without a blank line before it, as at the start of a file."""
    number, size = 0, 0
    parts: list[bytes | None] = []  # or one None for all that is too long
    while True:
        at = lines.byte, lines.number
        line = lines.next()
        if line is None or line.strip():
            if begins:
                number, size = number or at[1], size + (MAX_TEXT + 1 if line is None else len(line))
                if size > MAX_TEXT:
                    parts = [None]
                else:
                    parts.append(line)
            continue
        if parts:
            short = [part.strip() for part in parts if part is not None]
            yield number, *_plain(b" ".join(short) if short else None), at
        if not line or at[0] >= stop:
            return
        begins, number, parts, size = True, 0, [], 0


def _decoded(line: bytes | None) -> tuple[str, str]:
    """Text and reason."""
    if line is None:
        return "", f"longer than {MAX_TEXT >> 20} MB"
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return "", "not UTF-8"
    return text, "" if text else "empty"


def _plain(line: bytes | None) -> tuple[str, str]:
    text, reason = _decoded(line)
    return (text, reason) if reason else _judged(text)


def _judged(text: str) -> tuple[str, str]:
    if "\0" in text:
        return "", "holds a NUL"
    return ("", NOTHING if text else "empty") if says_nothing(text) else (text, "")


def _of_json(line: bytes | None, key: str) -> tuple[str, str]:
    content, reason = _decoded(line)
    if reason:
        return "", reason
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return "", "not JSON"
    if not isinstance(record, dict) or key not in record:
        return "", f"no key {key!r}"
    if not isinstance(record[key], str):
        return "", f"key {key!r} holds no text"
    return _judged(whole(record[key]).strip())


def whole(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which JSON's escapes can hold and no file can."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
