"""Pictures of examples, in the order in which examples ask for them: images.jsonl."""

import os
from pathlib import Path

from data_prep.corpora.local_pictures import LocalPictures
from data_prep.corpora.records import Bad
from unimo.readers.annotations import write_jsonl
from unimo.readers.examples import Example


class ExampleImages:
    """The pictures of the examples of a set; without a folder of pictures every example passes, and none is listed.

    Args:
        folder: with the pictures, at any depth.
        out: folder of the list, which paths are relative to.
        source: what the records say of where the pictures come from.
    """

    def __init__(self, folder: Path | None, out: Path, source: str):
        self.out, self.source = out, source
        self._at_hand = LocalPictures(folder) if folder else None
        self._paths: dict[str, Path | Bad] = {}

    def pictured(self, example: Example | Bad, *names: str) -> Example | Bad:
        """The example, or why its picture, a file of one of these names, cannot be had."""
        if self._at_hand is None or isinstance(example, Bad) or example.image_id is None:
            return example
        if example.image_id not in self._paths:
            self._paths[example.image_id] = self._at_hand.find(example.image_id, *names)
        path = self._paths[example.image_id]
        return Bad(example.id, path.reason, path.detail) if isinstance(path, Bad) else example

    def add(self, image_id: str, path: Path) -> None:
        """List a picture whose path is known; of several with one id it is the first."""
        self._paths.setdefault(image_id, path)

    def write(self, path: Path) -> int:
        """Write the list; returns the number of pictures."""
        found = ((image_id, p) for image_id, p in self._paths.items() if isinstance(p, Path))
        return write_jsonl(
            path,
            (
                {"image_id": image_id, "image": os.path.relpath(picture, self.out), "source": self.source}
                for image_id, picture in found
            ),
        )
