"""Pictures as people see them, variations as functions of their generators, and what stands in for broken ones."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from unimo.errors import DataError
from unimo.readers.pictures import read_picture
from unimo.readers.pixels import (
    Augmentation,
    FolderPictures,
    PixelImages,
    random_crop,
    release,
    upright,
    vary_colours,
)

ORIENTATION = 0x0112


def saved(picture: Picture.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def smooth(width: int, height: int) -> Picture.Image:
    """Something that differs in every corner and is not changed by scaling."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Picture.fromarray(np.stack([x, y, 255 - x], axis=2).astype(np.uint8))


@pytest.mark.parametrize("side", [20, 60, 130, 300])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_fast_and_slow_decoding_show_the_same(side, mode):
    """Decoded at a half or a quarter of the size, and whole by Pillow."""
    content = saved(smooth(320, 240).convert(mode), "JPEG", quality=95)
    fast, slow = upright(content, side), read_picture(content)
    slow = np.asarray(Picture.fromarray(slow).resize((side, side), Picture.Resampling.BOX))
    assert fast.shape == (side, side, 3) and fast.dtype == np.uint8
    assert np.abs(fast.astype(int) - slow).mean() < 2


@pytest.mark.parametrize("turn", range(1, 9))
def test_upright_turns_as_exif_says(turn):
    exif = Picture.Exif()
    exif[ORIENTATION] = turn
    content = saved(smooth(64, 64), "JPEG", exif=exif, quality=95)
    assert np.abs(upright(content, 64).astype(int) - read_picture(content)).mean() < 2
    assert (release(content, 64) == release(saved(smooth(64, 64), "JPEG", quality=95), 64)).all()


def test_alpha_palettes_cmyk_and_deep_grey():
    clear = smooth(40, 40).convert("RGBA")
    clear.putalpha(0)
    assert (upright(saved(clear, "PNG"), 40) == 255).all(), "over white"
    assert (release(saved(clear, "PNG"), 40) == np.asarray(smooth(40, 40))).all(), "alpha dropped"
    cmyk = saved(smooth(40, 40).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(upright(cmyk, 40).astype(int) - np.asarray(smooth(40, 40))).mean() < 4
    deep = saved(Picture.fromarray((np.arange(1600).reshape(40, 40) * 40).astype(np.uint16)), "PNG")
    assert upright(deep, 40)[0, 0, 0] == 0 and 240 < upright(deep, 40)[-1, -1, 0] <= 255
    palette = saved(smooth(40, 40).quantize(8), "PNG")
    assert len(np.unique(upright(palette, 40).reshape(-1, 3), axis=0)) == 8


@pytest.mark.parametrize("prepare", [release, upright])
def test_broken_files_are_errors(prepare):
    jpeg, png = saved(smooth(200, 200), "JPEG"), saved(smooth(200, 200), "PNG")
    for content in (b"", b"text", jpeg[: len(jpeg) // 2], png[: len(png) // 2]):
        with pytest.raises(DataError, match="cannot be decoded as a picture"):
            prepare(content, 32)
    bomb = saved(Picture.new("1", (30000, 2000)), "PNG")
    with pytest.raises(DataError, match="has 30000 x 2000 pixels, more than 50,000,000"):
        prepare(bomb, 32)


def test_a_file_cut_before_its_end_is_never_guessed_at():
    """OpenCV would fill the rest with grey."""
    content = saved(smooth(300, 300), "JPEG", quality=95)
    for size in range(len(content) // 3, len(content) - 2, len(content) // 7):
        with pytest.raises(DataError):
            upright(content[:size], 64)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 1000), st.floats(0.01, 1), st.integers(1, 300), st.integers(1, 300))
def test_crops_lie_in_the_picture(seed, smallest, width, height):
    left, top, right, bottom = random_crop(np.random.default_rng(seed), smallest)(width, height)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    if min(width, height) > 50:
        assert (right - left) * (bottom - top) >= 0.7 * smallest * width * height - width - height


def test_colours_vary_around_what_they_were():
    picture = np.asarray(smooth(32, 32))
    varied = [vary_colours(picture, np.random.default_rng(seed), 0.3) for seed in range(40)]
    assert len({v.tobytes() for v in varied}) == 40
    assert abs(np.mean(varied) - picture.mean()) < 12
    assert (vary_colours(picture, np.random.default_rng(0), 0.0) == picture).all()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for number in range(4):
        found[f"p{number}"] = tmp_path / f"p{number}.jpg"
        found[f"p{number}"].write_bytes(saved(smooth(60 + number, 50), "JPEG"))
    found["cut"], found["text"] = tmp_path / "cut.jpg", tmp_path / "text.png"
    found["cut"].write_bytes(found["p0"].read_bytes()[:300])
    found["text"].write_text("no picture")
    return found


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, k]) for k in range(count)]


def test_training_pictures_vary_by_their_own_generator(files):
    vary = Augmentation(crop=0.4, flip=0.5, jitter=0.2)
    images = PixelImages(FolderPictures(files), 32, 8, "upright", vary)
    plain = images.collate(["p0", "p1"])["images"]
    assert (plain == PixelImages(FolderPictures(files), 32, 8, "upright").collate(["p0", "p1"])["images"]).all()
    varied = images.collate(["p0", "p1"], rngs(2))["images"]
    assert (varied != plain).any() and np.abs(varied).max() <= 1
    assert (images.collate(["p1"], rngs(2)[1:])["images"][0] == varied[1]).all(), "whatever else is in the batch"
    assert (images.collate(["p0", "p1"], rngs(2, seed=1))["images"] != varied).any()
    assert images.fingerprint != PixelImages(FolderPictures(files), 32, 8, "upright").fingerprint
    assert images.origin == {"pixels": "upright"}


def test_another_picture_stands_in_for_a_broken_one(files, capsys):
    ids = ["p0", "cut", "text", "p1", "p2", "p3"]
    images = PixelImages(FolderPictures(files), 32, 8, "upright", Augmentation(crop=0.5))
    taken, found = images.readable([0, 1, 2, 5], ids, rngs(4))
    assert taken == [0, 3, 3, 5] and found["images"].shape == (4, 3, 32, 32)
    assert images.broken.keys() == {"cut", "text"}
    told = capsys.readouterr().err
    assert told.count("notice: image 'cut' cannot be decoded") == 1 and told.count("notice: image 'text'") == 1
    again, same = images.readable([0, 1, 2, 5], ids, rngs(4))
    assert again == taken and (same["images"] == found["images"]).all(), "known to be broken or not"
    assert capsys.readouterr().err == ""
    with pytest.raises(DataError, match="none of 2 pictures can be decoded; image 'cut' cannot"):
        images.readable([0], ["cut", "text"], rngs(1))
    with pytest.raises(DataError, match="'other' is not among the 6 pictures"):
        images.readable([0], ["other"], rngs(1))
    with pytest.raises(DataError, match="image 'cut' cannot be decoded"):
        images.collate(["p0", "cut"])
