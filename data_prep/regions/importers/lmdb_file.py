"""Keys and values of an LMDB file, by a reader of ours that trusts nothing in it.

LMDB's own library follows the numbers of a file as they are: one damaged page, and it reads beyond the file, which ends
the process by SIGBUS. Read is what it writes on 64-bit machines (little endian, version 1 of the format, mdb.c): the
main database, without duplicates.

    page     16 bytes of head (flags at 10, where its list of nodes ends at 12), a uint16 offset a node, nodes
    node     8 bytes (page or size of the value in the first six, flags at 4, length of the key at 6), key, value
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unimo.errors import DataError

_HEAD, _NODE, _NUMBER = struct.Struct("<10xHH2x"), struct.Struct("<IHH"), struct.Struct("<Q")
# head; magic, version, address, map size; two trees of 48 bytes, of which the size of a page is first in the one, and
# the root last in the other; numbers of the last page and of the transaction
_META = struct.Struct("<16xII16xI84xQQQ")
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # flags of a page
_BIG = 1  # flag of a node: its value has pages of its own
_EMPTY = (1 << 64) - 1  # root of a database without a key


class Place(NamedTuple):
    """Where a value lies."""

    first: int  # byte
    size: int


class LmdbFile:
    """A file that is mapped while this is open, as a context manager.

    Raises:
        DataError: no LMDB, one that is cut short, or one of whose pages says what cannot be.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise DataError(f"{path} is no regular file; expected that of an LMDB")
        self.path = path
        with open(path, "rb") as file:
            first = _meta(file.read(_META.size))
            self._page = first[1] if first else 0
            if not (256 <= self._page <= 65536 and self._page & (self._page - 1) == 0):
                raise DataError(f"{path} is not an LMDB that can be read (no meta page at its start)")
            file.seek(self._page)
            second = _meta(file.read(_META.size))
            if first is None or second is None:
                raise DataError(f"{path} is not an LMDB that can be read (its second meta page is missing or damaged)")
            _, _, self._last, self._root = max(first, second)
            size, needed = path.stat().st_size, (self._last + 1) * self._page
            if size < needed:
                raise DataError(f"{path} is cut short: {size:,} bytes, its meta page says {needed:,}; fetch it again")
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __enter__(self) -> "LmdbFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()

    def items(self) -> Iterator[tuple[bytes, Place]]:
        """Every key and where its value lies, in the order of the keys."""
        waiting, seen = [self._root] if self._root != _EMPTY else [], set[int]()
        while waiting:
            page = waiting.pop()
            if page in seen:
                raise self._damaged(page, "is a part of two others")
            seen.add(page)
            flags, nodes = self._nodes(page)
            if flags & _LEAF:
                yield from (self._leaf(page, node) for node in nodes)
            elif flags & _BRANCH:
                waiting += reversed([_number(self._content, node) for node in nodes])
            else:
                raise self._damaged(page, "is neither a branch nor a leaf")

    def value(self, place: Place) -> bytes:
        """The bytes of a value."""
        return self._content[place.first : place.first + place.size]

    def _nodes(self, page: int) -> tuple[int, list[int]]:
        """Flags of a page, and where each of its nodes begins."""
        start = self._start(page)
        flags, end = _HEAD.unpack_from(self._content, start)
        if not _HEAD.size <= end <= self._page:
            raise self._damaged(page, "has more nodes than room")
        offsets = struct.unpack_from(f"<{(end - _HEAD.size) // 2}H", self._content, start + _HEAD.size)
        if any(not end <= offset <= self._page - _NODE.size for offset in offsets):
            raise self._damaged(page, "has a node outside of itself")
        return flags, [start + offset for offset in offsets]

    def _leaf(self, page: int, node: int) -> tuple[bytes, Place]:
        size, flags, length = _NODE.unpack_from(self._content, node)
        key, end = node + _NODE.size, self._start(page) + self._page
        place = Place(key + length, size)
        if flags & ~_BIG:
            raise self._damaged(page, "has duplicates or a database in it, which is not read")
        if place.first + (_NUMBER.size if flags else size) > end:
            raise self._damaged(page, "has a node that is longer than itself")
        if flags:
            (first,) = _NUMBER.unpack_from(self._content, place.first)
            place = Place(self._start(first) + _HEAD.size, size)
            if not _HEAD.unpack_from(self._content, self._start(first))[0] & _OVERFLOW:
                raise self._damaged(page, "has a value in pages that are none of values")
            if place.first + size > (self._last + 1) * self._page:
                raise self._damaged(page, "has a value that ends behind the file")
        return self._content[key : key + length], place

    def _start(self, page: int) -> int:
        if page > self._last:
            raise self._damaged(page, f"is behind the last one, {self._last}")
        return page * self._page

    def _damaged(self, page: int, what: str) -> DataError:
        return DataError(f"{self.path} is damaged: its page {page} {what}; fetch it again")


def _number(content: mmap.mmap, node: int) -> int:
    """The page that a node of a branch names."""
    low, high, _ = _NODE.unpack_from(content, node)
    return low | high << 32


def _meta(content: bytes) -> tuple[int, int, int, int] | None:
    """Number of the transaction, size of a page, number of the last page, and the root, of a meta page."""
    if len(content) < _META.size:
        return None
    magic, version, page, root, last, transaction = _META.unpack(content)
    return (transaction, page, last, root) if (magic, version) == (0xBEEFC0DE, 1) else None
