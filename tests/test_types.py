"""The types state the truth: mypy, by pyproject.toml, finds nothing wrong in src and data_prep."""

import subprocess
import sys

from unimo.config import ROOT


def test_mypy_finds_nothing():
    found = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, (
        "say what is true in the annotation, or handle what it shows; an ignore is for a stub that is wrong\n"
        + found.stdout
        + found.stderr
    )
