"""`corpora pack`: every picture of the lists as it is, broken ones listed, resumed after a kill."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Picture

from data_prep.__main__ import main
from unimo.config import ROOT
from unimo.readers.annotations import write_jsonl
from unimo.readers.picture_shards import PictureShards
from unimo.readers.pictures import read_picture

COUNT = 12


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """pairs.jsonl and images.jsonl of JPEG and PNG pictures, one broken, one missing, one in both lists."""
    rng, folder = np.random.default_rng(0), tmp_path / "listed"
    folder.mkdir()
    pairs, images = [], []
    for number in range(COUNT):
        name = f"p{number}.{'jpg' if number % 2 else 'png'}"
        Picture.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)
        pair = {"image_id": f"p{number}", "image": name, "source": "made", "split": "train"}
        pairs.append({**pair, "captions": [f"number {number}"]})
        images.append(pair)
    (folder / "p3.jpg").write_bytes((folder / "p3.jpg").read_bytes()[:500])
    (folder / "p4.png").unlink()
    write_jsonl(folder / "pairs.jsonl", pairs[:8])
    write_jsonl(folder / "images.jsonl", images[7:])
    return folder


def words(listed: Path, out: Path) -> list[str]:
    lists = ["--pairs", str(listed / "pairs.jsonl"), "--images", str(listed / "images.jsonl")]
    return ["corpora", "pack", *lists, "--output", str(out)]


def test_all_pictures_are_packed_as_they_are(listed, tmp_path):
    done = CliRunner().invoke(main, words(listed, tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert f"{COUNT - 2} pictures" in done.output and "2 left out" in done.output
    shards = PictureShards(tmp_path / "out")
    assert shards.ids == [f"p{number}" for number in range(COUNT) if number not in (3, 4)]
    for name in shards.ids:
        assert shards.read(name) == next(listed.glob(f"{name}.*")).read_bytes() and shards.size(name) == (60, 40)
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rejects] == ["p3", "p4"] and "cannot be decoded" in rejects[0]["reason"]
    assert "No such file" in rejects[1]["detail"]


def test_large_pictures_are_scaled_down(listed, tmp_path):
    done = CliRunner().invoke(main, [*words(listed, tmp_path / "out"), "--longest", "32"])
    assert done.exit_code == 0, done.output
    shards = PictureShards(tmp_path / "out")
    assert shards.size("p0") == (32, 21) and read_picture(shards.read("p0")).shape == (21, 32, 3)


def test_what_cannot_be_packed_is_said(listed, tmp_path):
    nothing = CliRunner().invoke(main, ["corpora", "pack", "--output", str(tmp_path / "out")])
    assert nothing.exit_code == 2 and "name the pictures: --pairs, --images, or both" in nothing.output
    other = {"image_id": "p1", "image": "p0.png", "source": "made"}
    write_jsonl(listed / "images.jsonl", [other])
    two = CliRunner().invoke(main, words(listed, tmp_path / "out"))
    assert two.exit_code == 2 and "image 'p1' is" in two.output and "an id is one picture's" in two.output


def test_a_killed_run_goes_on(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    file, rng = io.BytesIO(), np.random.default_rng(0)
    Picture.fromarray(rng.integers(0, 256, (700, 700, 3), np.uint8)).save(file, "PNG")
    (folder / "one.png").write_bytes(file.getvalue())
    images = [{"image_id": f"p{k}", "image": "one.png", "source": "made"} for k in range(60)]
    write_jsonl(folder / "images.jsonl", images)
    command = [sys.executable, "-m", "data_prep", "corpora", "pack", "--images", str(folder / "images.jsonl")]
    command += ["--output", str(tmp_path / "out"), "--shard-mb", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (tmp_path / "out" / "pictures_00001.tar").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("pictures_00000.tar")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    shards = PictureShards(tmp_path / "out")
    assert shards.ids == [f"p{k}" for k in range(60)] and shards.read("p59") == file.getvalue()
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before
