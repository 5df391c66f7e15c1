"""The linear baseline of understanding: what words tell it finds, what a picture tells it needs the picture for."""

import json
import subprocess
import sys
from pathlib import Path

import paddle
import pytest
from click.testing import CliRunner

from unimo.cli import main
from unimo.engine.model_folder import write_model
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.readers.annotations import write_jsonl
from unimo.readers.tokenizer import load_tokenizer

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
SIZES |= {"max_position_embeddings": 30, "image_embedding_size": 16}


@pytest.fixture
def model(small_world, tmp_path) -> Path:
    paddle.seed(4)
    write_model(tmp_path / "model", Unimo(UnimoConfig(**SIZES), ["pool"]), load_tokenizer(small_world / "vocabulary"))
    return tmp_path / "model"


def measured(folder: Path, model: Path, rows: list[dict], *options: object, baseline: str = "words") -> dict:
    write_jsonl(folder / "examples.jsonl", rows)
    call = ["evaluate", "classify", model, "--baseline", baseline, "--examples", folder / "examples.jsonl", *options]
    done = CliRunner().invoke(main, [*map(str, call), "--output", str(folder / baseline)])
    assert done.exit_code == 0, done.output
    return json.loads((folder / baseline / "metrics.json").read_text())


def rows(small_world: Path, **keys) -> list[dict]:
    """An example for each picture of the small world; each key a function of (colour, thing, number)."""
    found = []
    for number, line in enumerate((small_world / "pairs.jsonl").read_text().splitlines()):
        pair = json.loads(line)
        colour, thing = pair["image_id"].split("-")
        row = {"id": f"e{number}", "split": pair["split"]}
        found.append(row | {key: make(colour, thing, number) for key, make in keys.items()})
    return found


def test_words_tell_a_class_and_what_was_fitted_is_written(small_world, tmp_path, model):
    data = rows(small_world, source=lambda c, t, n: [f"it is {c} today {n}"], target=lambda c, t, n: c)
    colours = sorted({row["target"] for row in data})
    labels = [part for colour in [*colours, "never"] for part in ("--labels", colour)]
    found = measured(tmp_path, model, data, *labels)
    assert found["metrics"]["accuracy"]["value"] == 100.0 and found["task"] == "classify"
    assert found["scoring"]["baseline"] == "words" and found["scoring"]["strength"] > 0
    train = sum(row["split"] == "train" for row in data)
    assert found["seen"] == f"regression on words, fitted to {train} examples"
    said = json.loads((tmp_path / "words" / "predictions.json").read_text())
    assert all(row["prediction"] == row["target"] for row in said)


def test_a_number_and_several_answers(small_world, tmp_path, model):
    worth = {c: float(k) for k, c in enumerate(sorted({r["s"] for r in rows(small_world, s=lambda c, t, n: c)}))}
    data = rows(small_world, source=lambda c, t, n: [f"it is {c}"], target=lambda c, t, n: worth[c])
    found = measured(tmp_path, model, data, "--target", "number")
    assert found["metrics"]["pearson"]["value"] > 99
    answers = rows(small_world, source=lambda c, t, n: [f"it is {c}"], target=lambda c, t, n: {c: 1.0, "other": 0.3})
    labels = [part for name in (*worth, "other") for part in ("--labels", name)]
    (tmp_path / "b").mkdir()
    found = measured(tmp_path / "b", model, answers, "--target", "answers", *labels)
    assert found["metrics"]["accuracy"]["value"] == 100.0


def test_two_texts_are_told_apart_and_what_both_say_counts(small_world, tmp_path, model):
    """The same words in either text mean other things; here no pair has a word in common."""
    said = lambda c, t, n: [f"{c} first", "grey last"] if n % 2 else ["grey first", f"{c} last"]  # noqa: E731
    data = rows(small_world, source=said, target=lambda c, t, n: "odd" if n % 2 else "even")
    found = measured(tmp_path, model, data, "--labels", "odd", "--labels", "even")
    assert found["metrics"]["accuracy"]["value"] == 100.0


def test_the_picture_tells_what_no_word_does(small_world, tmp_path, model):
    """Features of the small world tell the thing; the words are all alike."""
    data = rows(
        small_world,
        source=lambda c, t, n: ["what is it"],
        target=lambda c, t, n: t,
        image_id=lambda c, t, n: f"{c}-{t}",
    )
    labels = [part for thing in sorted({row["target"] for row in data}) for part in ("--labels", thing)]
    pictures = ["--regions", small_world / "regions", *labels]
    blind = measured(tmp_path, model, data, *pictures)["metrics"]["accuracy"]
    seen = measured(tmp_path, model, data, *pictures, baseline="words-and-picture")["metrics"]["accuracy"]
    assert blind["value"] <= blind["chance"] + 1e-6 and seen["value"] > 80 > 2 * blind["value"]
    difference = measured(
        tmp_path, model, data, *pictures, "--against", tmp_path / "words", baseline="words-and-picture"
    )
    (found,) = [d for d in difference["differences"] if d["metric"] == "accuracy"]
    assert found["value"] == pytest.approx(seen["value"] - blind["value"]) and found["low"] > 0


def test_words_of_pictures_without_texts_are_refused(small_world, tmp_path, model):
    data = rows(small_world, target=lambda c, t, n: "ab"[n % 2], image_id=lambda c, t, n: f"{c}-{t}")
    write_jsonl(tmp_path / "examples.jsonl", data)
    call = ["evaluate", "classify", model, "--baseline", "words", "--examples", tmp_path / "examples.jsonl"]
    call += ["--labels", "a", "--labels", "b", "--regions", small_world / "regions", "--output", tmp_path / "out"]
    done = CliRunner().invoke(main, [*map(str, call)])
    assert done.exit_code == 2 and "the examples have no text; take words-and-picture" in done.output


def test_without_scikit_learn_one_line_says_what_to_install(small_world, tmp_path, model):
    data = rows(small_world, source=lambda c, t, n: [c], target=lambda c, t, n: "ab"[n % 2])
    write_jsonl(tmp_path / "examples.jsonl", data)
    program = "import sys; sys.modules['sklearn'] = None; from unimo.cli import main; main()"
    command = [sys.executable, "-c", program, "evaluate", "classify", str(model), "--baseline", "words"]
    command += ["--labels", "a", "--labels", "b"]
    command += ["--examples", str(tmp_path / "examples.jsonl"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "pip install -e .[data]" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "metrics.json").exists()
