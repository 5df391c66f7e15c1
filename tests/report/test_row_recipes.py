"""Which recipes and scripts are of which row, read off the files of a clone."""

from pathlib import Path

import pytest

from unimo.config import ROOT
from unimo.errors import ConfigError
from unimo.paper import Number, tables
from unimo.report.row_recipes import recipes


def number(dataset: str, row: str = "UNIMO-base", table: str = "unimo_table1") -> Number:
    return next(n for n in tables()[table].entries if (n.row, n.dataset) == (row, dataset))


def clone(root: Path, **files: str) -> Path:
    for place, content in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


PAPER = "paper: {table: unimo_table1, row: UNIMO-base, dataset: COCO}\n"
FILES = {
    "model_configs/finetune/deeper/coco.yaml": PAPER,
    "model_configs/finetune/ours.yaml": "family: retrieval\n",
    "model_configs/pretrain/base.yaml": "paper: {table: unimo_table1, row: UNIMO-base}\n",
    "run_scripts/finetune/captions/COCO/run.sh": "# $repo/model_configs/pretrain/base.yaml\n"
    'exec launch.sh finetune "$repo/model_configs/finetune/deeper/coco.yaml"\n',
    "run_scripts/finetune/captions/other/run.sh": "exec launch.sh model_configs/finetune/deeper/coco.yaml.old x.yaml\n",
}


def test_a_recipe_is_of_a_row_and_a_script_names_it(tmp_path: Path):
    coco, base = recipes(clone(tmp_path, **FILES))
    assert coco.path == "model_configs/finetune/deeper/coco.yaml" and not coco.pretrains
    assert base.path == "model_configs/pretrain/base.yaml" and base.pretrains
    assert coco.commands == ["bash run_scripts/finetune/captions/COCO/run.sh"], "the other names another file"
    assert base.commands == [], "a comment names it"
    assert coco.makes(["unimo_table1"], number("COCO")) and base.makes(["unimo_table1"], number("COCO"))
    assert base.makes(["unimo_table1"], number("VQA v2"))
    for other in (
        number("VQA v2"),
        number("COCO", "UNIMO-large"),
        number("COCO").model_copy(update={"mode": "zero_shot"}),
    ):
        assert not coco.makes(["unimo_table1"], other)
    assert not coco.makes(["unimo_table3"], number("COCO"))


def test_those_that_ship_are_found():
    found = {recipe.path: recipe for recipe in recipes()}
    named = [
        path.relative_to(ROOT)
        for kind in ("finetune", "pretrain")
        for path in (ROOT / "model_configs" / kind).rglob("*.yaml")
        if "\npaper:" in path.read_text(encoding="utf-8")
    ]
    assert sorted(found) == sorted(map(str, named)) and len(found) >= 4
    flickr = found["model_configs/finetune/flickr30k_base.yaml"]
    assert flickr.commands == ["bash run_scripts/finetune/retrieval/Flickr30k/run.sh base"]
    assert all(recipe.commands for recipe in found.values()), "each has a script"
    for recipe in found.values():
        entries = tables()[recipe.paper.table].entries
        assert any(recipe.makes([recipe.paper.table], n) for n in entries), f"{recipe.path} names no row of the file"


def test_a_wrong_paper_block_is_named(tmp_path: Path):
    clone(tmp_path, **{"model_configs/finetune/x.yaml": "paper: {tabel: unimo_table1}\n"})
    with pytest.raises(ConfigError, match="model_configs/finetune/x.yaml: paper: 1 problem.*\n.*tabel"):
        recipes(tmp_path)
