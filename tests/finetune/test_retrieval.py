"""Retrieval fine-tuning: the release's pairings, and that training on pictures that tell things apart is learnt."""

import json

import numpy as np
import paddle
import pytest
import yaml
from click.testing import CliRunner

from unimo.cli import main
from unimo.config import validate
from unimo.errors import ConfigError
from unimo.finetune.family import FAMILIES, settings_of
from unimo.finetune.retrieval import RetrievalRecipe, RetrievalStream, RetrievalTask
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.readers import pairings
from unimo.readers.batching import Batch, Stream
from unimo.readers.tokenizer import load_tokenizer

CONFIG = UnimoConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=30, image_embedding_size=16)


@pytest.fixture
def recipe(recipe) -> dict:
    sizes = {"negatives": 3, "max_tokens": 24, "max_regions": 5}
    return recipe | sizes | {"engine": {"steps": 300, "learning_rate": 3e-3, "log_every": 50, "save_every": 300}}


def test_pairings_are_the_positive_then_images_then_captions(small_world, recipe):
    settings = validate(RetrievalRecipe, recipe, "recipe")
    source = RetrievalStream(settings, CONFIG, load_tokenizer(small_world / "vocabulary"))
    n = settings.negatives
    for epoch in range(3):
        for sample in range(len(source.ids)):
            pairings = source._pairings(sample, np.random.default_rng([epoch, sample]))
            own = source.image_rows[sample]
            assert pairings[0] == (sample, own)
            assert all(c == sample and i != own for c, i in pairings[1 : 1 + n])
            assert all(i == own and source.image_rows[c] != own for c, i in pairings[1 + n :])
            assert len(pairings) == 1 + 2 * n
    batch = Stream(source, 8, seed=1, multiple=1).next()
    rows, columns = batch.inputs["text_rows"], batch.inputs["image_rows"]
    assert len(rows) == len(columns) == 8 * (1 + 2 * n)
    assert RetrievalTask(Unimo(CONFIG, ["pool", "match"]), settings).items(batch) == {"circle": 8}
    assert len(batch.inputs["text"]["ids"]) == rows.max() + 1, "each caption is stored once"


def test_calls_without_pads_give_the_loss_and_gradients_of_one_call(small_world, recipe, monkeypatch):
    monkeypatch.setattr(pairings, "CALL", 0)  # else so few pairings are one call
    settings = validate(RetrievalRecipe, recipe, "recipe")
    paddle.seed(3)
    source = RetrievalStream(settings, CONFIG, load_tokenizer(small_world / "vocabulary"))
    task, batch = RetrievalTask(Unimo(CONFIG, ["pool", "match"]), settings), Stream(source, 8, seed=1).next()
    task.eval()  # no dropout
    inputs, places = batch.inputs, batch.inputs["places"]
    plain = {name: value for name, value in inputs.items() if name not in ("calls", "places")}
    plain |= {name: inputs[name][places] for name in ("text_rows", "image_rows")}
    found = []
    for one in (batch, Batch(batch.stream, batch.ids, plain)):
        loss = task(one)["circle"]
        loss.backward()
        found.append((loss.item(), [p.grad.numpy().copy() for p in task.parameters() if p.grad is not None]))
        task.clear_gradients()
    assert len(inputs["calls"]) > 1 and found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    largest = max(np.abs(g).max() for g in found[1][1])
    differing = max(np.abs(a - b).max() for a, b in zip(found[0][1], found[1][1], strict=True))
    assert differing < 3e-6 * largest, "more than float32 sums in another order differ by"


def invoke(*call: object) -> str:
    result = CliRunner().invoke(main, [str(part) for part in call], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_training_is_learnt_and_writes_what_reports_read(small_world, small_recipe, recipe, tmp_path):
    for name, content in (("start.yaml", small_recipe), ("recipe.yaml", recipe)):
        (tmp_path / name).write_text(yaml.safe_dump(content))
    data = ["--pairs", recipe["pairs"], "--regions", recipe["regions"], "--max-regions", 5]
    rewrites = ["--rewrites", small_world / "rewrites.jsonl"]
    invoke("init", tmp_path / "start.yaml", "--output", tmp_path / "start")
    start = ["--model", tmp_path / "start", "--output", tmp_path / "run"]
    invoke("finetune", "retrieval", tmp_path / "recipe.yaml", *start, "--split", "test")
    invoke("evaluate", "retrieval", tmp_path / "run", *data, *rewrites, "--output", tmp_path / "again")
    invoke("evaluate", "retrieval", tmp_path / "run", *data, "--split", "train", "--output", tmp_path / "train")

    trained, again, train = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("run", "again", "train"))
    assert train["captions"] == 40 and train["images"] == 20
    for name in ("image_recall@1", "text_recall@1"):
        assert train["metrics"][name]["low"] > train["metrics"][name]["chance"], train["metrics"][name]
    assert trained["label"] == "fine-tuned" and trained["split"] == "test" and trained["images"] == 6
    assert again["metrics"] == trained["metrics"], "the checkpoint gives the numbers of the model that was trained"
    assert again["provenance"]["versions"]["paddlepaddle"]
    shown = json.loads((tmp_path / "again" / "gallery.json").read_text())
    assert shown["candidates"].keys() == {"original", "paraphrase", "object", "tfidf"}
    first = np.mean([row["top"][0]["hit"] for row in shown["captions"]])
    assert 100 * first == pytest.approx(again["metrics"]["image_recall@1"]["value"])


def test_pictures_of_fine_tuning_are_not_varied(recipe):
    """What a key asks for and nothing does would be a silent difference."""
    with pytest.raises(ConfigError, match="leave out pixels.augmentation"):
        validate(RetrievalRecipe, recipe | {"pixels": {"augmentation": {"flip": 0.5}}}, "the test")
    varied = {"preparation": "release", "shards": ["here"]}
    settings = settings_of(
        FAMILIES["retrieval"].evaluation, {"pairs": "pairs.jsonl", "pixels": varied}, shards=["there"]
    )
    assert settings.preparation == "release" and settings.shards == ("there",), "the run's own, unless another is given"
