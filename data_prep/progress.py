"""What a long job has done so far, kept in a file that a kill may cut short."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write

Record = dict[str, Any]


class Progress:
    """Records that earlier runs of the same work left, one a line under a line that names the work, and room for more.

    A file of other work is started over; what follows a torn or damaged line is dropped.

    Args:
        work: whatever must be equal for the records to be of use: settings, versions, hashes of inputs.

    Raises:
        DataError: the file cannot be read or written.
    """

    def __init__(self, path: Path, work: Record):
        self.path = path
        self.done: list[Record] = []
        whole = [json.dumps(work, sort_keys=True).encode() + b"\n"]
        try:
            with open(path, "rb") as file:
                if file.readline() == whole[0]:
                    for line in file:
                        record = json.loads(line)
                        if not isinstance(record, dict):
                            raise ValueError
                        self.done.append(record)
                        whole.append(line)
        except FileNotFoundError:
            pass
        except ValueError:  # the damaged line
            pass
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}; delete it and run again") from error
        if self.done and not whole[-1].endswith(b"\n"):
            del self.done[-1], whole[-1]
        if not path.exists() or path.stat().st_size != sum(map(len, whole)):
            with atomic_write(path) as file:
                file.writelines(whole)

    def add(self, records: Sequence[Record]) -> None:
        """Append and sync."""
        try:
            with open(self.path, "ab") as file:
                file.writelines(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}; free some space and run again") from error
        self.done += records
