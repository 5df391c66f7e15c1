"""One runner for every family and system: recipes that name theirs, limits of a run, pixels, several processes."""

import json
import math
import os
import subprocess
from pathlib import Path

import click
import paddle
import pytest
import yaml
from called import GROUNDED, SIZES, invoke

from unimo import inference
from unimo.cli import main
from unimo.config import ROOT
from unimo.engine import checkpoint
from unimo.engine.model_folder import read_model, read_recipe, write_model
from unimo.evaluate import runtimes
from unimo.finetune.family import EVALUATIONS, FAMILIES, load_recipe
from unimo.models.oner import Oner, OnerConfig
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.feature_store import FeatureStore, StoreWriter
from unimo.readers.tokenizer import load_tokenizer

SMALL = SIZES | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture
def models(small_world, tmp_path) -> dict[str, Path]:
    """An untrained model folder of each system."""
    paddle.seed(4)
    made = {
        "unimo": Unimo(UnimoConfig(**SMALL, image_embedding_size=16), ["pool", "match"]),
        "unimo-2": Unimo2(Unimo2Config(**GROUNDED), ["pool", "match"]),
        "oner": Oner(OnerConfig(**SMALL, image_size=32, resolution=8, projection_size=8)),
    }
    for name, model in made.items():
        write_model(tmp_path / name, model, load_tokenizer(small_world / "vocabulary"))
    return {name: tmp_path / name for name in made}


@pytest.fixture
def recipe(recipe) -> dict:
    sizes = {"negatives": 2, "max_tokens": 9, "max_regions": 3}
    return recipe | sizes | {"engine": {"steps": 4, "learning_rate": 1e-3, "log_every": 1, "save_every": 2}}


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def written(tmp_path: Path, recipe: dict, name: str = "recipe.yaml") -> Path:
    (tmp_path / name).write_text(yaml.safe_dump(recipe))
    return tmp_path / name


def test_the_recipe_names_its_family(tmp_path, models, recipe):
    path = written(tmp_path, recipe | {"family": "retrieval"})
    for number, start in enumerate((["finetune"], ["finetune", "retrieval"])):
        code, output = invoke(*start, path, "--model", models["unimo"], "--output", tmp_path / f"run{number}")
        assert code == 0, output
    assert metrics(tmp_path / "run0")["metrics"] == metrics(tmp_path / "run1")["metrics"]
    other = written(tmp_path, recipe | {"family": "retrieving"}, "other.yaml")
    code, output = invoke("finetune", other, "--model", models["unimo"], "--output", tmp_path / "x")
    assert code == 2 and "family: 'retrieving', expected one of retrieval" in output
    code, output = invoke(
        "finetune", written(tmp_path, recipe | {"family": ["a"]}, "list.yml"), "--model", "x", "--output", "y"
    )
    assert code == 2 and "family: ['a'], expected one of retrieval" in output
    code, output = invoke("finetune", tmp_path / "none.yaml", "--model", models["unimo"], "--output", tmp_path / "x")
    assert code == 2 and "no config file" in output and "recipe.yaml" in output
    assert "[FAMILY] RECIPE" in invoke("finetune", "--help")[1]
    code, output = invoke("finetune", "nowhere", "--model", models["unimo"], "--output", tmp_path / "x")
    assert code == 2 and "No such command 'nowhere'" in output
    assert load_recipe(written(tmp_path, recipe)).family == "retrieval", "the first family is the default"


def test_the_commands_are_made_of_the_registry():
    for group, registry in (("finetune", FAMILIES), ("evaluate", EVALUATIONS)):
        families = main.commands[group]
        assert families.list_commands(click.Context(families)) == sorted(registry)
        code, output = invoke(group, "--help")
        assert code == 0 and all(name in output for name in registry)
    code, output = invoke("evaluate", "retrieval", "--help")
    for name, field in EVALUATIONS["retrieval"].settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in output and field.description.split()[0] in output


@pytest.mark.parametrize("system", ["unimo-2", "oner"])
def test_models_of_pixels_are_evaluated_and_fine_tuned_by_the_same_runner(tmp_path, models, recipe, system):
    pairs = ["--pairs", recipe["pairs"]]
    code, output = invoke("evaluate", "retrieval", models[system], *pairs, "--output", tmp_path / "eval")
    assert code == 0, output
    found = metrics(tmp_path / "eval")
    assert found["images"] == 6 and found["captions"] == 12 and "pixels" in found["data"]
    assert 0 <= found["metrics"]["image_recall@1"]["value"] <= 100
    refused = invoke("evaluate", "retrieval", models[system], *pairs, "--regions", recipe["regions"], "--output", "x")
    assert refused[0] == 2 and "reads pixels, not regions" in refused[1]
    path = written(tmp_path, {k: v for k, v in recipe.items() if k != "regions"})
    code, output = invoke("finetune", path, "--model", models[system], "--output", tmp_path / "run")
    assert code == 0, output
    assert metrics(tmp_path / "run")["metrics"].keys() == found["metrics"].keys()


def test_an_evaluation_takes_the_runs_own_limits_unless_told_otherwise(tmp_path, models, recipe):
    data = ["--pairs", recipe["pairs"], "--regions", recipe["regions"]]
    invoke("finetune", written(tmp_path, recipe), "--model", models["unimo"], "--output", tmp_path / "run")
    for name, model, given, limits in (
        ("own", tmp_path / "run", [], [9, 3]),
        ("given", tmp_path / "run", ["--max-tokens", 12], [12, 3]),
        ("folder", models["unimo"], [], [28, 100]),  # of no run: as long as the model can
    ):
        code, output = invoke("evaluate", "retrieval", model, *data, *given, "--output", tmp_path / name)
        assert code == 0, output
        assert list(metrics(tmp_path / name)["limits"].values()) == limits
    assert metrics(tmp_path / "own")["metrics"] == metrics(tmp_path / "run")["metrics"]
    latest = checkpoint.find_latest(tmp_path / "run")
    assert read_recipe(latest)["max_tokens"] == 9
    (latest / "recipe.yaml").unlink()  # as earlier versions left it
    assert read_recipe(latest)["max_tokens"] == 9 and read_recipe(models["unimo"]) == {}
    write_model(tmp_path / "checkpoints" / "other", *read_model(models["unimo"]))
    assert read_recipe(tmp_path / "checkpoints" / "other") == {}
    code, output = invoke(
        "evaluate", "retrieval", tmp_path / "run", *data, "--max-tokens", 1, "--output", tmp_path / "x"
    )
    assert code == 2 and "max_tokens: Input should be greater than 2" in output


def test_a_result_says_what_its_model_has_seen(tmp_path, models, recipe):
    """Of a model that nobody described nothing; of a fine-tuned one its start, of one tuned twice both trainings."""
    data = ["--pairs", recipe["pairs"], "--regions", recipe["regions"]]
    assert invoke("evaluate", "retrieval", models["unimo"], *data, "--output", tmp_path / "start")[0] == 0
    assert "seen" not in metrics(tmp_path / "start") and metrics(tmp_path / "start")["model"] == str(models["unimo"])
    engine = ["engine.steps=8", "engine.eval_every=2"]
    for name, start in (("once", models["unimo"]), ("twice", tmp_path / "once")):
        call = ["finetune", written(tmp_path, recipe), *engine, "--model", start, "--output", tmp_path / name]
        assert invoke(*call)[0] == 0
    best = [int((tmp_path / name / "checkpoints" / "best").read_text().strip()[5:]) for name in ("once", "twice")]
    trained = [
        f"fine-tuned on 40 captions, 5 pairs each, of {recipe['pairs']} (training split), {n} updates" for n in best
    ]
    assert metrics(tmp_path / "once")["seen"] == f"started from {models['unimo']}; {trained[0]}"
    assert metrics(tmp_path / "twice")["seen"] == f"started from {models['unimo']}; {trained[0]}; {trained[1]}"
    assert invoke("evaluate", "retrieval", tmp_path / "twice", *data, "--output", tmp_path / "again")[0] == 0
    assert metrics(tmp_path / "again")["seen"] == metrics(tmp_path / "twice")["seen"]


def test_epochs_are_counted_and_written_as_updates(tmp_path, models, recipe):
    recipe["engine"] |= {"epochs": 2, "save_every": 100}
    del recipe["engine"]["steps"]
    code, output = invoke(
        "finetune", written(tmp_path, recipe), "--model", models["unimo"], "--output", tmp_path / "run"
    )
    assert code == 0, output
    assert checkpoint.find_latest(tmp_path / "run").name == "step_00000010"  # 40 captions, 8 a batch
    engine = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["engine"]
    assert (engine["steps"], engine["epochs"]) == (10, None)


def test_regions_of_several_stores(tmp_path, models, recipe):
    """A store cut in two is the store."""
    whole = FeatureStore(recipe["regions"])
    for number in (0, 1):
        with StoreWriter(
            tmp_path / f"part{number}",
            feature_dim=whole.feature_dim,
            class_names=whole.class_names,
            extractor=whole.extractor,
        ) as part:
            for image_id in whole.ids[number::2]:
                part.add(whole.read(image_id))
    parts = [str(tmp_path / "part0"), str(tmp_path / "part1")]
    for name, regions in (("one", recipe["regions"]), ("two", parts)):
        path = written(tmp_path, recipe | {"regions": regions}, f"{name}.yaml")
        code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / name)
        assert code == 0, output
    assert metrics(tmp_path / "one")["metrics"] == metrics(tmp_path / "two")["metrics"]
    data = ["--pairs", recipe["pairs"], "--regions", parts[0], "--regions", parts[1]]
    code, output = invoke("evaluate", "retrieval", tmp_path / "two", *data, "--output", tmp_path / "again")
    assert code == 0, output
    assert metrics(tmp_path / "again")["metrics"] == metrics(tmp_path / "one")["metrics"]


def test_results_are_compared_with_earlier_ones_and_the_papers_row(tmp_path, models, recipe):
    data = ["--pairs", recipe["pairs"], "--regions", recipe["regions"]]
    paper = ["--paper", "table=unimo2_table1", "--paper", "row=UNIMO-2"]
    paper += ["--paper", "dataset=Flickr30k", "--paper", "mode=zero_shot"]
    assert invoke("evaluate", "retrieval", models["unimo"], *data, "--output", tmp_path / "one")[0] == 0
    path = written(tmp_path, recipe)
    against = ["--against", tmp_path / "one"]
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run", *against)
    assert code == 0, output
    assert "fine-tuned minus zero-shot: image_recall@1 " in output
    assert {d["to"] for d in metrics(tmp_path / "run")["differences"]} == {"zero-shot"}
    code, output = invoke("evaluate", "retrieval", models["unimo"], *data, *paper, "--output", tmp_path / "two")
    assert code == 0 and "72.7" in output, output
    for wrong, words in (
        (["--paper", "tabel=x"], "tabel: unknown key; did you mean 'table'?"),
        (
            ["--paper", "table=unimo_table9", "--paper", "row=x"],
            "no numbers in model_configs/paper_tables.yaml; name table",
        ),
        (["--against", tmp_path / "none"], "none"),
    ):
        code, output = invoke("evaluate", "retrieval", models["unimo"], *data, *wrong, "--output", tmp_path / "x")
        assert code == 2 and words in output, output
    late = ["--model", models["unimo"], "--output", tmp_path / "late", "--against", tmp_path / "none"]
    code, output = invoke("finetune", path, *late)
    assert code == 2 and "step " not in output, "before any training"


def launch(processes: int, *arguments: object) -> None:
    command = ["bash", ROOT / "run_scripts" / "launch.sh", *arguments]
    environment = {**os.environ, "NPROC": str(processes), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_an_evaluation_needs_is_looked_at_before_training(tmp_path, models, recipe, small_world):
    """A dev picture without regions, and a metric that is not measured, end the run before its first update."""
    recipe["engine"] |= {"eval_every": 4}
    lines = Path(recipe["pairs"]).read_text().splitlines()
    broken = [line.replace('"image_id": "white-cat"', '"image_id": "lost-cat"') for line in lines]
    (tmp_path / "pairs.jsonl").write_text("\n".join(broken))
    assert broken != lines
    for changed, words in (
        ({"pairs": str(tmp_path / "pairs.jsonl")}, "image 'lost-cat' is not in feature store"),
        (
            {"engine": recipe["engine"] | {"best_metric": "f1"}},
            "engine.best_metric is f1, expected one of image_recall@1",
        ),
    ):
        path = written(tmp_path, recipe | changed)
        code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run")
        assert code == 2 and words in output and "step " not in output, output


def test_two_processes_share_the_evaluations(tmp_path, models, recipe):
    """Under the launcher: the dev split on the way, the test split at the end and again, as one process has them."""
    recipe["engine"] |= {"eval_every": 2, "steps": 4}
    path, on_the_way = written(tmp_path, recipe), []
    data = ["--pairs", recipe["pairs"], "--regions", recipe["regions"]]
    for processes in (1, 2):
        run = tmp_path / f"run{processes}"
        launch(processes, "finetune", path, "--model", models["unimo"], "--output", run)
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        on_the_way.append([record["metrics"] for record in log if "metrics" in record])
    launch(2, "evaluate", "retrieval", tmp_path / "run1", *data, "--output", tmp_path / "again")
    alone, shared, again = (
        {name: metric["value"] for name, metric in metrics(tmp_path / folder)["metrics"].items()}
        for folder in ("run1", "run2", "again")
    )
    assert shared == pytest.approx(alone) and again == pytest.approx(alone)
    assert len(on_the_way[0]) == 2 and on_the_way[0][0].keys() == alone.keys() | {"mean_recall"}
    for one, two in zip(*on_the_way, strict=True):
        assert one == pytest.approx(two)


def test_what_scored_the_pairs_is_written(tmp_path, models, recipe, monkeypatch):
    data = ["--pairs", recipe["pairs"], "--regions", recipe["regions"]]
    found = {}
    for name, given in (
        ("auto", []),
        ("engine", ["--runtime", "inference"]),
        ("whole", ["--shortlist", 6]),
        ("short", ["--shortlist", 1]),
        ("alone", ["--score", "alone"]),
    ):
        code, output = invoke("evaluate", "retrieval", models["unimo"], *data, *given, "--output", tmp_path / name)
        assert code == 0, output
        found[name] = metrics(tmp_path / name)
        assert ("shortlist: 100.0 % of the pairs" in output) == (name == "whole")
    assert found["auto"]["scoring"] == {"runtime": "dygraph", "precision": "float32"}, "so few are not traced"
    assert found["engine"]["scoring"] == {"runtime": "inference", "precision": "float32"}
    assert found["alone"]["scoring"] == {"score": "alone"} and found["alone"]["metrics"] != found["auto"]["metrics"]
    assert found["engine"]["metrics"] == found["whole"]["metrics"] == found["auto"]["metrics"]
    short = found["short"]["scoring"]["shortlist"]
    assert (short["pictures_per_caption"], short["captions_per_picture"]) == (1, 2)
    assert short["pairs_scored"] < 60 and 0 <= short["image_recall"] <= short["text_recall"] <= 100
    assert found["short"]["metrics"]["text_recall@10"]["value"] <= found["auto"]["metrics"]["text_recall@10"]["value"]
    monkeypatch.setattr(inference, "has_bfloat16", lambda: False)
    for given, words in (
        (["--precision", "bfloat16"], "precision bfloat16 needs runtime inference, got runtime auto"),
        (["--precision", "bfloat16", "--runtime", "inference"], "needs a processor with avx512_bf16"),
        (["--precision", "half"], "precision: Input should be 'float32' or 'bfloat16'"),
        (["--runtime", "onnx"], "'dygraph'"),
        (["--score", "alone", "--shortlist", 3], "score alone reads no pair: leave out shortlist"),
        (["--shortlist", -1], "shortlist: Input should be greater than or equal to 0"),
    ):
        code, output = invoke("evaluate", "retrieval", models["unimo"], *data, *given, "--output", tmp_path / "x")
        assert code == 2 and words in output, output


def test_evaluations_on_the_way_are_by_the_weights_of_their_step(tmp_path, models, recipe, monkeypatch):
    recipe["engine"] |= {"eval_every": 2}
    path, logs = written(tmp_path, recipe), []
    for name, worth in (("dygraph", runtimes.WORTH_TRACING), ("inference", -math.inf)):
        monkeypatch.setattr(runtimes, "WORTH_TRACING", worth)
        code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / name)
        assert code == 0, output
        assert metrics(tmp_path / name)["scoring"]["runtime"] == name
        log = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        logs.append([(r.get("losses"), r.get("metrics")) for r in log])
    assert logs[0] == logs[1] and logs[0][2][1] != logs[0][5][1]


def test_features_of_another_extractor_are_named(tmp_path, models, recipe):
    whole = FeatureStore(Path(recipe["regions"]))
    other = {"name": "another", "version": whole.extractor["version"]}
    with StoreWriter(
        tmp_path / "other", feature_dim=whole.feature_dim, class_names=whole.class_names, extractor=other
    ) as writer:
        for image_id in whole.ids:
            writer.add(whole.read(image_id))
    code, output = invoke(
        "finetune", written(tmp_path, recipe), "--model", models["unimo"], "--output", tmp_path / "run"
    )
    assert code == 0 and "learnt from other features" not in output, "nobody knows what an untrained model learnt from"
    for store, warned in ((recipe["regions"], False), (tmp_path / "other", True)):
        data = ["--pairs", recipe["pairs"], "--regions", store, "--output", tmp_path / f"eval{warned}"]
        code, output = invoke("evaluate", "retrieval", tmp_path / "run", *data)
        assert code == 0 and ("name made there, another here" in output) == warned
        found = metrics(tmp_path / f"eval{warned}")
        assert found["features"]["name"] == ("another" if warned else "made") and ("warning" in found) == warned
    again = written(tmp_path, recipe | {"regions": str(tmp_path / "other")}, "again.yaml")
    code, output = invoke("finetune", again, "--model", tmp_path / "run", "--output", tmp_path / "run2")
    assert code == 0 and "name made there, another here" in output
