"""The tables of small real data, on miniature sets: every set with its rows, every arm; a second call does nothing."""

import json
import os
import subprocess
from pathlib import Path

import paddle
import pytest
import yaml

from unimo.config import ROOT
from unimo.engine.model_folder import write_model
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.annotations import write_jsonl
from unimo.readers.tokenizer import load_tokenizer

TINY = {f"{stack}num_{of}": 2 for stack in ("", "text_", "vit_") for of in ("hidden_layers", "attention_heads")}
TINY |= {"hidden_size": 16, "image_size": 32, "resolution": 8, "text_max_position_embeddings": 40, "num_codebook": 8}
TINY |= {"topk_value": 2}
LONG = {"max_position_embeddings": 104}  # the recipes read up to 96 tokens


@pytest.fixture
def starts(small_recipe, small_world, tmp_path) -> dict[str, Path]:
    """A UNIMO and a UNIMO-2 to start from."""
    paddle.seed(5)
    sizes = TINY | {"text_vocab_size": small_recipe["model"]["vocab_size"]}
    made = {
        "unimo": Unimo(UnimoConfig(**small_recipe["model"] | LONG), ["pool", "match"]),
        "unimo-2": Unimo2(Unimo2Config(**sizes), ["pool", "match"]),
    }
    for name, model in made.items():
        write_model(tmp_path / name, model, load_tokenizer(small_world / "vocabulary"))
    return {name: tmp_path / name for name in made}


def rows(small_world: Path, kind: str) -> list[dict]:
    """Examples of the small world's pictures and captions."""
    found = []
    for pair in map(json.loads, (small_world / "pairs.jsonl").read_text().splitlines()):
        colour = pair["image_id"].split("-")[0]
        row = {"id": pair["image_id"], "split": pair["split"], "source": pair["captions"][:1]}
        if kind == "movie-reviews":
            row["target"] = "positive" if colour in ("red", "blue") else "negative"
        elif kind == "rated-snippets":
            row["target"] = float(len(pair["captions"][0]))
        elif kind == "entailment":
            row |= {"image_id": pair["image_id"], "target": "entailment" if len(found) % 2 else "contradiction"}
        else:
            row |= {"image_id": pair["image_id"], "target": {"yes": 1.0} if len(found) % 2 else {"no": 1.0}}
        if kind == "scene-questions":
            row["target"] = "yes" if len(found) % 2 else "no"
        found.append(row)
    return found


TRIED = ("rated-snippets", "entailment", "easy-vqa", "scene-questions")  # a number, a class, answers; all three models


@pytest.fixture
def samples(small_world, tmp_path) -> Path:
    """Sets as `data_prep samples` leaves them, and `scene-questions` as `data_prep scenes`."""
    for name in ("movie-reviews", *TRIED):
        (tmp_path / "samples" / name).mkdir(parents=True)
        file = "questions.jsonl" if name == "scene-questions" else "examples.jsonl"
        write_jsonl(tmp_path / "samples" / name / file, rows(small_world, name))
        (tmp_path / "samples" / name / "manifest.json").write_text("{}")
        (tmp_path / "samples" / name / "answers.txt").write_text("no\nyes\n")
    pairs = [json.loads(line) for line in (small_world / "pairs.jsonl").read_text().splitlines()]
    images = [{"image_id": p["image_id"], "image": str(small_world / p["image"]), "source": "made"} for p in pairs]
    write_jsonl(tmp_path / "samples" / "easy-vqa" / "images.jsonl", images)
    write_jsonl(tmp_path / "samples" / "scene-questions" / "pairs.jsonl", images)
    return tmp_path / "samples"


def run(script: str, folder: Path, environment: dict, *overrides: str) -> subprocess.CompletedProcess:
    environ = {**os.environ, "NPROC": "1", "OUTPUT": str(folder), **{k: str(v) for k, v in environment.items()}}
    command = ["bash", ROOT / "run_scripts" / "tables" / script, *overrides]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)


def test_every_set_of_understanding_stands_beside_its_baselines(starts, samples, small_world, tmp_path):
    environment = {"DATA": small_world, "SAMPLES": samples, "SCENES": samples / "scene-questions", "STEPS": 2}
    environment |= {"START1": starts["unimo"], "START2": starts["unimo-2"], "SETS": " ".join(TRIED)}
    output = tmp_path / "out"
    output.mkdir()
    (output / "start").symlink_to(starts["unimo"])
    small = ["engine.warmup=0", "engine.eval_every=0", "examples_per_batch=8"]
    done = run("understanding.sh", output, environment, *small)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in TRIED:
        table = done.stdout.split(f"\n== {name}\n")[1].split("\n== ")[0]
        pictured = name in ("entailment", "easy-vqa", "scene-questions")
        arms = {"model", "words"} | ({"words-and-picture"} if pictured else set())
        assert arms == {path.parent.name for path in (output / name).glob("*/1")}
        assert all(any(line.startswith(f"{arm} ") for line in table.splitlines()) for arm in arms)
        found = json.loads((output / name / "words" / "1" / "metrics.json").read_text())
        assert found["scoring"]["baseline"] == "words"
        if name != "rated-snippets":  # a correlation is no mean over examples
            assert found["differences"][0]["to"] == "model"
    again = run("understanding.sh", output, environment, *small)
    assert again.returncode == 0 and "== done" not in again.stdout, "what is evaluated is not run again"
    wrong = run("understanding.sh", output, environment | {"SETS": "glue"})
    assert wrong.returncode == 2 and "no set glue" in wrong.stderr


def test_arms_of_the_study_of_corpora_see_what_they_are_called_after(
    starts, samples, small_recipe, small_world, tmp_path
):
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(small_recipe["model"] | LONG))
    (samples / "movie-reviews" / "texts.jsonl").write_bytes((small_world / "texts.jsonl").read_bytes())
    data = tmp_path / "data"
    data.mkdir()
    for name, of in (("pairs", "pairs"), ("images", "images"), ("rewrites", "augmented")):
        (data / f"{of}.jsonl").symlink_to(small_world / f"{name}.jsonl")
    (data / "regions").symlink_to(small_world / "regions")
    environment = {"DATA": data, "REVIEWS": samples / "movie-reviews", "SEEDS": "1", "ARMS": "full pairs none"}
    environment |= {"PRETRAIN_STEPS": "16", "FINETUNE_STEPS": "2", "REVIEW_STEPS": "2"}
    output = tmp_path / "corpora"
    output.mkdir()
    (output / "start").symlink_to(starts["unimo"])
    small = [f"model={tmp_path}/model.yaml", f"tokenizer={small_recipe['tokenizer']}", "initialise_from=null"]
    done = run("unimo_corpora.sh", output, environment, *small, "engine.log_every=1")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    seen = {}
    for arm in ("full", "pairs"):
        log = (output / "training" / arm / "1" / "log.jsonl").read_text().splitlines()
        seen[arm] = {name for line in log for name in json.loads(line).get("streams", {})}
    assert seen == {"full": {"pair", "image", "text"}, "pairs": {"pair"}}
    assert done.stdout.count("minus full") == 2 and "\nnone " in done.stdout
    again = run("unimo_corpora.sh", output, environment, *small)
    assert again.returncode == 0 and "== done" not in again.stdout
    wrong = run("unimo_corpora.sh", output, environment | {"ARMS": "X"})
    assert wrong.returncode == 2 and "no arm X" in wrong.stderr
