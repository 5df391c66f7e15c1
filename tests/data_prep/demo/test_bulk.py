"""Emoji names and clip-art titles."""

import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from data_prep.demo.build import build
from data_prep.demo.bulk import _title, clipart
from data_prep.demo.splits import groups
from data_prep.stage import read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import read_images, read_pairs


@pytest.mark.parametrize(
    "raw, title",
    [
        ("bass-guitar", "bass guitar"),
        ("Baseball Bat (B and W)", "Baseball Bat"),
        ("Bus2 BW", "Bus2"),
        ("02_waxingcrescent_openclipart", "waxingcrescent"),
        ("9 mm gun", "9 mm gun"),
        ("horse#", "horse"),
        ("Bread &amp; Wine", "Bread & Wine"),
        ("Clipart by Nicu Buculei - book_01", ""),
        ("R16 sibmission", ""),
    ],
)
def test_titles_are_cleaned(raw, title):
    assert _title(raw) == title


def deb(folder, kind, files):
    """A Debian package that holds `files` below the drawings' root."""
    root = folder / kind
    for name, content in files.items():
        file = root / "usr/share/openclipart" / kind / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (root / "DEBIAN").mkdir()
    control = f"Package: openclipart-{kind}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: made\n"
    (root / "DEBIAN" / "control").write_text(control)
    subprocess.run(["dpkg-deb", "--build", root, folder / f"{kind}.deb"], check=True, capture_output=True)
    return folder / f"{kind}.deb"


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb on this machine")
def test_drawings_take_the_titles_of_their_twins(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    titles = {"food/red_apple": "red apple", "food/none": "", "shapes/star": "star"}
    titles |= {f"people/p{i}": "Various people" for i in range(6)}
    svg = {f"{k}.svg": f"<svg><metadata><dc:title>{v}</dc:title></metadata></svg>".encode() for k, v in titles.items()}
    png = {f"{k}.png": file.getvalue() for k in [*titles, "food/no_twin"]}
    rejects = []
    items = list(clipart(deb(tmp_path, "png", png), deb(tmp_path, "svg", svg), lambda *r: rejects.append(r)))
    assert [(i.image_id, i.captions, i.source) for i in items] == [
        ("clipart-food-red_apple", ("red apple",), "clip-art titles")
    ]
    reasons = dict(rejects)
    assert len(reasons) == 8 and "clipart-shapes-star" not in reasons
    assert reasons["clipart-food-none"] == reasons["clipart-food-no_twin"] == "clip art without a usable title"
    assert reasons["clipart-people-p3"] == "clip art titled as more than 5 others"


def test_a_family_is_one_group():
    looks = np.random.default_rng(0).integers(0, 2, (3, 832)).astype(np.float32)
    assert groups([("hand: dark", "hand"), ("hand", "hand"), ("foot",)], looks).tolist() == [0, 0, 1]


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get on this machine")
def test_the_bulk_set(tmp_path):
    """191 MB through apt, unless cached; over a minute of drawing."""
    try:
        build(tmp_path, "emoji+clipart")
    except DataError as error:
        pytest.skip(f"the packages are not to be had: {error}")
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    assert len(pairs) > 3000 and read_manifest(tmp_path)["counts"]["test pictures"] == 100
    assert {p.source for p in pairs} == {"emoji names", "clip-art titles"}
    bases = {}  # emoji without its skin tone -> splits
    for pair in (p for p in pairs if p.source == "emoji names"):
        codes = [c for c in pair.image_id.split("-")[1:] if not "1f3fb" <= c <= "1f3ff" and c != "fe0f"]
        bases.setdefault(tuple(codes), set()).add(pair.split)
    assert all(len(splits) == 1 for splits in bases.values())
    rejects = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert sum(r["reason"] == "emoji without a CLDR name" for r in rejects) < 100


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("apt-get"), reason="no apt-get on this machine")
def test_clip_art_apart_from_the_drawings_that_were_cut_from_it(tmp_path, shipped):
    """Of 380 drawings some 300 have their original among the clip art: on more white, and up to 512 pixels large."""
    try:
        build(tmp_path / "demo", "openclipart")
        build(tmp_path / "apart", "clipart", apart_from=[tmp_path / "demo"])
    except DataError as error:
        pytest.skip(f"the packages are not to be had: {error}")
    demo, apart = (
        {r.image_id: r for r in [*read_pairs(folder / "pairs.jsonl"), *read_images(folder / "images.jsonl")]}
        for folder in (tmp_path / "demo", tmp_path / "apart")
    )
    origins = {f"clipart-{re.sub(r'[^a-zA-Z0-9_-]+', '-', r['from'].removesuffix('.png'))}": r for r in shipped}
    rejects = [json.loads(line) for line in (tmp_path / "apart" / "rejects.jsonl").read_text().splitlines()]
    left_out = {r["id"]: r["detail"] for r in rejects if r["reason"].endswith("of the other set")}
    assert len(origins.keys() & left_out.keys()) > 290
    assert len([i for i, r in origins.items() if i in apart and r["image_id"] in demo]) <= 2
    assert {detail.split("#")[0] for detail in left_out.values()} <= demo.keys()
