"""Picture files in tar shards of the WebDataset layout, with an index by which each is read by its id.

    index.json             format, version, made_from, complete, and the shards (file, bytes, pictures, hashes)
    pictures_00000.tar     KEY.jpg, the file as it was, and KEY.json, what is known of it; KEY is its number
    pictures_00000.jsonl   one picture a line: id, offset, bytes, width, height, checksum (63 bits of XXH3)

Any reader of WebDataset opens the shards. Ours needs no shuffle buffer: whatever the order, a picture is one read.
`index.json` is the commit point: what it does not list does not exist.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import xxhash

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write
from unimo.storage.locks import alone
from unimo.storage.mapped_shards import check_bytes, hashes, read_index, write_index

FORMAT, VERSION = "unimo-pictures", 1
KEYS: dict[str, type] = {"made_from": dict, "complete": bool, "shards": list}
HINT = "`corpora pack` writes one"
RESTORE = "restore it from a copy, or run `corpora pack` again into a new folder"
LIST_SUM = "list_xxh3_128"  # of a shard's list of pictures
COLUMNS = ("offset", "bytes", "width", "height", "checksum")
OPEN = 64  # shards held open


class PictureShards:
    """Random access to the picture files of a folder by image id.

    Opening reads the lists and compares the sizes of the shards; each picture is compared with its checksum when read.

    Raises:
        DataError: at opening for a missing, unfinished, newer or damaged index and a shard that is missing or cut; at
            reading for an unknown id, and for bytes that are not those the index was made of.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.header = _read_header(self.path)
        if not self.header["complete"]:
            raise DataError(f"picture shards {self.path} are unfinished; run their command again, it resumes")
        self._rows, self._table = _read_lists(self.path, self.header)
        for shard in self.header["shards"]:
            _check_size(self.path / shard["file"], shard["bytes"])
        self._files: dict[int, Any] = {}
        self._lock = Lock()

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def ids(self) -> list[str]:
        """All image ids, in the order written."""
        return list(self._rows)

    @property
    def fingerprint(self) -> str:
        """Changes when a picture, or what is known of it, does."""
        shown = [shard["sha256"] for shard in self.header["shards"]]
        return hashlib.sha256("".join(shown).encode()).hexdigest()

    def size(self, image_id: str) -> tuple[int, int]:
        """Width and height in pixels, as the file's head says them."""
        return tuple(self._table[self._row(image_id), 3:5].tolist())

    def read(self, image_id: str) -> bytes:
        """The picture's file."""
        shard, offset, size, *_, checksum = self._table[self._row(image_id)].tolist()
        file = self.path / self.header["shards"][shard]["file"]
        try:
            content = self._pread(shard, file, offset, size)
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}; {RESTORE}") from error
        if xxhash.xxh3_64_intdigest(content) >> 1 != checksum:
            raise DataError(
                f"{file}: the {size:,} bytes at {offset:,} are not image {image_id!r} as it was packed: the shard is "
                f"cut or damaged, or the index is of another; {RESTORE}"
            )
        return content

    def _pread(self, shard: int, file: Path, offset: int, size: int) -> bytes:
        """Some bytes of a shard; threads share its descriptor, of which few are open at once."""
        with self._lock:
            opened = self._files.pop(shard, None) or open(file, "rb", buffering=0)
            self._files[shard] = opened  # the last one used stands last
            if len(self._files) > OPEN:
                del self._files[next(iter(self._files))]  # closed as soon as no thread reads it
        return os.pread(opened.fileno(), size, offset)

    def _row(self, image_id: str) -> int:
        try:
            return self._rows[image_id]
        except KeyError:
            raise DataError(
                f"image {image_id!r} is not in picture shards {self.path} ({len(self):,} pictures, such as "
                f"{list(self._rows)[:3]}); pack it too, or check that ids are spelt the same way"
            ) from None


class Together:
    """Several folders of shards as one set of pictures; raises a DataError for a picture that two of them have."""

    def __init__(self, folders: Sequence[PictureShards]):
        self.folders = list(folders)
        for number, folder in enumerate(self.folders):
            for other in self.folders[:number]:
                if doubles := [i for i in folder.ids if i in other]:
                    raise DataError(f"image {doubles[0]!r} is in {other.path} and in {folder.path}; name it once")
        prints = [folder.fingerprint for folder in self.folders]
        self.fingerprint = prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()

    def __contains__(self, image_id: str) -> bool:
        return any(image_id in folder for folder in self.folders)

    def read(self, image_id: str) -> bytes:
        """The picture's file."""
        return next((f for f in self.folders if image_id in f), self.folders[0]).read(image_id)


class PictureShardWriter:
    """Appends picture files; a shard is committed when it is full and at `close`.

    Opening a folder that has some goes on after them; `image_id in writer` tells what can be skipped. As a context
    manager it closes on success, and on an error commits what it holds and leaves the folder unfinished.

    Args:
        made_from: whatever must not differ within one folder.
        shard_bytes: size at which a shard is written; also the most that a kill can lose.

    Raises:
        DataError: a folder made from something else, or an id that is there already.
        ConfigError: another process writes the folder.
    """

    def __init__(self, path: str | Path, made_from: Mapping[str, Any], shard_bytes: int = 256 << 20):
        self.path, self.shard_bytes = Path(path), shard_bytes
        self._held = ExitStack()
        self._held.enter_context(alone(self.path))
        if (self.path / "index.json").exists():
            self._header = _read_header(self.path)
            if self._header["made_from"] != dict(made_from):
                raise DataError(
                    f"picture shards {self.path} were made from something else ({self._header['made_from']}, now: "
                    f"{dict(made_from)}); write to a new folder"
                )
            self._ids = set(_read_lists(self.path, self._header)[0])
        else:
            header = {"format": FORMAT, "version": VERSION, "made_from": dict(made_from)}
            self._header, self._ids = {**header, "complete": False, "shards": []}, set()
        self._begin()

    def _begin(self) -> None:
        self._content, self._lines = io.BytesIO(), list[str]()
        self._tar = tarfile.open(fileobj=self._content, mode="w", format=tarfile.USTAR_FORMAT)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def __enter__(self) -> "PictureShardWriter":
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        with self._held:
            self._commit(complete=error_type is None)

    def add(self, image_id: str, suffix: str, content: bytes, size: tuple[int, int], known: Mapping[str, Any]) -> None:
        """Buffer one picture file.

        Args:
            suffix: of its format, without the dot.
            size: width and height in pixels.
            known: what a reader of the tar alone is told of it.
        """
        if image_id in self._ids:
            raise DataError(f"image {image_id!r} is already in picture shards {self.path}")
        key = f"{len(self._ids):09d}"
        said = {"id": image_id, "offset": self._append(f"{key}.{suffix}", content), "bytes": len(content)}
        said |= {"width": size[0], "height": size[1], "checksum": xxhash.xxh3_64_intdigest(content) >> 1}
        self._append(f"{key}.json", json.dumps({"id": image_id, **known}, ensure_ascii=False).encode())
        self._lines.append(json.dumps(said) + "\n")
        self._ids.add(image_id)
        if self._content.tell() >= self.shard_bytes:
            self._commit(complete=False)

    def _append(self, name: str, content: bytes) -> int:
        """Add a member that holds nothing of this machine; where its content starts."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        start = self._content.tell() + tarfile.BLOCKSIZE  # names this short take one block of header
        self._tar.addfile(member, io.BytesIO(content))
        return start

    def _commit(self, complete: bool) -> None:
        """Write what is buffered as one shard: the tar, its list, then the index that names both."""
        header = {**self._header, "complete": complete, "shards": list(self._header["shards"])}
        if self._lines:
            self._tar.close()
            stem, content, lines = f"pictures_{len(header['shards']):05d}", self._content.getvalue(), self._lines
            with atomic_write(self.path / f"{stem}.tar") as file:
                file.write(content)
            listed = "".join(lines).encode()
            with atomic_write(self.path / f"{stem}.jsonl") as file:
                file.write(listed)
            entry = {"file": f"{stem}.tar", "bytes": len(content), "pictures": len(lines), **hashes(content)}
            header["shards"].append(entry | {LIST_SUM: xxhash.xxh3_128_hexdigest(listed)})
        write_index(self.path, header)
        self._header = header
        self._begin()


def _read_header(path: Path) -> dict[str, Any]:
    return read_index(path, "a folder of picture shards", FORMAT, VERSION, KEYS, HINT, counts=("pictures",))


def _read_lists(path: Path, header: Mapping[str, Any]) -> tuple[dict[str, int], np.ndarray]:
    """Image id -> row of a table [pictures, 6] int64: shard, offset, bytes, width, height, checksum."""
    rows: dict[str, int] = {}
    table = np.empty((sum(shard["pictures"] for shard in header["shards"]), 1 + len(COLUMNS)), np.int64)
    for number, shard in enumerate(header["shards"]):
        file = (path / shard["file"]).with_suffix(".jsonl")
        try:
            content = file.read_bytes()
            check_bytes(file, content, shard.get(LIST_SUM), RESTORE)
            lines = [json.loads(line) for line in content.splitlines()]
            first = len(rows)
            for row, line in enumerate(lines, start=first):
                rows[line["id"]] = row
                table[row] = number, *(line[name] for name in COLUMNS)
            if len(lines) != shard["pictures"] or len(rows) != first + len(lines):
                raise ValueError(f"it lists {len(lines)} pictures, the index says {shard['pictures']}")
        except (OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
            raise DataError(f"{file} is missing or damaged ({error}); {RESTORE}") from error
        offset, size = table[first : len(rows), 1], table[first : len(rows), 2]
        if len(lines) and ((offset < 0) | (size < 0) | (offset + size > shard["bytes"])).any():
            raise DataError(f"{file} points outside of {shard['file']}; {RESTORE}")
    return rows, table


def _check_size(file: Path, said: int) -> None:
    try:
        found = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); {RESTORE}") from error
    if found != said:
        raise DataError(f"{file} has {found:,} bytes, the index says {said:,}; {RESTORE}")
