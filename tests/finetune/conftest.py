"""The fixture that fine-tuning recipes start from."""

from pathlib import Path

import pytest


@pytest.fixture
def recipe(small_world: Path) -> dict:
    """A retrieval recipe over the small world; a file adds its own sizes and schedule."""
    return {
        "pairs": str(small_world / "pairs.jsonl"),
        "regions": str(small_world / "regions"),
        "captions_per_batch": 8,
    }
