import shutil
import subprocess

import pytest

from data_prep.demo.contents import SHIPPED, _boards, _describing, sentences, tuxpaint

QML = """
QtObject {
    property var tab: [
        { "image": "qrc:/gcompris/icon.svg", "title": qsTr("Duck"), "text": qsTr("The duck goes 'quack'. It swims."),
          "image2": "qrc:/gcompris/duck.webp", "text2": qsTr("This animal has webbed feet."), "x": 0.1 },
        { "image": "qrc:/gcompris/icon.svg", "title": qsTr("Yeti"), "text": qsTr("Nobody has \\"seen\\" it."),
          "image2": "qrc:/gcompris/yeti.webp", "x": 0.2 }
    ]
}
"""


def test_photographs_come_with_a_sentence_and_a_title_and_captions_without_picture_are_listed():
    members = {"gcompris/explore_farm_animals/resource/board/board1.qml": QML.encode(), "gcompris/duck.webp": b"RIFF"}
    rejects = []
    (item,) = _boards("explore_farm_animals", members, lambda *r: rejects.append(r))
    assert (item.image_id, item.content, item.photo) == ("gcompris-duck", b"RIFF", True)
    assert item.captions == ("This duck has webbed feet.", "Duck")
    assert rejects == [("gcompris: explore_farm_animals, Yeti", "caption without picture")]


def test_the_sentence_that_says_most_of_what_is_seen():
    text = (
        "It was built in 1591. The Charminar marks the end of the plague. The hall has four minarets and white walls."
    )
    assert _describing({"text": text}) == "The hall has four minarets and white walls."


def test_sentences():
    text = "Mt. Rushmore is in the U.S. It is large!  “Big” they say? yes"
    assert sentences(text) == ["Mt. Rushmore is in the U.S. It is large!", "“Big” they say? yes"]


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb on this machine")
def test_stamps_are_read_from_a_debian_package(tmp_path):
    stamps = tmp_path / "root" / "usr/share/tuxpaint/stamps"
    for folder in ("food", "symbols/letters"):
        (stamps / folder).mkdir(parents=True)
    apple = (SHIPPED / "red-apple.png").read_bytes()
    (stamps / "food/apple.png").write_bytes(apple)
    (stamps / "food/apple.txt").write_text("A red apple. Eat it!\nfr.utf8=Une pomme rouge.\n")
    (stamps / "food/nameless.png").write_bytes(apple)
    (stamps / "food/pear.txt").write_text("A pear.\n")
    (stamps / "symbols/letters/a.png").write_bytes(apple)
    (stamps / "symbols/letters/a.txt").write_text("The letter A.\n")
    (tmp_path / "root" / "DEBIAN").mkdir()
    (tmp_path / "root" / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "--build", tmp_path / "root", tmp_path / "x.deb"], check=True, capture_output=True)
    rejects = {}
    items = {i.image_id: i for i in tuxpaint(tmp_path / "x.deb", rejects.__setitem__)}
    assert items["tuxpaint-food-apple"].captions == ("A red apple.",)
    assert items["tuxpaint-symbols-letters-a"].captions == ()
    assert items["tuxpaint-food-apple"].content == apple and len(items) == 2
    assert rejects == {
        "tuxpaint-food-nameless": "picture without caption",
        "tuxpaint-food-pear": "caption without a bitmap picture",
    }
