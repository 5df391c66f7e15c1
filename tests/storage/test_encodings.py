import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimo.storage.encodings import open_text, text_of

ENCODERS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "utf-16 le": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16 be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32 le": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "utf-32 be": lambda text: codecs.BOM_UTF32_BE + text.encode("utf-32-be"),
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\0"))


@pytest.mark.parametrize("encoder", ENCODERS)
@given(text=TEXTS)
def test_a_text_is_read_as_it_was_written(encoder, text):
    assert text_of(ENCODERS[encoder](text)) == text


@pytest.mark.parametrize("encoder", ENCODERS)
def test_lines_of_a_file(tmp_path, encoder):
    (tmp_path / "x.txt").write_bytes(ENCODERS[encoder]("café\r\nzwei\n"))
    with open_text(tmp_path / "x.txt") as file:
        assert list(file) == ["café\n", "zwei\n"]


def test_other_bytes_are_no_text(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xffabc")
    with pytest.raises(ValueError), open_text(tmp_path / "x.txt") as file:
        file.read()
