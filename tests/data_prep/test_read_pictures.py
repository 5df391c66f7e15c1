import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.demo.contents import SHIPPED
from data_prep.pictures import read_picture, shrink, write_picture
from unimo.errors import DataError

APPLE = SHIPPED / "red-apple.png"


def test_transparency_becomes_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert read_picture(buffer.getvalue()).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held at a right angle
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, "JPEG", exif=exif)
    assert read_picture(buffer.getvalue()).shape == (30, 20, 3)


@settings(deadline=None)
@given(st.integers(0, 3000))
def test_a_cut_picture_is_one_error_of_ours(size):
    whole = APPLE.read_bytes()
    if size < len(whole) - 12:  # without the closing chunk a PNG is complete all the same
        with pytest.raises(DataError, match="cannot be decoded"):
            read_picture(whole[:size])


@pytest.mark.parametrize("width, height", [(100_000, 100_000), (10_000, 5_001)])
def test_size_is_checked_before_decoding(width, height):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(DataError, match="50,000,000: scale it down|exceeds limit"):  # Pillow has a limit of its own
        read_picture(bomb)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
def test_shrinking_bounds_the_longer_side_and_keeps_the_shape(height, width, longest):
    small = shrink(np.zeros((height, width, 3), np.uint8), longest)
    assert max(small.shape[:2]) == min(longest, max(height, width))
    assert min(small.shape[:2]) >= 1
    assert abs(small.shape[0] / small.shape[1] - height / width) <= height / width * 0.5 or min(small.shape[:2]) <= 2


def test_written_pictures_are_read_back(tmp_path):
    apple = read_picture(APPLE)
    write_picture(apple, tmp_path / "deep" / "apple.png")
    assert (read_picture(tmp_path / "deep" / "apple.png") == apple).all()
    write_picture(apple, tmp_path / "apple.jpg")
    assert np.abs(read_picture(tmp_path / "apple.jpg").astype(int) - apple).mean() < 3
