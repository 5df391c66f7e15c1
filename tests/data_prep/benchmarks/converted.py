"""What a converter has written."""

import json
from pathlib import Path


def lines(path: Path) -> list[dict]:
    """The records of a list."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
