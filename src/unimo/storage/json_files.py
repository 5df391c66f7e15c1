"""Small json files: an object with keys, or one clear error."""

import json
from pathlib import Path
from typing import Any

from unimo.errors import DataError, UnimoError


def read_json(path: Path, error: type[UnimoError] = DataError, hint: str = "") -> dict[str, Any]:
    """The json object that a file holds.

    Args:
        error: what is raised for a file that is missing, unreadable or holds something else.
        hint: what to do then.
    """
    try:
        values = json.loads(path.read_bytes())
        problem = f"{path} holds a {type(values).__name__}, expected an object with keys"
    except OSError as refused:
        values, problem = None, f"cannot read {path}: {refused.strerror or refused}"
    except (ValueError, RecursionError) as damage:
        values, problem = None, f"{path} is not JSON: {damage}"
    if isinstance(values, dict):
        return values
    raise error(f"{problem}; {hint}" if hint else problem)
