"""Understanding through the command line: every kind of answer, both systems, evaluation alone, resuming, errors."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from called import GROUNDED, SIZES, invoke

from unimo.config import ROOT
from unimo.engine import checkpoint
from unimo.engine.model_folder import write_model
from unimo.evaluate.understanding import class_logits
from unimo.finetune.adversarial import Adversary, adversarial_loss, ascended, start, symmetric_divergence
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.annotations import write_jsonl
from unimo.readers.questions import Questions
from unimo.readers.tensors import as_regions, as_text
from unimo.readers.tokenizer import load_tokenizer


@pytest.fixture
def models(small_world, tmp_path) -> dict[str, Path]:
    """An untrained model folder of each system."""
    paddle.seed(4)
    made = {
        "unimo": Unimo(UnimoConfig(**SIZES, image_embedding_size=16), ["pool", "lm"]),
        "unimo-2": Unimo2(Unimo2Config(**GROUNDED), ["pool", "match"]),
    }
    for name, model in made.items():
        write_model(tmp_path / name, model, load_tokenizer(small_world / "vocabulary"))
    return {name: tmp_path / name for name in made}


def rows(small_world: Path, target, pictures: bool = False, pair: bool = False) -> list[dict]:
    """An example for each caption of the small world; `target` of (number, caption)."""
    found = []
    for line in (small_world / "pairs.jsonl").read_text().splitlines():
        pair_of = json.loads(line)
        for caption in pair_of["captions"]:
            row = {"id": f"e{len(found)}", "split": pair_of["split"], "source": [caption]}
            row["source"] += ["a dog"] if pair else []
            row |= {"image_id": pair_of["image_id"]} if pictures else {}
            found.append(row | {"target": target(len(found), caption)})
    return found


def images(small_world: Path, to: Path) -> str:
    listed = [json.loads(line) for line in (small_world / "pairs.jsonl").read_text().splitlines()]
    write_jsonl(
        to, [{"image_id": p["image_id"], "image": str(small_world / p["image"]), "source": "small"} for p in listed]
    )
    return str(to)


def recipe(folder: Path, data: list[dict], **keys) -> Path:
    write_jsonl(folder / "examples.jsonl", data)
    engine = {"steps": 6, "learning_rate": 1e-3, "log_every": 1, "save_every": 3}
    values = {"family": "classify", "examples": str(folder / "examples.jsonl"), "examples_per_batch": 8}
    values |= {"max_tokens": 12, "max_regions": 3, "engine": engine | keys.pop("engine", {}), **keys}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder / "recipe.yaml"


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def shape(number: int, caption: str) -> str:
    return "yes" if "dog" in caption else "no"


@pytest.mark.parametrize("system", ["unimo", "unimo-2"])
def test_classes_of_texts(small_world, tmp_path, models, system):
    path = recipe(tmp_path, rows(small_world, shape), labels=["no", "yes"], engine={"eval_every": 3})
    code, output = invoke("finetune", path, "--model", models[system], "--output", tmp_path / "run")
    assert code == 0, output
    assert "classify" in output and "starting at random" in output and "accuracy" in output
    found = read(tmp_path / "run" / "metrics.json")
    assert found["task"] == "classify" and set(found["metrics"]) == {"accuracy", "matthews_corrcoef"}
    predictions = read(tmp_path / "run" / "predictions.json")
    test = [row for row in rows(small_world, shape) if row["split"] == "test"]
    assert [p["id"] for p in predictions] == [row["id"] for row in test] and len(test) == found["examples"]
    right = np.mean([p["prediction"] == p["target"] for p in predictions])
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(100 * right)
    share = max(np.mean([row["target"] == label for row in test]) for label in ("yes", "no"))
    assert found["metrics"]["accuracy"]["chance"] == pytest.approx(100 * share), "the best constant answer"
    for prediction in predictions:
        shares = prediction["probabilities"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert prediction["prediction"] == max(shares, key=shares.get)

    # alone, the run's own labels, limits and batches are taken
    data = ["--examples", tmp_path / "examples.jsonl"]
    code, output = invoke("evaluate", "classify", tmp_path / "run", *data, "--output", tmp_path / "again")
    assert code == 0, output
    assert read(tmp_path / "again" / "metrics.json")["metrics"] == found["metrics"]
    assert read(tmp_path / "again" / "predictions.json") == predictions
    code, output = invoke(
        "evaluate", "classify", tmp_path / "run", *data, "--labels", "a", "--labels", "b", "--labels", "c",
        "--output", tmp_path / "x",
    )  # fmt: skip
    assert code == 2 and "the model has 2 output(s) (num_labels), the task has 3 labels" in output
    code, output = invoke("evaluate", "classify", models[system], *data, "--labels", "no", "--labels", "yes",
                          "--output", tmp_path / "x")  # fmt: skip
    assert code == 2 and "no classification head; fine-tune it first" in output


def test_a_number_takes_one_output(small_world, tmp_path, models):
    data = rows(small_world, lambda number, caption: len(caption) / 10, pair=True)
    path = recipe(tmp_path, data, target="number", engine={"steps": 40, "schedule": "constant", "learning_rate": 1e-2})
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run")
    assert code == 0, output
    found = read(tmp_path / "run" / "metrics.json")["metrics"]
    assert set(found) == {"pearson", "spearman", "pearson_spearman"}
    both = (found["pearson"]["value"] + found["spearman"]["value"]) / 2
    assert found["pearson_spearman"]["value"] == pytest.approx(both)
    predictions = read(tmp_path / "run" / "predictions.json")
    answers, targets = ([p[key] for p in predictions] for key in ("prediction", "target"))
    assert found["pearson"]["value"] == pytest.approx(100 * np.corrcoef(answers, targets)[0, 1], abs=1e-4)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["losses"]["classify"] < log[0]["losses"]["classify"] / 2


def test_answers_of_pictures_with_questions(small_world, tmp_path, models):
    """As VQA: answers that the list lacks count in the score of nobody; both systems."""
    data = rows(small_world, lambda number, _: {"red": 1.0, "blue": 0.3} if number % 3 else {"grey": 1.0}, True)
    (tmp_path / "answers.txt").write_text("blue\nred\ngreen\n")
    given = {"target": "answers", "labels": str(tmp_path / "answers.txt"), "engine": {"steps": 30}}
    streams = {
        "unimo": {"regions": str(small_world / "regions")},
        "unimo-2": {"images": images(small_world, tmp_path / "images.jsonl")},
    }
    test = [row for row in data if row["split"] == "test"]
    red = 100 * np.mean([row["target"].get("red", 0.0) for row in test])
    for system, stream in streams.items():
        path = recipe(tmp_path, data, **given, **stream)
        code, output = invoke("finetune", path, "--model", models[system], "--output", tmp_path / f"run {system}")
        assert code == 0, output
        found = read(tmp_path / f"run {system}" / "metrics.json")["metrics"]
        assert found["accuracy"]["chance"] == pytest.approx(red)
        predictions = read(tmp_path / f"run {system}" / "predictions.json")
        score = np.mean([p["target"].get(p["prediction"], 0.0) for p in predictions])
        assert found["accuracy"]["value"] == pytest.approx(100 * score)
        assert found["accuracy"]["value"] == pytest.approx(red), "30 updates are enough for the prior"


def test_pictures_alone(small_world, tmp_path, models):
    data = [{k: v for k, v in row.items() if k != "source"} for row in rows(small_world, shape, pictures=True)]
    given = {"labels": ["no", "yes"], "images": images(small_world, tmp_path / "images.jsonl")}
    code, output = invoke(
        "finetune", recipe(tmp_path, data, **given), "--model", models["unimo-2"], "--output", tmp_path / "run"
    )
    assert code == 0, output
    assert "pixels" in read(tmp_path / "run" / "metrics.json")["data"]


def test_a_dual_encoder_is_asked_about_streams_encoded_alone(small_world, tmp_path):
    """As its match: the words of a picture's statement do not see the picture before the head does."""
    paddle.seed(4)
    sizes = SIZES | {"image_embedding_size": 16, "match_on": "alone", "initializer_range": 0.3}
    model = Unimo(UnimoConfig(**sizes), ["pool", "classify"])
    model.eval()
    tokenizer = load_tokenizer(small_world / "vocabulary")
    write_jsonl(tmp_path / "examples.jsonl", rows(small_world, shape, pictures=True))
    questions = Questions(
        tmp_path / "examples.jsonl", "test", tokenizer, model.config, 12, (str(small_world / "regions"),), 3
    )
    inputs = questions.collate([0, 3])
    with paddle.no_grad():
        text, image = model(text=as_text(inputs["text"])), model(regions=as_regions(inputs["regions"]))
        alone = model.classify(model.pooled_text(text) * model.pooled_image(image)).numpy()
        together = class_logits(model, inputs).numpy()
    np.testing.assert_allclose(together, alone, atol=1e-6)
    model.config = model.config.model_copy(update={"match_on": "joint"})
    with paddle.no_grad():
        assert np.abs(class_logits(model, inputs).numpy() - alone).max() > 1e-4


def test_adversarial_training_resumes_to_the_bit(small_world, tmp_path, models):
    data = rows(small_world, shape, pictures=True)
    given = {"labels": ["no", "yes"], "head": "entail", "regions": str(small_world / "regions")}
    path = recipe(tmp_path, data, **given, adversary={"steps": 2})
    for name in ("whole", "resumed"):
        call = ["finetune", path, "--model", models["unimo"], "--output", tmp_path / name]
        assert invoke(*call)[0] == 0
        if name == "resumed":  # as a kill after the third update leaves it
            latest = checkpoint.find_latest(tmp_path / name)
            assert latest.name == "step_00000006"
            (latest / "COMPLETE").unlink()
            code, output = invoke(*call)
            assert code == 0, output
    ends = [checkpoint.find_latest(tmp_path / name) / "model.safetensors" for name in ("whole", "resumed")]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    assert "entail" in read(ends[0].parent / "config.json")["heads"]
    code, output = invoke("finetune", path, "--model", models["unimo-2"], "--output", tmp_path / "x", "regions=null")
    assert code == 2


def test_labels_of_a_file_stay_with_the_model(small_world, tmp_path, models):
    """The file may be made anew in another order; the run's own names count."""
    (tmp_path / "labels.txt").write_bytes("\ufeffno\nyes\n".encode())
    path = recipe(tmp_path, rows(small_world, shape), labels=str(tmp_path / "labels.txt"))
    assert invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run")[0] == 0
    (tmp_path / "labels.txt").write_text("yes\nno\n")
    data = ["--examples", tmp_path / "examples.jsonl"]
    assert invoke("evaluate", "classify", tmp_path / "run", *data, "--output", tmp_path / "again")[0] == 0
    assert read(tmp_path / "again" / "predictions.json") == read(tmp_path / "run" / "predictions.json")
    (tmp_path / "labels.txt").write_bytes(b"no\n\xff\xfe\xfa\n")
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "other")
    assert code == 2 and "is no list of labels" in output


def test_examples_of_rejected_pictures_are_left_out_of_training(small_world, tmp_path, models):
    """As in retrieval: the store names them, and a line says how many there are."""
    shutil.copytree(small_world / "regions", tmp_path / "regions")
    (tmp_path / "regions" / "rejects.jsonl").write_text(json.dumps({"id": "broken", "reason": "cut"}) + "\n")
    data = rows(small_world, shape, pictures=True)
    data.append(data[0] | {"id": "of broken", "image_id": "broken"})
    path = recipe(tmp_path, data, labels=["no", "yes"], regions=str(tmp_path / "regions"))
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run")
    assert code == 0 and "which were rejected when it was made, are left out" in output, output
    data[-1] |= {"split": "test"}
    path = recipe(tmp_path, data, labels=["no", "yes"], regions=str(tmp_path / "regions"))
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "other")
    assert code == 2 and "'broken' is not in feature store" in output


def test_two_processes_answer_as_one(small_world, tmp_path, models):
    """The same predictions in the same order, whoever makes which batch."""
    data = rows(small_world, shape, pictures=True)
    path = recipe(tmp_path, data, labels=["no", "yes"], regions=str(small_world / "regions"), evaluation_batch=3)
    call = ["finetune", path, "--model", models["unimo"], "--output", tmp_path / "run", "engine.learning_rate=0.01"]
    assert invoke(*call)[0] == 0
    command = ["bash", ROOT / "run_scripts" / "launch.sh", "evaluate", "classify", tmp_path / "run"]
    command += ["--examples", tmp_path / "examples.jsonl", "--regions", small_world / "regions"]
    command += ["--output", tmp_path / "two"]
    done = subprocess.run(command, env={**os.environ, "NPROC": "2"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (read(tmp_path / name / "predictions.json") for name in ("run", "two"))
    assert [p["id"] for p in one] == [p["id"] for p in two] and len({p["probabilities"]["yes"] for p in one}) > 3
    for a, b in zip(one, two):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=2e-6)
    assert read(tmp_path / "two" / "metrics.json")["limits"]["evaluation_batch"] == 3, "the run's own"


def test_further_sets_are_measured_beside(small_world, tmp_path, models):
    """As MNLI: the mismatched set has measures of its own, and one without public answers is only predicted."""
    data = rows(small_world, shape)
    write_jsonl(tmp_path / "other.jsonl", [row | {"target": "no"} for row in data if row["split"] == "test"])
    write_jsonl(tmp_path / "hidden.jsonl", [row | {"target": None} for row in data if row["split"] == "test"])
    also = [f"mismatched={tmp_path}/other.jsonl", f"ax={tmp_path}/hidden.jsonl"]
    path = recipe(tmp_path, data, labels=["no", "yes"], also=also)
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run")
    assert code == 0, output
    assert "without public answers, only predicted: ax" in output
    found = read(tmp_path / "run" / "metrics.json")["metrics"]
    assert {name.split("_")[0] for name in found} == {"accuracy", "matthews", "mismatched"}
    others = read(tmp_path / "run" / "mismatched_predictions.json")
    right = np.mean([p["prediction"] == "no" for p in others])
    assert found["mismatched_accuracy"]["value"] == pytest.approx(100 * right)
    assert len(read(tmp_path / "run" / "ax_predictions.json")) == len(others)
    assert "highest_on_the_way" not in read(tmp_path / "run" / "metrics.json"), "nothing was evaluated on the way"


def test_the_highest_of_each_measure_on_the_way_is_kept(small_world, tmp_path, models):
    """As the release reports MNLI: the best of either dev set, though the first alone chooses the checkpoint."""
    data = rows(small_world, shape)
    write_jsonl(tmp_path / "other.jsonl", [row | {"target": "no"} for row in data if row["split"] != "train"])
    also, engine = [f"mismatched={tmp_path}/other.jsonl"], {"eval_every": 2}
    path = recipe(tmp_path, data, labels=["no", "yes"], also=also, engine=engine)
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run")
    assert code == 0, output
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    seen = [(line["step"], line["metrics"]) for line in lines if "metrics" in line]
    found = read(tmp_path / "run" / "metrics.json")["highest_on_the_way"]
    assert len(seen) > 1 and {"accuracy", "mismatched_accuracy"} <= found.keys() == seen[0][1].keys()
    for name, best in found.items():
        values = [values[name] for _, values in seen]
        assert best == {"value": max(values), "step": seen[values.index(max(values))][0]}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"labels": ["no", "perhaps"]}, "its target is 'yes', expected one of the 2 labels no, perhaps"),
        ({"labels": ["no"]}, "labels: there are 1; expected at least two"),
        ({"target": "number"}, "its target is 'no', expected a number"),
        ({"target": "number", "adversary": {}}, "target must be class"),
        ({"labels": ["no", "yes"], "also": ["mm"]}, "also: Value error, 'mm' is not NAME=FILE"),
        ({"labels": ["no", "yes"], "also": ["a=x", "a=y"]}, "also: Value error, a NAME is there twice: a=x, a=y"),
        ({"labels": ["no", "yes"], "adversary": {}}, "adversary: it is for texts with pictures"),
        ({"labels": ["no", "yes"], "head": "entail"}, "head entail: it is for texts with pictures"),
        (
            {"labels": ["no", "yes"], "engine": {"eval_every": 2, "best_metric": "f1"}},
            "best_metric is f1, expected one",
        ),
        ({"labels": ["no", "yes"], "also": ["mm=none.jsonl"]}, "none.jsonl does not exist"),
        ({"labels": ["no", "yes"], "max_tokens": 40}, "max_tokens is 40, the model has positions for 28"),
        ({"labels": ["no", "yes"], "regions": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_bad_input_is_one_error_before_anything_is_trained(small_world, tmp_path, models, keys, words):
    path = recipe(tmp_path, rows(small_world, shape), **keys)
    code, output = invoke("finetune", path, "--model", models["unimo"], "--output", tmp_path / "run")
    assert code == 2 and words in " ".join(output.split()), output
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_head_of_other_labels_starts_at_random(small_world, tmp_path, models):
    two = recipe(tmp_path, rows(small_world, shape), labels=["no", "yes"])
    assert invoke("finetune", two, "--model", models["unimo"], "--output", tmp_path / "two")[0] == 0
    data = rows(small_world, lambda number, _: "abc"[number % 3])
    three = recipe(tmp_path, data, labels=["a", "b", "c"])
    code, output = invoke("finetune", three, "--model", tmp_path / "two", "--output", tmp_path / "three")
    assert code == 0 and "warning: classify not in the checkpoint, starting at random" in output
    two = recipe(tmp_path, rows(small_world, shape), labels=["no", "yes"])
    code, output = invoke("finetune", two, "--model", tmp_path / "two", "--output", tmp_path / "on")
    assert code == 0 and "starting at random" not in output


def test_perturbations_start_as_long_for_any_number_of_positions():
    paddle.seed(1)
    mask = paddle.to_tensor([[1.0, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])
    delta = start(paddle.uniform([2, 6, 400], min=-1, max=1), mask, 0.4)
    assert float(delta[1, 2:].abs().sum()) == 0
    lengths = delta.square().sum([1, 2]).sqrt().numpy()
    assert lengths == pytest.approx(0.4 / 3**0.5, rel=0.05)  # a uniform draw's mean square is a third
    nothing = start(paddle.ones([1, 3, 4]), paddle.zeros([1, 3]), 0.4)
    assert float(nothing.abs().max()) == 0, "a picture without regions is not perturbed"


def test_a_step_goes_along_the_gradient_and_shrinks_by_the_gradients_norm():
    delta, gradient = paddle.ones([2, 1, 2]), paddle.to_tensor([[[3.0, 4.0]], [[0.003, 0.004]]])
    moved = ascended(delta, gradient, Adversary(rate=0.5, max_norm=0.0)).numpy()
    np.testing.assert_allclose(moved, [[[1.3, 1.4]], [[1.3, 1.4]]], rtol=1e-6)
    moved = ascended(delta, gradient, Adversary(rate=0.5, max_norm=1.0)).numpy()
    np.testing.assert_allclose(moved, [[[1.3 / 5, 1.4 / 5]], [[1.3, 1.4]]], rtol=1e-6)
    assert np.isfinite(ascended(delta, paddle.zeros([2, 1, 2]), Adversary()).numpy()).all()


def test_the_divergence_is_symmetric_and_moves_both():
    one, other = (paddle.randn([5, 3]) for _ in range(2))
    for logits in (one, other):
        logits.stop_gradient = False
    found = symmetric_divergence(one, other)
    p, q = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True) for x in (one, other))
    assert float(found) == pytest.approx(float(((p - q) * np.log(p / q)).sum(1).mean()), rel=1e-4)
    assert float(found) == pytest.approx(float(symmetric_divergence(other, one)), rel=1e-6)
    found.backward()
    assert float(one.grad.abs().sum()) > 0 and float(other.grad.abs().sum()) > 0


def test_an_attack_raises_the_loss_that_it_climbs():
    """Of a linear model the steps go straight uphill: more of them, or longer ones, make a harder batch."""
    paddle.seed(2)
    x, weight = paddle.randn([6, 3, 4]), paddle.randn([4, 2])
    labels = paddle.to_tensor([0, 1, 0, 1, 0, 1])

    def logits_of(deltas):
        return paddle.matmul((x + deltas.get("text", 0.0)).mean(1), weight)

    def losses_of(logits):
        return paddle.nn.functional.cross_entropy(logits, labels, reduction="none").reshape([-1])

    noise = {"text": start(paddle.uniform([6, 3, 4], min=-1, max=1), paddle.ones([6, 3]), 0.01)}
    found = [
        float(adversarial_loss(logits_of, losses_of, noise, Adversary(steps=4, rate=rate, divergence=0)))
        for rate in (1e-6, 0.5, 2.0)
    ]
    assert found[0] < found[1] < found[2]
    assert found[0] == pytest.approx(2 * float(losses_of(logits_of({})).mean()), rel=1e-2)
