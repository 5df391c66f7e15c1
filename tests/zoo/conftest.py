"""A small release as the zoo serves it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from small_release import FIXTURE, entry, pack

from unimo.models.unimo import UnimoConfig
from unimo.zoo.catalogue import Entry


@pytest.fixture(scope="session")
def packed() -> bytes:
    """The small release as a .tar.gz with one folder inside."""
    return pack(FIXTURE / "checkpoint", "tiny_en")


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    """The YAML file of its sizes."""
    values = json.loads((FIXTURE / "config.json").read_text())
    kept = {k: v for k, v in values.items() if k in UnimoConfig.model_fields}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(kept))
    return tmp_path / "tiny.yaml"


@pytest.fixture
def tiny(sizes: Path) -> Callable[..., Entry]:
    """An entry of the small release at an address."""
    return lambda url, **changes: entry(url, sizes, **changes)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty place for the zoo's cache."""
    return tmp_path / "cache"
