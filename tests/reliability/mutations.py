"""Damage to the bytes of one valid file, by kind; what a file of weights needs beyond it stands in tests/port/fuzz.py.

Every mutation takes the content, contents of other valid files of the door to splice with, and a random generator that
the number of the case seeds, so that a case is the same wherever it is run again.
"""

import base64
import gzip
import json
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.port import fuzz

NUMBERS = [b"999999999999", b"-1", b"0", b"1e999", b"-0.0", b"NaN", b"nan", b"Infinity", b"-inf", b"9" * 5000, b"1_0"]
NUMBERS += [b"9223372036854775808", b"0x10", b"3.5", b"1e5", b"true", b"\xd9\xa3"]  # the last is an Arabic 3
NESTS = [b"[", b'{"a":', b"(", b"- ", b"{a: ", b"&a [", b'"\\u']
TEXTS = ["\ud800", "\u202e", "\u200b", "\ufeff", "é", "字", "\x1b]0;x\x07", "\x85", "\u2028", "..", "/", "\\"]
VALUES: list[Any] = [None, True, -1, 0, 1.5, 10**30, float("nan"), "", "x" * 3000, [], {}, [[]], {"a": {}}, "../../x"]
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7")
FLOATS = [float("nan"), float("inf"), -float("inf"), 1e38, -1.0, 1e-45, 70000.0]


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four mutations; half the time those of weight files, which also see numbers, zip files and pickles."""
    if data.startswith(b"\x1f\x8b") and rng.random() < 0.7:
        return gzip.compress(mutate(gzip.decompress(data), [data], rng), mtime=0)
    if rng.random() < 0.4:
        return fuzz.mutate(data, others, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(MUTATIONS)(data, others, rng)
    return data


def delete(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A few bytes, or a field or line, taken out."""
    first, last = _part(data, rng)
    return data[:first] + data[last:]


def duplicate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A few bytes, or a field or line, once more, or many times."""
    first, last = _part(data, rng)
    return data[:last] + data[first:last] * rng.choice((1, 1, 2, 50)) + data[last:]


def exchange(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Two fields or lines in each other's place."""
    (a, b), (c, d) = sorted((_part(data, rng), _part(data, rng)))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:] if b <= c else data


def decimal(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A number in the text blown up, made negative, nan or something that only looks like one."""
    found = list(re.finditer(rb"-?[0-9][0-9.eE+-]*", data[: 1 << 16]))
    if not found:
        return fuzz.flip(data, others, rng)
    one = rng.choice(found)
    return data[: one.start()] + rng.choice(NUMBERS) + data[one.end() :]


def packed(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Another float32 inside a base64 field."""
    found = list(re.finditer(rb"[A-Za-z0-9+/]{16,}={0,2}", data[: 1 << 16]))
    if not found:
        return decimal(data, others, rng)
    one = rng.choice(found)
    try:
        content = bytearray(base64.b64decode(one[0], validate=True))
    except ValueError:
        return decimal(data, others, rng)
    at = 4 * rng.randrange(max(1, len(content) // 4))
    content[at : at + 4] = np.float32(rng.choice(FLOATS)).tobytes()
    return data[: one.start()] + base64.b64encode(content) + data[one.end() :]


def nest(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Deep nesting at one place, or in place of a value."""
    first, last = _part(data, rng)
    return data[:first] + rng.choice(NESTS) * rng.choice((3, 200, 2000, 60_000)) + data[rng.choice((first, last)) :]


def text(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Odd characters, NULs or line ends between two bytes, as UTF-8 or as JSON writes them."""
    at, odd = rng.randrange(len(data) + 1), rng.choice(TEXTS)
    plain = odd.encode("utf-8", "surrogatepass")
    part = rng.choice((plain, json.dumps(odd)[1:-1].encode(), b"\0", b"\r", b"\n", b"\t", b"\xff", b'"', b"\\"))
    return data[:at] + part * rng.choice((1, 1, 3)) + data[at:]


def encode(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The whole text in another encoding, or a byte order mark where none belongs."""
    if rng.random() < 0.3:
        return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff")) + data
    return data.decode("utf-8", "replace").encode(rng.choice(ENCODINGS), "replace")


def value(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Another value, or another key, at one place of a JSON text or of a line of it."""
    lines = data.split(b"\n")
    which = rng.randrange(len(lines))
    try:
        content, place = json.loads(data), None
    except (ValueError, RecursionError):
        try:
            content, place = json.loads(lines[which]), which
        except (ValueError, RecursionError):
            return decimal(data, others, rng)
    changed = json.dumps(_changed(content, rng)).encode()
    return changed if place is None else b"\n".join([*lines[:which], changed, *lines[which + 1 :]])


def _changed(content: Any, rng: random.Random) -> Any:
    """A copy of a JSON value with one part of it, found by a random way down, of another kind, or under another key."""
    if not isinstance(content, dict | list) or not content or rng.random() < 0.15:
        return rng.choice(VALUES)
    if isinstance(content, list):
        which = rng.randrange(len(content))
        return [*content[:which], _changed(content[which], rng), *content[which + 1 :]]
    key = rng.choice(list(content))
    if rng.random() < 0.1:
        return {k: v for k, v in content.items() if k != key} | rng.choice(({}, {key + "x": content[key]}))
    return content | {key: _changed(content[key], rng)}


def _part(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Where a random part begins and ends: a few bytes, or what separators of texts enclose."""
    at = rng.randrange(len(data) + 1)
    if rng.random() < 0.4:
        return at, min(len(data), at + rng.choice((1, 2, 8, 64)))
    separator = rng.choice((b"\n", b"\t", b",", b" ", b";", b'"'))
    last = data.find(separator, at)
    return data.rfind(separator, 0, at) + 1, len(data) if last < 0 else last + len(separator)


Mutation = Callable[[bytes, list[bytes], random.Random], bytes]
MUTATIONS: tuple[Mutation, ...] = (
    *(fuzz.flip, fuzz.cut, fuzz.insert, fuzz.splice),
    *(delete, duplicate, exchange, decimal, packed, nest, text, encode, value, value),
)
