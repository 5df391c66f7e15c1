"""A feature store of small_stores.py."""

from pathlib import Path

import pytest
from small_stores import RECORDS, write


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write(tmp_path / "store", *RECORDS)
