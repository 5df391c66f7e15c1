"""Worker processes: signals and kills leave what was made, no process behind, and a run that can go on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import paddle
import pytest

from data_prep.regions.build import build
from unimo import zoo
from unimo.config import ROOT, load
from unimo.models.oner import Oner, OnerConfig
from unimo.readers.feature_store import FeatureStore


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, write_pairs, shipped):
    """A tiny ViT and 120 pictures, one of them broken."""
    root = tmp_path_factory.mktemp("inputs")
    paddle.seed(0)
    zoo.save_pretrained(Oner(load(OnerConfig, "model_configs/models/oner_tiny.yaml")), root / "model")
    pairs = write_pairs(root, [{**shipped[i % len(shipped)], "image_id": f"p{i:03}"} for i in range(120)])
    (root / "broken.png").write_bytes(b"no picture")
    with open(pairs, "a") as file:
        file.write(json.dumps({**shipped[0], "image_id": "broken", "image": "broken.png", "split": "train"}) + "\n")
    build(pairs, None, root / "plain", "grid", model_dir=root / "model")
    return root


def started(inputs: Path, out: Path) -> tuple[subprocess.Popen, list[int]]:
    """A run of two workers that has stored some pictures, and its child processes."""
    command = [sys.executable, "-u", "-m", "data_prep", "regions", "extract", "--extractor", "grid", "--workers", "2"]
    command += ["--model-dir", inputs / "model", "--pairs", inputs / "pairs.jsonl", "--output", out]
    with open(out.with_suffix(".progress"), "w+") as progress:
        run = subprocess.Popen(command, cwd=ROOT, stderr=progress, stdout=subprocess.DEVNULL)
    while run.poll() is None and not re.search(r" [1-9]\d*/", out.with_suffix(".progress").read_text()):
        time.sleep(0.01)
    tasks = Path(f"/proc/{run.pid}/task")
    return run, [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def gone(pids: list[int], seconds: float = 10) -> bool:
    """Whether all of them end in that time."""
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def same(out: Path, plain: Path) -> bool:
    return all((out / name).read_bytes() == (plain / name).read_bytes() for name in ("images.jsonl", "rejects.jsonl"))


def test_the_store_is_that_of_one_process(inputs, tmp_path):
    build(inputs / "pairs.jsonl", None, tmp_path / "out", "grid", workers=3, model_dir=inputs / "model")
    shard = "shard_00000.safetensors"
    assert (tmp_path / "out" / shard).read_bytes() == (inputs / "plain" / shard).read_bytes()
    assert same(tmp_path / "out", inputs / "plain")


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)])
def test_after_a_signal_no_worker_is_left_and_the_run_goes_on(inputs, tmp_path, number, code):
    run, children = started(inputs, tmp_path / "out")
    assert len(children) >= 2
    run.send_signal(number)
    assert run.wait() == code and gone(children)
    if number == signal.SIGTERM:
        assert 0 < json.loads((tmp_path / "out" / "index.json").read_text())["images"] < 120
    build(inputs / "pairs.jsonl", None, tmp_path / "out", "grid", workers=2, model_dir=inputs / "model")
    assert FeatureStore(tmp_path / "out").ids == FeatureStore(inputs / "plain").ids


@pytest.mark.parametrize("idle", [False, True])
def test_a_worker_that_dies_is_one_clear_error(inputs, tmp_path, idle):
    """At work, or while it waits for work, holding the lock that the others wait for."""
    run, children = started(inputs, tmp_path / "out")
    if idle:
        run.send_signal(signal.SIGSTOP)
        time.sleep(2)
    names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    os.kill(next(pid for pid, name in names.items() if b"spawn_main" in name), signal.SIGKILL)
    run.send_signal(signal.SIGCONT)
    assert run.wait(60) == 2 and gone(children)
    said = (tmp_path / "out.progress").read_text()
    assert "error: one of 2 workers died" in said and "Traceback" not in said
    build(inputs / "pairs.jsonl", None, tmp_path / "out", "grid", workers=2, model_dir=inputs / "model")
    assert FeatureStore(tmp_path / "out").ids == FeatureStore(inputs / "plain").ids
