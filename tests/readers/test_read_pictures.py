import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.demo.contents import SHIPPED
from unimo.errors import DataError
from unimo.readers.pictures import read_picture, shrink, write_picture

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


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_grey_of_sixteen_bits_is_scaled(form, order):
    ramp = (np.arange(200, dtype=np.uint16) * 257).reshape(10, 20)
    content = saved(Image.fromarray(ramp.astype(order)), form)
    assert (read_picture(content) == (ramp // 257)[:, :, None]).all()


def test_grey_of_sixteen_bits_keeps_its_transparency_and_its_white():
    values = np.array([[30000, 0, 65535]], np.uint16)
    clear = saved(Image.fromarray(values), "PNG", transparency=30000)
    assert read_picture(clear)[0, :, 0].tolist() == [255, 0, 255]
    inverted = saved(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    if Image.open(io.BytesIO(inverted)).tag_v2[262] == 0:
        assert read_picture(inverted)[0, 1:, 0].tolist() == [255, 0]


@pytest.mark.parametrize("dtype, kind", [(np.float32, "float"), (np.int32, "integer")])
def test_grey_without_a_known_white_is_refused_by_name(dtype, kind):
    with pytest.raises(DataError, match=f"32-bit or signed {kind}.*convert"):
        read_picture(saved(Image.fromarray(np.ones((4, 5), dtype)), "TIFF"))


@pytest.mark.parametrize("bad", ["wide", float("inf"), -9])
def test_exif_that_cannot_be_written_is_no_reason_to_lose_a_picture(bad):
    exif = Image.Exif()
    exif[0x0112], exif[0x0100] = 8, 70000
    content = saved(Image.new("RGB", (30, 20)), "JPEG", exif=exif)
    kind = {str: (2, b"wid\0"), float: (11, struct.pack("<f", float("inf"))), int: (9, struct.pack("<i", -9))}[
        type(bad)
    ]
    little = content.find(b"II*\0") >= 0
    order = "<" if little else ">"
    value = kind[1] if little or kind[0] == 2 else kind[1][::-1]
    old = struct.pack(order + "HHII", 0x0100, 4, 1, 70000)
    assert old in content
    content = content.replace(old, struct.pack(order + "HHI", 0x0100, kind[0], 4 if kind[0] == 2 else 1) + value)
    assert read_picture(content).shape == (30, 20, 3)


def test_a_picture_whose_exif_is_damaged_is_taken_as_it_lies():
    content = saved(Image.new("RGB", (30, 20)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff no tags")
    assert read_picture(content).shape == (20, 30, 3)


def test_other_formats_and_what_is_no_file_are_refused(tmp_path):
    """PostScript would start Ghostscript; the .ico says 16 x 16 and holds more."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (tmp_path / "b.jpg").write_bytes(saved(Image.new("RGB", (64, 64)), "ICO"))
    os.mkfifo(tmp_path / "c.jpg")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(DataError, match="format is unknown, expected one of JPEG"):
            read_picture(tmp_path / name)
    with pytest.raises(DataError, match="no regular file"):
        read_picture(tmp_path / "c.jpg")


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
