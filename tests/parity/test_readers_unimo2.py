"""Batches of the release's readers for UNIMO-2, from files in its formats."""

import re

import numpy as np
import pytest
from PIL import Image as Picture

from parity.recordings import arrays, each_recording
from unimo.readers.pixels import FolderPictures, PixelImages


@each_recording("readers_unimo2")
def test_recording(recording):
    if recording.name != "image_reader":
        pytest.fail(f"nothing replays {recording}")
    golden = arrays(recording / "expected.npz")
    seen = 0
    for name, wanted in golden.items():
        if not (found := re.fullmatch(r"(pic\d|jpeg)_(\d+)_u8", name)):
            continue
        picture, side = found[1], int(found[2])
        file = recording / ("pic_jpeg.jpg" if picture == "jpeg" else f"{picture}.png")
        if picture == "jpeg":  # builds of libjpeg differ, and ours is not the recording's
            with Picture.open(file) as opened:
                decoded = np.asarray(opened.convert("RGB"))
            if (decoded != golden["jpeg_decoded_u8"]).any():
                continue
        got = PixelImages(FolderPictures({"one": file}), side, 16).collate(["one"])["images"][0]
        values = (wanted.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)
        np.testing.assert_array_equal(got.transpose(1, 2, 0), values, err_msg=name)
        row = golden.get(f"{picture}_{side}_row0")
        assert row is None or (got.transpose(1, 2, 0)[0, :8] == row).all()
        seen += 1
    assert seen >= 7, "pictures"
