"""Which words of a caption a rewriting changed."""

from difflib import SequenceMatcher
from typing import Literal

Part = tuple[Literal["same", "gone", "new"], str]


def word_diff(before: str, after: str) -> list[Part]:
    """Runs of words in reading order: `same` and `gone` together read as `before`, `same` and `new` as `after`."""
    old, new = before.split(), after.split()
    parts: list[Part] = []
    for _, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if old[i:j] == new[k:m]:
            parts.append(("same", " ".join(old[i:j])))
            continue
        if old[i:j]:
            parts.append(("gone", " ".join(old[i:j])))
        if new[k:m]:
            parts.append(("new", " ".join(new[k:m])))
    return parts
