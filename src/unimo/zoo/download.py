"""Fetch a large file over a network that fails: resumed where it stopped, never glued from two versions of the file.

    NAME.part        what has arrived
    NAME.part.json   which version that is: address, size, and the validator (ETag or Last-Modified) the server gave

A resume asks for the rest with `Range`, on the condition (`If-Range`, RFC 9110 section 13.1.5) that the file is still
that version. A server that answers with the whole file, because it changed or because it knows no ranges, restarts it.
"""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write, sync_folder

BLOCK = 1 << 20  # bytes
PASSING = {408, 425, 429, 500, 502, 503, 504}  # status codes that a later try may not give


class _Dropped(Exception):
    """The connection failed in a way that a later try may not."""

    hopeless = False  # unless something has arrived before: the host is unknown, or not who it says it is


def download(
    url: str,
    target: Path,
    max_bytes: int,
    timeout: float = 60,
    attempts: int = 6,
    wait: float = 1,
    log: Callable[[str], None] = print,
) -> None:
    """Fetch `url` into `target`, which appears when it is whole. What arrived stays in `target`.part for the next call.

    Args:
        max_bytes: refuse a larger file.
        timeout: seconds without a byte after which a connection counts as dropped.
        attempts: tries in a row that bring nothing new before it gives up.
        wait: seconds before the second try; doubled for each further one.

    Raises:
        DataError: no such file, a page instead of a file, a file too large, no room on the disk, or a network that
            failed `attempts` times in a row.
    """
    part = target.with_name(target.name + ".part")
    first = most = _size(part)
    failures = 0
    while True:
        try:
            _fetch(url, part, max_bytes, timeout)
            break
        except _Dropped as problem:
            have = _size(part)
            failures = 0 if have > most else failures + 1
            most = max(most, have)
            if failures == attempts or (problem.hopeless and most == first):
                kept = f"; {have:,} bytes are kept in {part}, the same command goes on from there" if have else ""
                raise DataError(f"{url} could not be fetched: {problem} (tries: {failures}){kept}") from problem
            pause = wait * 2 ** max(failures - 1, 0)
            log(f"{problem} after {have:,} bytes; trying again in {pause:g} s")
            time.sleep(pause)
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    _version_file(part).unlink(missing_ok=True)
    sync_folder(target.parent)


def _fetch(url: str, part: Path, max_bytes: int, timeout: float) -> None:
    """One try: bring `part` to the whole file, from where it stands if the server allows it."""
    version = _read_version(part, url)
    have = _size(part) if version else 0
    if version and have == version["size"]:  # stopped between the last byte and the rename
        return
    headers = {"User-Agent": "unimo", "Accept-Encoding": "identity"}
    if version and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version["validator"]}
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            _refuse_page(response, url)  # before anything is touched: a login page says nothing about the file
            have, total = _start(response, url, part, have, version)
            _check_room(url, part, have, total, max_bytes)
            _receive(response, part, have, total, max_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is no part of the file there
            part.unlink()
            raise _Dropped("the server has no such range") from error
        if error.code in PASSING:
            raise _Dropped(f"the server answered {error.code} {error.reason}") from error
        raise DataError(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        dropped = _Dropped(f"the connection failed ({reason or type(reason).__name__})")
        dropped.hopeless = isinstance(reason, socket.gaierror | ssl.SSLCertVerificationError)
        raise dropped from error
    except ValueError as error:  # an address that is none, also one that the server redirected to
        raise DataError(f"{url} cannot be fetched: {error}") from error


def _start(response: Any, url: str, part: Path, have: int, version: dict[str, Any] | None) -> tuple[int, int | None]:
    """Where this answer begins, after `part` and its version file are made to fit, and the size of the whole file."""
    headers = response.headers
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        total = int(match[2]) if match and match[2] != "*" else None
        if match and version and int(match[1]) == have and _validator(headers) in (None, version["validator"]):
            if total == version["size"] or None in (total, version["size"]):
                return have, total or version["size"]
        part.unlink(missing_ok=True)  # a part of the file may come to one who asked for all of it
        raise _Dropped("the server continued another version of the file, so it starts over")
    length = headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    with _on_disk(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"")  # before the version is written: old bytes never get a new version
    validator = _validator(headers)
    if validator:
        with atomic_write(_version_file(part)) as file:
            file.write(json.dumps({"url": url, "validator": validator, "size": total}).encode())
    else:
        _version_file(part).unlink(missing_ok=True)
    return 0, total


def _refuse_page(response: Any, url: str) -> None:
    kind = response.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        start = re.sub(r"\s+", " ", response.read(300).decode("utf-8", "replace"))
        raise DataError(f"{url} gave a web page ({kind}) instead of the file; it begins {start!r}")


def _check_room(url: str, part: Path, have: int, total: int | None, max_bytes: int) -> None:
    if total is None:
        return
    if total > max_bytes:
        raise DataError(f"{url} is {total:,} bytes, expected at most {max_bytes:,}; it was not fetched")
    free = shutil.disk_usage(part.parent).free
    if total - have > free:
        raise DataError(f"{part.parent} has {free:,} bytes free; {url} needs {total - have:,} more")


def _receive(response: Any, part: Path, have: int, total: int | None, max_bytes: int) -> None:
    """Append the answer to `part`."""
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, mininterval=1)
    with _on_disk(part):
        file = open(part, "ab", buffering=0)
    with bar, file:
        while block := response.read1(BLOCK):  # what is there, so that a dropped connection loses nothing
            have += len(block)
            if have > max_bytes:
                raise DataError(f"{part.stem} is larger than the {max_bytes:,} bytes expected; stopped")
            rest = memoryview(block)
            while rest:
                with _on_disk(part):
                    rest = rest[file.write(rest) :]
            bar.update(len(block))
    if total is not None and have != total:
        raise _Dropped(f"the connection ended at {have:,} of {total:,} bytes")


@contextmanager
def _on_disk(part: Path) -> Iterator[None]:
    """Tell a disk that fails from a network that fails."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {part}: {error.strerror or error}; what has arrived is kept, the same command goes on"
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _version_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_version(part: Path, url: str) -> dict[str, Any] | None:
    """Which version of `url` the bytes in `part` belong to; None if that is not known, so that they are of no use."""
    try:
        version = json.loads(_version_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(version, dict) and version.keys() == {"url", "validator", "size"} and version["url"] == url
    return version if known and part.exists() else None


def _validator(headers: Message) -> str | None:
    """What tells versions of a file apart and may stand in If-Range: a strong ETag, else the time of change."""
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
