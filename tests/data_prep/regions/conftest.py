"""Class names for the formats whose files hold none."""

from pathlib import Path

import pytest
from foreign_features import CLASSES


@pytest.fixture
def names(tmp_path) -> Path:
    (tmp_path / "names.txt").write_text("".join(f"thing {i}\n" for i in range(1, CLASSES)))
    return tmp_path / "names.txt"
