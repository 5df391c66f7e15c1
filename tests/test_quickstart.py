"""The README's first command on a few of the shipped drawings, every stage for real, and what set-up says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unimo.config import ROOT

SETUP = ROOT / "run_scripts" / "setup.sh"


@pytest.mark.skipif(
    sys.prefix == sys.base_prefix, reason="needs a virtual environment, which run_scripts/test.sh makes"
)
def test_quickstart_on_a_few_drawings(tmp_path: Path):
    """Downloads 290 MB once into the cache (detectors, text encoder, sentences); then two folds of its data."""
    environment = {
        **os.environ,
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "OUTPUT": str(tmp_path / "run"),
        "DATA": str(tmp_path / "data"),
        "SOURCE": "openclipart",
        "LIMIT": "40",
        "PRETRAIN_STEPS": "4",
        "FINETUNE_STEPS": "2",
        "NPROC": "1",
    }
    command = ["bash", ROOT / "run_scripts" / "quickstart.sh"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = done.stdout.rstrip().splitlines()
    assert lines[-1] == str(tmp_path / "run" / "report.html") and Path(lines[-1]).is_file()
    table = done.stdout.rsplit("recall in %", 1)[1].splitlines()
    for row in ("ridge", "fine-tuned", "fine-tuned without pre-training", "chance"):
        assert sum(line.startswith(f"{row} ") and not line.startswith(f"{row} (") for line in table) >= 2, "both ways"
    seen = [line for line in table if line.startswith("fine-tuned (")]
    assert len(seen) == 1 and "; pre-trained on " in seen[0] and seen[0].endswith(", 2 updates")
    assert "minus ridge" in done.stdout, "the paired difference"
    metrics = json.loads((tmp_path / "run" / "finetuned" / "metrics.json").read_text())
    assert metrics["images"] == metrics["captions"] > 1
    assert "installing" not in done.stdout, "the environment that runs the tests has all it needs"

    choices = {"OUTPUT": str(tmp_path / "folds"), "FOLDS": "0 5", "SEEDS": "2"}
    command = ["bash", ROOT / "run_scripts" / "tables" / "quickstart_folds.sh"]
    done = subprocess.run(command, cwd=tmp_path, env=environment | choices, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    study = done.stdout.split("2 folds, 2 runs of each arm")[1]
    assert "minus ridge" in study and "beats object" in study
    for arm in ("ridge", "contrast", "plain", "chance"):
        assert any(line.startswith(f"{arm} ") for line in study.splitlines()), arm
    again = subprocess.run(command, cwd=tmp_path, env=environment | choices, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0 and "== " not in again.stdout, "what is evaluated is not run again"
    wrong = environment | choices | {"ARMS": "ridge X"}
    refused = subprocess.run(command, cwd=tmp_path, env=wrong, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "no arm X" in refused.stderr


def test_setup_names_the_hint(tmp_path: Path):
    environment = {**os.environ, "VENV": str(tmp_path / "venv"), "PYTHON": "no-such-python"}
    done = subprocess.run(["bash", SETUP], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "apt-get install python3" in done.stderr
    assert not (tmp_path / "venv").exists()
