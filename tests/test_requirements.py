"""requirements-gpu.txt, after which the package is installed without its dependencies, names them all."""

import re
from importlib.metadata import requires

from unimo.config import ROOT

BROUGHT = {"numpy", "pyyaml", "opencv-contrib-python", "scipy"}  # by paddlex and scikit-learn


def name(line: str) -> str:
    found = re.match(r"[\w.-]+", line)
    assert found, line
    return found[0].lower()


def test_the_gpu_list_has_every_dependency():
    others = re.compile(r"extra == .(dev|export)\b")  # not asked for on such a machine
    needed = {name(line) for line in requires("unimo-paddle") or () if not others.search(line)}
    lines = (ROOT / "requirements-gpu.txt").read_text(encoding="utf-8").splitlines()
    listed = {name(line) for line in lines if line and line[0] not in "#-"}
    assert {"xxhash", "paddlepaddle", "spacy", "visualdl"} <= needed and "paddlepaddle-gpu" in listed
    assert not needed - listed - BROUGHT - {"paddlepaddle"}
