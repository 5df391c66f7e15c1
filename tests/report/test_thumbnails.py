"""Thumbnails: size, ground and order of colours; unreadable files give None."""

import base64
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from unimo.report.thumbnails import LONGEST, thumbnail


def decoded(address: str) -> np.ndarray:
    head, _, content = address.partition(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize(
    ("shape", "small"),
    [((400, 800, 3), (80, 160)), ((3000, 2, 3), (160, 1)), ((40, 30), (40, 30)), ((320, 320, 4), (160, 160))],
)
def test_sizes_and_channels(tmp_path: Path, shape: tuple, small: tuple):
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), np.full(shape, 200, np.uint8))
    assert decoded(thumbnail(path)).shape == (*small, 3)
    assert max(small) <= LONGEST


def test_colours_stay_and_transparency_becomes_white(tmp_path: Path):
    picture = np.zeros([64, 64, 4], np.uint8)
    picture[:, :32] = (0, 0, 255, 255)  # red; the right half is transparent black
    cv2.imwrite(str(tmp_path / "x.png"), picture)
    small = decoded(thumbnail(tmp_path / "x.png"))
    assert np.abs(small[32, 8].astype(int) - (0, 0, 255)).max() < 8
    assert small[32, 56].min() > 247


def test_sixteen_bits(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full([8, 8, 3], 40000, np.uint16))
    assert abs(int(decoded(thumbnail(tmp_path / "x.png"))[4, 4, 0]) - 40000 // 257) < 4


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_unreadable(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    assert thumbnail(tmp_path / "x.png") is None


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("fifo.png", "endless.png", "folder.png"):
        assert thumbnail(tmp_path / name) is None
    Image.new("1", (7100, 7100)).save(tmp_path / "wide.png")  # 50.4 million pixels in 6 KB
    assert thumbnail(tmp_path / "wide.png") is None
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    assert thumbnail(tmp_path / "small.png")
    monkeypatch.setattr("unimo.report.thumbnails.MAX_BYTES", 10)
    assert thumbnail(tmp_path / "small.png") is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = np.zeros([40, 60, 3], np.uint8)
    picture[:20, :30] = 255  # a corner
    Image.fromarray(picture).save(tmp_path / "x.jpg", exif=exif)
    expected = cv2.imdecode(np.frombuffer((tmp_path / "x.jpg").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    small = decoded(thumbnail(tmp_path / "x.jpg"))
    assert small.shape == expected.shape and np.abs(small.astype(int) - expected).mean() < 8
