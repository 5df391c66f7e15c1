"""Class names for the formats whose files hold none, and model folders of the recorded detectors."""

from pathlib import Path

import pytest
from foreign_features import CLASSES

from unimo.port.convert import convert

FIXTURES = Path(__file__).parents[2] / "fixtures" / "detector"


@pytest.fixture
def names(tmp_path) -> Path:
    (tmp_path / "names.txt").write_text("".join(f"thing {i}\n" for i in range(1, CLASSES)))
    return tmp_path / "names.txt"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """The recorded detectors, converted: stage 5 with a dilation of 2, and with a stride of 2."""
    root = tmp_path_factory.mktemp("models")
    for name in ("published", "other"):
        convert(FIXTURES / name, root / name)
    return root
