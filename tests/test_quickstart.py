"""The README's first command on a few drawings, every stage for real, two studies, and what set-up says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unimo.config import ROOT

SETUP = ROOT / "run_scripts" / "setup.sh"


in_environment = pytest.mark.skipif(
    sys.prefix == sys.base_prefix, reason="needs a virtual environment, which run_scripts/test.sh makes"
)


def environment_in(folder: Path, **choices: str) -> dict[str, str]:
    """Of a quickstart in one process that leaves everything in a folder."""
    own = {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "NPROC": "1"}
    return {**os.environ, **own, "OUTPUT": str(folder / "run"), "DATA": str(folder / "data"), **choices}


@in_environment
def test_quickstart_on_a_few_drawings(tmp_path: Path):
    """Downloads 290 MB once into the cache (detectors, text encoder, sentences)."""
    steps = {"PRETRAIN_STEPS": "4", "FINETUNE_STEPS": "2"}
    environment = environment_in(tmp_path, SOURCE="openclipart", LIMIT="40", **steps)
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

    study = run_twice("quickstart_folds.sh", environment, {"FOLDS": "0 5", "SEEDS": "2"}, tmp_path / "folds")
    assert "2 folds, 2 runs of each arm" in study and "minus ridge" in study and "beats object" in study
    for arm in ("ridge", "contrast", "plain", "chance"):
        assert any(line.startswith(f"{arm} ") for line in study.splitlines()), arm
    choices = {"ARMS": "none plain full", "SEEDS": "1 2"}
    study = run_twice("unimo_contrast.sh", environment, choices, tmp_path / "contrast")
    assert "2 seeds (1, 2)" in study and "minus plain" in study and "beats object" in study
    assert any(line.startswith("full ") for line in study.splitlines())
    logs = [tmp_path / "contrast" / "training" / arm / "1" / "log.jsonl" for arm in ("plain", "full")]
    assert logs[0].read_text() != logs[1].read_text(), "the arms differ"


@in_environment
def test_quickstart_of_unimo2_on_a_few_pictures(tmp_path: Path):
    """Downloads the stamps, emoji and photographs of scenes once into the cache, and the text encoder."""
    environment = environment_in(tmp_path, PICTURES="40", HELD_OUT="12", STEPS="3")
    command = ["bash", ROOT / "run_scripts" / "quickstart.sh", "unimo-2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.rstrip().splitlines()[-1] == str(tmp_path / "run" / "report.html")
    table = done.stdout.rsplit("recall in %", 1)[1].splitlines()
    for row in ("ridge of thumbnails", "zero-shot", "chance"):
        assert sum(line.startswith(f"{row} ") for line in table) >= 2, "both ways"
    assert "shortlist: " in done.stderr and "minus ridge" in done.stdout
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Codes of the dictionary" in page and "live codes" in page
    wrong = subprocess.run([*command[:2], "unimo-3"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert wrong.returncode == 2 and "no quickstart of unimo-3" in wrong.stderr

    choices = {"ARMS": "topk none", "SEEDS": "1", "SHORTLIST": "2"}
    study = run_twice("unimo2_dictionary.sh", environment, choices, tmp_path / "dictionary")
    assert study.count("minus none") == 2 and study.count("\ntopk ") == 4, "the joint score, and the contrast"
    choices = {"SEEDS": "1", "SHORTLIST": "2", "UNPAIRED": "20", "DATA": str(tmp_path / "unpaired")}
    study = run_twice("unimo2_unpaired.sh", environment, choices, tmp_path / "unpaired_study")
    assert study.count("minus pairs") == 2 and "\nlonger " in study
    logs = [tmp_path / "unpaired_study" / "training" / arm / "1" / "log.jsonl" for arm in ("pairs", "longer", "both")]
    streams = [{name for line in log.read_text().splitlines() for name in json.loads(line)["streams"]} for log in logs]
    assert streams[:2] == [{"pair"}, {"pair"}] and streams[2] > {"pair"}, "few updates draw not every stream"


def run_twice(name: str, environment: dict, choices: dict, output: Path) -> str:
    """What a study prints on the data of the quickstart; run again it does nothing, and it refuses a wrong arm."""
    command = ["bash", ROOT / "run_scripts" / "tables" / name]
    environment = environment | choices | {"OUTPUT": str(output)}

    def run(**more: str) -> subprocess.CompletedProcess:
        environ = environment | more
        return subprocess.run(command, cwd=output.parent, env=environ, capture_output=True, text=True, timeout=600)

    done = run()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    again = run()
    assert again.returncode == 0 and "== " not in again.stdout, "what is evaluated is not run again"
    refused = run(ARMS="X")
    assert refused.returncode == 2 and "no arm X" in refused.stderr
    return done.stdout


def test_setup_names_the_hint(tmp_path: Path):
    environment = {**os.environ, "VENV": str(tmp_path / "venv"), "PYTHON": "no-such-python"}
    done = subprocess.run(["bash", SETUP], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "apt-get install python3" in done.stderr
    assert not (tmp_path / "venv").exists()
