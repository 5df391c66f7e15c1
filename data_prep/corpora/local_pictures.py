"""Pictures that are at hand: found in a folder, at any depth, by the names that a list has for them."""

import os
from pathlib import Path

from data_prep.corpora.records import Bad


class LocalPictures:
    """The files below a folder, by their names; the folder is walked through once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._paths: dict[str, list[str]] = {}  # name -> paths below the folder
        for parent, _, names in os.walk(folder):
            for file in names:
                self._paths.setdefault(file, []).append(Path(parent, file).relative_to(folder).as_posix())

    def find(self, image_id: str, *names: str) -> Path | Bad:
        """The one file of the first name that any has, or why there is none."""
        found = next(filter(None, map(self._of, names)), [])
        if len(found) == 1:
            return self.folder / found[0]
        reason = "several pictures of the name" if found else "no picture of the name"
        return Bad(image_id, reason, f"{' or '.join(names)} in {self.folder}")

    def _of(self, name: str) -> list[str]:
        """Pictures of a name: of the path itself, else of the most of its last folders, else of the base name."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        found = self._paths.get(parts[-1], []) if parts else []
        if "/".join(parts) in found:
            return ["/".join(parts)]
        for first in range(len(parts) - 1):
            tail = "/" + "/".join(parts[first:])
            if ending := [path for path in found if f"/{path}".endswith(tail)]:
                return ending
        return found
