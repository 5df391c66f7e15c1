"""Every recipe and every script that ships: each loads, and each script runs on the small set."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from unimo.config import ROOT
from unimo.errors import ConfigError
from unimo.finetune.family import load_recipe
from unimo.pretrain.systems import read_recipe

LOADERS = {"pretrain": read_recipe, "finetune": load_recipe}
RECIPES = sorted(p for kind in LOADERS for p in (ROOT / "model_configs" / kind).rglob("*"))
SCRIPTS = sorted((ROOT / "run_scripts").rglob("*.sh"))
TASKS = {"finetune/retrieval/Flickr30k/run.sh", "pretrain/unimo_base.sh", "pretrain/unimo2_base.sh"}
CLASSES = {  # tests/test_task_scripts.py runs them
    f"finetune/classify/{name}/run.sh" for name in ("SST-2", "CoLA", "MNLI-AX", "STS-B", "SNLI-VE", "VQA", "ImageNet")
}
TINY = {f"{stack}num_{of}": 2 for stack in ("", "text_", "vit_") for of in ("hidden_layers", "attention_heads")}
TINY |= {"hidden_size": 16, "image_size": 32, "text_max_position_embeddings": 40, "num_codebook": 8, "topk_value": 2}
STUDIES = {
    f"tables/{name}.sh"
    for name in (
        *("glue", "quickstart_folds", "understanding", "unimo2_dictionary", "unimo2_unpaired", "unimo_contrast"),
        "unimo_corpora",
    )
}
# They must not change the options of the shell that sources them.
SOURCED = {"env.sh", "thumbnail_ridge.sh", "tables/unimo2_study.sh", "finetune/task.sh"}


def test_nothing_ships_unseen():
    assert len(RECIPES) == 35 and all(p.suffix == ".yaml" for p in RECIPES)
    others = {"launch.sh", "quickstart.sh", "quickstart_unimo2.sh", "setup.sh", "test.sh"}
    assert {str(p.relative_to(ROOT / "run_scripts")) for p in SCRIPTS} == TASKS | CLASSES | STUDIES | SOURCED | others


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_loads_and_says_where_it_comes_from(path: Path):
    recipe = LOADERS[path.parent.name](path)
    if recipe.paper is None:
        assert "Not a row of the paper" in path.read_text()
    else:
        assert recipe.paper.table and recipe.paper.row and recipe.paper.hardware
        assert recipe.paper.hours or recipe.paper.hardware == "not known"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT / "run_scripts")))
def test_script_is_safe_shell(path: Path):
    subprocess.run(["bash", "-n", path], check=True)
    sourced = str(path.relative_to(ROOT / "run_scripts")) in SOURCED
    assert ("set -euo pipefail" in path.read_text()) != sourced


@pytest.mark.parametrize("name", sorted(TASKS))
def test_task_script_runs_on_the_small_set(name: str, small_recipe: dict, small_world: Path, tmp_path: Path):
    """The paper's recipe with a small model and data, five updates; started from another folder."""
    start = tmp_path / "start.yaml"
    start.write_text(yaml.safe_dump(small_recipe))
    environment = {**os.environ, "OUTPUT": str(tmp_path / "run"), "MODEL": str(tmp_path / "start"), "NPROC": "1"}
    small = ["engine.steps=5", "engine.eval_every=0", "engine.log_every=1", "max_tokens=24"]
    if name.startswith("pretrain"):
        model, files = small_recipe["model"], small_recipe["data"]
        if "unimo2" in name:
            model = TINY | {"text_vocab_size": model["vocab_size"]}
            files = {key: files[key] for key in ("pairs", "images", "texts")}
            small += ["pixels.shards=null"]
        (tmp_path / "model.yaml").write_text(yaml.safe_dump(model))
        data = [f"data.{key}={value}" for key, value in files.items()]
        small += [f"model={tmp_path}/model.yaml", f"tokenizer={small_recipe['tokenizer']}", "engine.amp=none", *data]
        small += ["initialise_from=null"]
    else:
        subprocess.run(["unimo", "init", start, "--output", tmp_path / "start"], check=True, capture_output=True)
        small += [f"pairs={small_world}/pairs.jsonl", f"regions={small_world}/regions", "captions_per_batch=4"]
    command = ["bash", ROOT / "run_scripts" / name, *small]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "run: python" in done.stderr, "the resolved command is printed"
    assert "paper: Table 1, UNIMO-" in done.stdout
    assert (tmp_path / "run" / "checkpoints" / "step_00000005" / "COMPLETE").is_file()


def test_task_script_fails_with_the_exit_code_of_a_wrong_config(tmp_path: Path):
    script = ROOT / "run_scripts" / "pretrain" / "unimo_base.sh"
    environment = {**os.environ, "OUTPUT": str(tmp_path / "run")}
    command = ["bash", script, "no_such_key=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no_such_key: unknown key" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("key", ["streams.text", "weights.mlm"])
@pytest.mark.parametrize("value", ["-1", "-0.5"])
def test_a_share_below_zero_is_refused_by_its_key(key, value):
    with pytest.raises(ConfigError, match=key):
        read_recipe("model_configs/pretrain/unimo_quickstart.yaml", [f"{key}={value}"])
