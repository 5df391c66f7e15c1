"""requirements-gpu.txt, after which the package is installed without its dependencies, names them all."""

import re
import sys

import pytest

from unimo.config import ROOT

if sys.version_info < (3, 11):
    pytest.skip("reads pyproject.toml by tomllib, which Python 3.10 lacks", allow_module_level=True)
import tomllib

BROUGHT = {"numpy", "pyyaml", "opencv-contrib-python", "scipy"}  # by paddlex and scikit-learn


def names(lines: list[str]) -> set[str]:
    found = (re.match(r"[\w.-]+", line) for line in lines if not line.startswith("-"))
    return {match[0].lower() for match in found if match}


def test_the_gpu_list_has_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = names([*project["dependencies"], *extras["data"], *extras["report"]]) - BROUGHT - {"paddlepaddle"}
    listed = names((ROOT / "requirements-gpu.txt").read_text(encoding="utf-8").splitlines())
    assert "paddlepaddle-gpu" in listed and not needed - listed, needed - listed
