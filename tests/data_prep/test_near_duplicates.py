import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_prep.demo.contents import SHIPPED
from data_prep.near_duplicates import NearIndex, alike, drawing, look, near, normalise, same_drawing
from unimo.readers.pictures import read_picture


def test_captions_are_compared_by_their_words():
    assert normalise("A red apple!") == normalise("the  Red apple") == "red apple"
    assert normalise("A green apple") != normalise("A red apple")


bags = st.lists(st.frozensets(st.sampled_from("abcdefghijkl")), max_size=8)


@given(bags, bags)
def test_near_duplicates_found_by_rare_words_are_those_found_one_by_one(texts, others):
    index = NearIndex(others)
    assert [text in index for text in texts] == [any(near(a, b) for b in others) for a in texts]


NAMES = ["red-apple", "blue-car", "black-crow", "red-fedora", "dark-blue-hat", "slice-of-orange", "dartboard", "lemon"]


def _padded(picture, left=70, top=15, right=30, below=50):
    return np.pad(picture, ((top, below), (left, right), (0, 0)), constant_values=255)


def _scaled(picture, factor=2.5):
    image = Image.fromarray(picture)
    return np.asarray(
        image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    )


def _encoded(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=60)
    return read_picture(file.getvalue())


def _coloured(picture):
    hue, *rest = Image.fromarray(picture).convert("HSV").split()
    return np.asarray(Image.merge("HSV", (hue.point(lambda value: (value + 6) % 256), *rest)).convert("RGB"))


CHANGES = {
    "scaled": [_scaled],
    "padded": [_padded],
    "encoded": [_encoded],
    "coloured": [_coloured],
    "all": [_scaled, _coloured, _padded, _encoded],
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_drawing_is_known_elsewhere_on_white_and_no_other_is(changes):
    pictures = [read_picture(SHIPPED / f"{name}.png") for name in NAMES]
    drawings = np.stack([drawing(picture) for picture in pictures])
    for place, picture in enumerate(pictures):
        for change in changes:
            picture = change(picture)
        assert same_drawing(drawings, drawing(picture)).tolist() == [place], NAMES[place]


def test_look_alone_misses_a_drawing_on_more_white():
    pictures = [read_picture(SHIPPED / f"{name}.png") for name in NAMES]
    looks = np.stack([look(picture) for picture in pictures])
    assert not any(len(alike(looks, look(_padded(picture)))) for picture in pictures)


@given(*[st.integers(0, 40)] * 4)
def test_white_around_it_changes_nothing(left, top, right, below):
    picture = read_picture(SHIPPED / "lemon.png")
    assert np.array_equal(drawing(_padded(picture, left, top, right, below)), drawing(picture))


def test_empty_pictures_and_stretched_drawings():
    blank = np.full((20, 30, 3), 255, np.uint8)
    assert same_drawing(drawing(blank)[None], drawing(blank)).tolist() == [0]
    picture = read_picture(SHIPPED / "dartboard.png")
    wide = np.asarray(Image.fromarray(picture).resize((picture.shape[1] * 5 // 4, picture.shape[0])))
    assert len(same_drawing(drawing(picture)[None], drawing(wide))) == 0
