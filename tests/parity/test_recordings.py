"""Every folder of recordings has its test, and every line of the plan its recordings."""

from fnmatch import fnmatch
from pathlib import Path

import pytest

from parity.recordings import PLAN, found_in

FIXTURES = Path(__file__).parents[1] / "fixtures" / "parity"
FOLDERS = {path.name for path in FIXTURES.iterdir() if path.is_dir()}


def test_every_folder_has_its_test():
    here = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert here - FOLDERS == {"recordings", "environments"} and not FOLDERS - here


@pytest.mark.parametrize("folder, name", [row[:2] for row in PLAN])
def test_every_line_of_the_plan_is_of_something(folder, name, monkeypatch):
    monkeypatch.setattr("parity.recordings.ROOT", FIXTURES)
    assert any(fnmatch(f, folder) and fnmatch(path.stem, name) for f in FOLDERS for path in found_in(f))
