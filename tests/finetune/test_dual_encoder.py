"""Training a UNIMO as a dual encoder on the small world: start, losses, one process and two, bad recipes."""

import json
import os
import subprocess

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
import yaml
from click.testing import CliRunner

from unimo.cli import main
from unimo.config import ROOT, validate
from unimo.engine.distributed import World
from unimo.engine.model_folder import read_model, write_model
from unimo.errors import ConfigError, DataError
from unimo.evaluate.gallery import Gallery, RetrievalSettings
from unimo.evaluate.retrieval import mean_recall
from unimo.finetune.dual_encoder import DualEncoderRecipe, DualEncoderStream, DualEncoderTask
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.readers.batching import Stream
from unimo.readers.captions import collate_text
from unimo.readers.tensors import as_regions, as_text
from unimo.readers.tokenizer import load_tokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
SIZES |= {"max_position_embeddings": 30, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SIZES |= {"image_embedding_size": 16, "match_on": "alone", "image_whitening_size": 12}


def network(**changed: object) -> Unimo:
    paddle.seed(4)
    return Unimo(UnimoConfig(**SIZES | changed), ["pool", "match"])


@pytest.fixture
def tokenizer(small_world):
    return load_tokenizer(small_world / "vocabulary")


@pytest.fixture
def recipe(recipe, small_world) -> dict:
    files = {name: str(small_world / f"{name}.jsonl") for name in ("images", "texts", "rewrites")}
    engine = {"steps": 6, "learning_rate": 1e-3, "log_every": 1, "save_every": 6}
    return recipe | files | {"family": "dual_encoder", "max_tokens": 12, "max_regions": 2, "engine": engine}


def opened(recipe: dict, tokenizer, model: Unimo) -> tuple[DualEncoderStream, DualEncoderTask]:
    settings = validate(DualEncoderRecipe, recipe, "test")
    source = DualEncoderStream(settings, model.config, tokenizer)
    return source, DualEncoderTask(model, settings, source)


def dev_recall(model: Unimo, tokenizer, recipe: dict) -> float:
    settings = RetrievalSettings(pairs=recipe["pairs"], regions=recipe["regions"], max_tokens=12, max_regions=2)
    gallery = Gallery(model.config, tokenizer, settings, "train")
    return mean_recall(gallery.scores(model, World()), gallery.captions.rows)


@pytest.mark.parametrize("whitening", [0, 12])
def test_the_start_is_better_than_a_random_one(recipe, tokenizer, whitening):
    random = dev_recall(network(image_whitening_size=whitening), tokenizer, recipe)
    model = network(image_whitening_size=whitening)
    before = {name: p.numpy() for name, p in model.named_parameters()}
    opened(recipe, tokenizer, model)
    assert dev_recall(model, tokenizer, recipe) > random + 0.05  # a gallery of 20; the text side is random, too
    changed = {name.split(".")[0] for name, p in model.named_parameters() if (p.numpy() != before[name]).any()}
    whitened = {"image_whitening"} if whitening else set()
    heads = {"pool_text", "pool_image", "match"}
    assert changed <= {"image_embedding", "image_norm", "box_embedding"} | heads | whitened
    opened(recipe | {"start": "model"}, tokenizer, same := network())
    assert all((p.numpy() == q.numpy()).all() for p, q in zip(same.parameters(), network().parameters()))


def test_the_start_does_not_depend_on_the_whitening_but_for_its_cut(recipe, tokenizer):
    """As many whitened values as features: the same embedding, so the same states."""
    plain, whitened = network(image_whitening_size=0), network(image_whitening_size=16)
    shared = {name: p for name, p in plain.state_dict().items() if not name.startswith("image_embedding")}
    whitened.set_state_dict(shared)
    source, _ = opened(recipe, tokenizer, plain)
    opened(recipe, tokenizer, whitened)
    regions = as_regions(source.images.collate(source.picture_ids[:5]))
    np.testing.assert_allclose(plain.embed_regions(regions), whitened.embed_regions(regions), atol=1e-3)


def test_a_batch_holds_what_each_caption_brings(recipe, tokenizer):
    source, _ = opened(recipe | {"start": "model"}, tokenizer, network())
    batch = Stream(source, 8, seed=1, multiple=1, even=True).next()
    inputs = batch.inputs
    assert len(batch.ids) == 8 and inputs["text"]["ids"].shape[0] == 16 and len(inputs["sentences"]) == 16
    captions = [source.ids.index(i) for i in batch.ids]
    assert inputs["sentences"][:8].tolist() == captions
    assert inputs["pictures"][:8].tolist() == source.own[captions].tolist()
    own = source.images.collate([source.picture_ids[p] for p in inputs["pictures"][:8]])
    np.testing.assert_array_equal(inputs["regions"]["features"][:8, :2], own["features"][:, :2])
    mixed, first = inputs["regions"]["features"][8:], [source.picture_ids[p] for p in inputs["pictures"][8:]]
    assert len(mixed) == len(first) == 32
    assert (mixed[:, :2] != source.images.collate(first)["features"][:, :2]).any(axis=(1, 2)).mean() > 0.8, (
        "but with itself"
    )
    for caption, row, negative in zip(captions, inputs["sentences"][8:], inputs["negatives"]):
        assert negative == (row < source.sentences_start)
        assert not negative or row in source.negatives[caption]
    assert inputs["negatives"].any()


def test_the_losses_are_those_of_plain_formulas(recipe, tokenizer):
    model = network()
    source, task = opened(recipe, tokenizer, model)
    batch = Stream(source, 8, seed=2, multiple=1, even=True).next()
    losses, items = task(batch), task.items(batch)
    assert items == {"image_code": 40, "text_code": 16, "contrast": 8}
    texts = []
    for row in batch.inputs["sentences"]:  # one at a time, without pads
        text = as_text(collate_text([source.sequences[row]], source.pad_id))
        texts.append(model.pool_text.affine(model(text=text).text[:, 0]))
    texts = paddle.concat(texts)
    expected = ((texts.numpy() - task.text_codes[batch.inputs["sentences"]]) ** 2).mean(1).sum()
    assert float(losses["text_code"]) == pytest.approx(expected, rel=1e-4)
    images = model.pool_image.affine(model(regions=as_regions(batch.inputs["regions"])).regions[:, 0])
    score = (
        model.match(
            F.relu(texts).unsqueeze(0).expand([8, -1, -1]).reshape([-1, 32]),
            F.relu(images[:8]).unsqueeze(1).expand([-1, 16, -1]).reshape([-1, 32]),
        )
        .reshape([8, 16])
        .numpy()
        - model.match.affine.bias.numpy()
    )
    own, kept = batch.inputs["pictures"][:8], np.concatenate([np.ones(8, bool), batch.inputs["negatives"]])
    total = 0.0
    for i in range(8):
        columns = [j for j in range(16) if kept[j] and not (j < 8 and j != i and own[j] == own[i])]
        total += np.log(np.exp(score[i, columns]).sum()) - score[i, i]
        rows = [j for j in range(8) if j == i or own[j] != own[i]]
        total += np.log(np.exp(score[rows, i]).sum()) - score[i, i]
    assert float(losses["contrast"]) == pytest.approx(total / 2, rel=1e-4)


def test_it_trains_by_the_command_and_two_processes_are_one(recipe, tokenizer, tmp_path):
    write_model(tmp_path / "start", network(), tokenizer)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    logs = []
    for processes in (1, 2):
        command = ["bash", ROOT / "run_scripts" / "launch.sh", "finetune", tmp_path / "recipe.yaml"]
        command += ["--model", tmp_path / "start", "--output", tmp_path / str(processes)]
        environment = {**os.environ, "NPROC": str(processes), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        lines = (tmp_path / str(processes) / "log.jsonl").read_text().splitlines()
        logs.append([json.loads(line)["losses"] for line in lines if "losses" in json.loads(line)])
    assert len(logs[0]) == 6
    for one, two in zip(*logs):
        for name, value in one.items():
            assert two[name] == pytest.approx(value, rel=1e-4), name
    metrics = json.loads((tmp_path / "1" / "metrics.json").read_text())
    assert metrics["task"] == "retrieval" and metrics["scoring"]["runtime"] == "dygraph"
    assert json.loads((tmp_path / "1" / "gallery.json").read_text())["candidates"]["original"]
    trained, _ = read_model(next((tmp_path / "1" / "checkpoints").glob("step_*")))
    assert trained.config.match_on == "alone"


def test_ridge_is_a_row_beside_it(recipe, tokenizer, tmp_path, small_world):
    write_model(tmp_path / "start", network(), tokenizer)
    call = ["evaluate", "retrieval", tmp_path / "start", "--pairs", recipe["pairs"], "--regions", recipe["regions"][0:]]
    call += [
        "--rewrites",
        recipe["rewrites"],
        "--baseline",
        "ridge",
        "--label",
        "ridge",
        "--output",
        tmp_path / "ridge",
    ]
    done = CliRunner().invoke(main, [str(word) for word in call])
    assert done.exit_code == 0, done.output
    assert "by ridge regression fitted to 40 captions" in done.output
    metrics = json.loads((tmp_path / "ridge" / "metrics.json").read_text())
    assert metrics["seen"] == "ridge regression fitted to 40 captions"
    assert metrics["scoring"]["baseline"] == "ridge" and metrics["scoring"]["penalty"] > 0
    recalls = [m["value"] - m["chance"] for m in metrics["metrics"].values()]
    assert np.mean(recalls) > 10, "features tell thing and colour"


@pytest.mark.parametrize(
    ("changed", "model", "error", "says"),
    [
        ({}, {"match_on": "joint"}, ConfigError, "match_on: alone"),
        ({"texts": None, "rewrites": None}, {}, None, ""),
        ({"mixture": 0.8}, {}, ConfigError, "mixture"),
        ({"pairs": "few"}, {}, DataError, "at least ten training pictures"),
    ],
)
def test_what_does_not_fit_is_said(recipe, tokenizer, tmp_path, small_world, changed, model, error, says):
    if changed.get("pairs"):
        lines = (small_world / "pairs.jsonl").read_text().splitlines()[:5]
        (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
        changed = {"pairs": str(tmp_path / "pairs.jsonl"), "rewrites": None}
    if error is None:
        source, task = opened(recipe | changed, tokenizer, network(**model))
        batch = Stream(source, 8, seed=2, multiple=1, even=True).next()
        assert task.items(batch)["text_code"] == 8 and float(task(batch)["contrast"]) > 0
        return
    with pytest.raises(error, match=says):
        opened(recipe | changed, tokenizer, network(**model))
