"""The scripts of tasks: what each would run, real runs on small tables, and GLUE's grid over two devices."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from unimo.config import ROOT

SCRIPTS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "run_scripts" / "finetune").glob("*/*/run.sh"))
SIZES = ("base", "large", "unimo2_base")


def start(folder: Path, small_recipe: dict) -> Path:
    (folder / "start.yaml").write_text(yaml.safe_dump(small_recipe))
    command = ["unimo", "init", folder / "start.yaml", "--output", folder / "start"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "start"


def sst2(folder: Path) -> Path:
    """GLUE's tables of SST-2, small ones, converted."""
    texts = [(f"a {colour} {thing}", int(colour == "red")) for colour in ("red", "blue") for thing in ("dog", "cat")]
    (folder / "raw").mkdir()
    for split, times in (("train", 6), ("dev", 2)):
        lines = [f"{text}\t{label}\n" for text, label in texts * times]
        (folder / "raw" / f"{split}.tsv").write_text("sentence\tlabel\n" + "".join(lines))
    (folder / "raw" / "test.tsv").write_text("index\tsentence\n0\ta red dog\n")
    command = ["python", "-m", "data_prep", "benchmarks", "sst-2", folder / "raw", folder / "sst-2"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder / "sst-2" / "examples.jsonl"


def run(command: list, **environment: str) -> subprocess.CompletedProcess:
    environ = {**os.environ, "NPROC": "1", **environment}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300)


def test_each_recipe_of_a_task_has_its_script():
    named = {
        word
        for script in SCRIPTS
        for line in (ROOT / script).read_text().splitlines()
        if line.startswith("task ")
        for word in [line.split()[1]]
    }
    recipes = {p.stem for p in (ROOT / "model_configs" / "finetune").glob("*.yaml")}
    of_tasks = {r for r in recipes for size in SIZES if r.endswith(f"_{size}")} - {r for r in recipes if "quick" in r}
    assert {r.rsplit("_unimo2_base")[0].removesuffix("_base").removesuffix("_large") for r in of_tasks} == named
    assert len(SCRIPTS) == len(named) == 8


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_shows_row_and_command(script):
    sizes = [
        size for size in SIZES if size in next(x for x in (ROOT / script).read_text().splitlines() if "[--dry" in x)
    ]
    done = run(["bash", script, sizes[-1], "--dry-run", "engine.seed=3"], NPROC="2", MODEL="some-model")
    assert done.returncode == 0, done.stderr
    command = next(line for line in done.stderr.splitlines() if line.startswith("run: "))
    assert "paddle.distributed.launch" in command and "--nproc_per_node 2" in command and "engine.seed=3" in command
    assert f"_{sizes[-1]}.yaml --model some-model --output" in command
    assert done.stdout.startswith("paper: Table "), "the row, and what the paper reports for it"
    output = command.split("--output ", 1)[1].split()[0]
    assert output.endswith(f"_{sizes[-1]}") and not Path(output).exists()


def test_what_a_size_starts_from():
    script = "run_scripts/finetune/classify/STS-B/run.sh"
    for size, start_from in (("large", "unimo-mnli-large-en"), ("unimo2_base", "unimo-2-base-en")):
        done = run(["bash", script, size, "--dry-run"])
        assert f"stsb_{size}.yaml --model {start_from} --output" in done.stderr


def test_a_size_or_a_key_that_is_not_there():
    imagenet = "run_scripts/finetune/classify/ImageNet/run.sh"
    done = run(["bash", imagenet, "large"])
    assert done.returncode == 2 and "no recipe imagenet_large; there are: imagenet_unimo2_base.yaml" in done.stderr
    done = run(["bash", imagenet, "--dry-run", "no_such=1"])
    assert done.returncode == 2 and "no_such: unknown key" in done.stderr
    done = run(["bash", imagenet, "huge", "--dry-run"])
    assert done.returncode == 2 and "overrides must look like key=value, got: huge" in done.stderr


SMALL = ["max_tokens=24", "engine.epochs=null", "engine.steps=4", "engine.eval_every=0", "engine.log_every=1"]


def test_a_script_of_texts_really_runs(tmp_path, small_recipe):
    given = [f"examples={sst2(tmp_path)}", "examples_per_batch=8", *SMALL]
    model, output = str(start(tmp_path, small_recipe)), str(tmp_path / "run")
    done = run(["bash", "run_scripts/finetune/classify/SST-2/run.sh", *given], MODEL=model, OUTPUT=output)
    assert done.returncode == 0, done.stderr
    assert "paper: Table 2, UNIMO-base; accuracy 95.1; 8 V100, 9 h" in done.stdout
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["split"] == "dev" and found["examples"] == 8 and found["paper"]["row"] == "UNIMO-base"
    table = run(["unimo", "report", "paper", "--runs", output]).stdout
    assert f"{found['metrics']['accuracy']['value']:.2f} (n 1)" in table


def test_a_script_of_pictures_really_runs(tmp_path, small_recipe, small_world):
    """SNLI-VE as it is published, converted; with the adversary and the release's head."""
    pairs = [json.loads(line) for line in (small_world / "pairs.jsonl").read_text().splitlines()]
    labels = ("entailment", "neutral", "contradiction", "-")
    (tmp_path / "raw").mkdir()
    for split in ("train", "dev", "test"):
        rows = [
            {
                "Flickr30K_ID": pair["image_id"],
                "gold_label": labels[n % 4],
                "sentence1": pair["captions"][0],
                "sentence2": pair["captions"][-1],
                "pairID": f"{pair['image_id']}r{n}",
            }
            for n, pair in enumerate(p for p in pairs if p["split"] == split)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "raw" / f"snli_ve_{split}.jsonl").write_text(lines)
    command = ["python", "-m", "data_prep", "benchmarks", "snli-ve", tmp_path / "raw", tmp_path / "snli-ve"]
    done = run(command)
    assert done.returncode == 0, done.stderr
    examples = [json.loads(x) for x in (tmp_path / "snli-ve" / "examples.jsonl").read_text().splitlines()]
    for row in examples:  # the store calls its pictures by their bare ids
        row["image_id"] = row["image_id"].removeprefix("flickr30k-")
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in examples))
    given = [f"examples={tmp_path}/examples.jsonl", f"regions={small_world}/regions", "examples_per_batch=8"]
    model, output = str(start(tmp_path, small_recipe)), str(tmp_path / "run")
    script = "run_scripts/finetune/classify/SNLI-VE/run.sh"
    done = run(["bash", script, *given, *SMALL, "adversary.steps=2"], MODEL=model, OUTPUT=output)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["split"] == "test" and "accuracy" in found["metrics"]
    assert "paper: Table 1, UNIMO-base" in done.stdout


def test_the_grid_is_dealt_to_devices_goes_on_and_is_reported(tmp_path, small_recipe):
    model, examples = start(tmp_path, small_recipe), sst2(tmp_path)
    environment = {"TASKS": "sst2", "SEEDS": "1 2", "RATES": "1e-3 1e-4", "BATCHES": "16", "MODEL": str(model)}
    environment |= {"DEVICES": "cpu cpu", "OUTPUT": str(tmp_path / "glue")}
    command = ["bash", "run_scripts/tables/glue.sh", f"examples={examples}", *SMALL]
    command.remove("engine.steps=4")
    command.remove("engine.eval_every=0")

    # stopped while runs are under way, all of it ends by 75 and nothing is lost
    process = subprocess.Popen(
        [*command, "engine.steps=4000", "engine.save_every=5"],
        cwd=ROOT, env={**os.environ, **environment, "OUTPUT": str(tmp_path / "long")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    logs = [tmp_path / "long" / "sst2" / f"batch16-rate{rate}" / "1" / "log.jsonl" for rate in ("1e-3", "1e-4")]
    until = time.monotonic() + 120
    while not all(log.is_file() and log.stat().st_size for log in logs) and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert all((log.parent / "state.json").read_text().count('"preempted"') for log in logs)

    done = run([*command, "engine.steps=4"], **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = sorted((tmp_path / "glue" / "sst2").glob("*/*/metrics.json"))
    assert [f"{p.parts[-3]}/{p.parts[-2]}" for p in runs] == [
        f"batch16-rate{rate}/{seed}" for rate in ("1e-3", "1e-4") for seed in (1, 2)
    ]
    config = yaml.safe_load((runs[0].parent / "config.yaml").read_text())
    assert (config["examples_per_batch"], config["engine"]["learning_rate"]) == (128, 1e-3)
    values = [json.loads(p.read_text())["metrics"]["accuracy"]["value"] for p in runs[:2]]
    table = done.stdout.split("accuracy\n", 1)[1]
    row = next(line.split() for line in table.splitlines() if line.startswith("batch16-rate1e-3"))
    assert row[1] == "2" and float(row[2]) == pytest.approx(max(values), abs=0.01)
    assert float(row[3]) == float(row[4]) == pytest.approx(sum(values) / 2, abs=0.01)
    before = [p.stat().st_mtime_ns for p in runs]
    again = run([*command, "engine.steps=4"], **environment)
    assert again.returncode == 0 and [p.stat().st_mtime_ns for p in runs] == before
    wrong = run(command, **environment | {"TASKS": "sst3"})
    assert wrong.returncode == 2 and "no task sst3" in wrong.stderr
    wrong = run([*command, "no_such=1"], **environment | {"OUTPUT": str(tmp_path / "wrong")})
    assert wrong.returncode == 2 and wrong.stderr.count("failed with 2: sst2") == 4
