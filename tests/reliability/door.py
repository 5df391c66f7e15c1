"""What a door is: valid inputs, and what reads them as the commands do."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Files = dict[str, bytes]  # by their names


@dataclass(frozen=True)
class Door:
    """One way in.

    Args:
        inputs: each a folder of files that are read without an error; one file of it is mutated at a time.
        open: reads such a folder as the commands do, and makes use of what it held.
        fixed: beginnings of the names of files that stay as they are.
        memory, a_byte: bytes above those of the process that one input may take, whatever its size and for each byte.
    """

    inputs: list[Files]
    open: Callable[[Path], object]
    fixed: tuple[str, ...] = ()
    memory: int = 64 << 20
    a_byte: int = 16


def files_of(folder: Path) -> Files:
    """All files of a folder, by their paths in it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_files(folder: Path, files: Files) -> None:
    """The opposite, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def json_lines(records: Iterable[dict]) -> bytes:
    """Records as a .jsonl file."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
