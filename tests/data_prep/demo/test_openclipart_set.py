"""The drawings that ship with the repository."""

from data_prep.demo.contents import SHIPPED
from data_prep.near_duplicates import normalise
from unimo.readers.pictures import read_picture


def test_size_and_notice():
    files = list(SHIPPED.iterdir())
    assert sum(file.stat().st_size for file in files) <= 3_000_000
    notice = (SHIPPED / "NOTICE").read_text()
    assert "openclipart-png\n1:0.18+dfsg-19" in notice and "Public Domain Dedication" in notice


def test_every_picture_is_listed_once_with_one_caption(shipped):
    assert 250 <= len(shipped) <= 400
    assert {record["image"] for record in shipped} == {file.name for file in SHIPPED.glob("*.png")}
    for key in ("image_id", "image", "from"):
        assert len({record[key] for record in shipped}) == len(shipped)
    captions = [normalise(record["captions"][0]) for record in shipped]
    assert len(set(captions)) == len(captions)
    assert all(1 <= len(caption.split()) <= 9 for caption in captions)
    assert all(record["captions"][0].isascii() and record["captions"][0][0].isupper() for record in shipped)


def test_every_picture_decodes_within_its_size(shipped):
    for record in shipped:
        height, width = read_picture(SHIPPED / record["image"]).shape[:2]
        assert max(height, width) <= 128 and min(height, width) >= 8, record["image"]
