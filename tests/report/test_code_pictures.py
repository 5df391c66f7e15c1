"""Pictures of codes: the framed patch and the heat-map are where the numbers say, and hostile words stay words."""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from example_runs import pretraining, update, write

from unimo.errors import DataError
from unimo.report.code_pictures import PATCH, SIDE, code_rows, mapped_pairs
from unimo.report.page import write_page
from unimo.report.run_folder import open_runs

FAR = {"code": 1, "pictures": 1.0, "captions": 1.0, "words": []}
FAR |= {"patches": [{"image_id": "w", "image": "w.png", "patch": 16}]}
HOSTILE = "<script>alert(1)</script>"


def decoded(address: str) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(address.split(",")[1]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_COLOR).astype(int)


def content(folder: Path, **changes: Any) -> dict[str, Any]:
    """Of a wide picture of 4 x 4 patches whose sixth, in row 1 and column 1, is red."""
    picture = np.full([160, 320, 3], 255, np.uint8)
    picture[40:80, 80:160] = 0, 0, 255
    cv2.imwrite(str(folder / "wide.png"), picture)
    heat = [0.0] * 16
    heat[5] = 1.0
    pair = {"image_id": "w", "image": "wide.png", "caption": f"a {HOSTILE}", "words": ["a", HOSTILE]}
    patches = [{"image_id": "w", "image": "wide.png", "patch": 5}, {"image_id": "x", "image": "lost.png", "patch": 0}]
    code = {"code": 7, "pictures": 40.0, "captions": 30.5, "patches": patches, "words": ["red", HOSTILE]}
    maps = [{"code": 7, "patches": heat, "words": [0.0, 1.0]}]
    return {"image_size": 32, "patch": 8, "shift": 0, "codes": [code], "pairs": [pair | {"maps": maps}]} | changes


def run_of(folder: Path, **changes: Any) -> Any:
    write(folder / "codes.json", content(folder, **changes))
    return open_runs([folder])[0]


def test_the_patch_is_framed_and_the_heat_is_on_it(tmp_path):
    run = run_of(tmp_path)
    (row,) = code_rows(run.codes, tmp_path)
    found, lost = row["patches"]
    assert lost == {"id": "x", "picture": None}
    cut = decoded(found["picture"])
    assert cut.shape == (PATCH, PATCH, 3)
    middle, corner = cut[PATCH // 2, PATCH // 2], cut[2, 2]
    assert middle[2] > 200 and middle[:2].max() < 60, "the red patch in the middle"
    assert corner.min() > 200, "and the white around it"
    (pair,) = mapped_pairs(run.codes, tmp_path)
    heated = decoded(pair["maps"][0]["picture"]).sum(2)
    assert heated.shape == (SIDE, SIDE)
    quarter = SIDE // 4
    own = decoded(pair["own"]).sum(2)
    brighter = (heated - own).reshape(4, quarter, 4, quarter).mean((1, 3))
    assert np.unravel_index(brighter.argmax(), (4, 4)) == (1, 1)


def test_a_shifted_grid_moves_the_patches(tmp_path):
    """As the release's ViT, whose first patch starts outside of the picture."""
    heat = np.zeros(16)
    heat[0] = 1.0
    pairs = content(tmp_path)["pairs"]
    pairs[0]["maps"][0]["patches"] = heat.tolist()
    run = run_of(tmp_path, shift=3, pairs=pairs)
    assert run.codes.grid == 4
    heated = decoded(mapped_pairs(run.codes, tmp_path)[0]["maps"][0]["picture"]).sum(2)
    bright = heated > (heated.max() + heated.min()) / 2
    assert bright[:18, :18].all() and not bright[24:48, 24:28].any(), "5 of 8 pixels of the first patch are inside"


def test_a_page_shows_them_and_the_codes_in_use(tmp_path):
    pretraining(tmp_path / "run", steps=4)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    lines.append(update(5, "pair", {"mlm": 1.0}) | {"observed": {"live_codes": 200.0, "code_temperature": 99.0}})
    (tmp_path / "run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(tmp_path / "run" / "codes.json", content(tmp_path / "run"))
    write_page(open_runs([tmp_path / "run"]), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert HOSTILE not in html and "&lt;script&gt;" in html
    assert "live codes" in html and "code temperature" in html
    assert "Codes of the dictionary" in html and "heat-map of code 7" in html and "x cannot be read" in html
    assert "what the codes of a dictionary stand for" in html


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"shift": 40}, "a heat-map needs"),
        ({"codes": [FAR]}, "beyond the 16 patches"),
        ({"patch": 0}, "patch"),
    ],
)
def test_broken_files_are_named(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        run_of(tmp_path, **changes)
