"""UNIMO-2's pre-training: what the streams draw, that it learns, resumes to the bit, and tells what is wrong."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image as Picture

from unimo.cli import main
from unimo.config import validate
from unimo.engine import checkpoint
from unimo.engine.model_folder import locate, read_model
from unimo.models.unimo2 import Unimo2
from unimo.pretrain.unimo2 import build_sources, build_task, heads_of
from unimo.pretrain.unimo2_recipe import Unimo2Recipe
from unimo.readers.annotations import write_jsonl
from unimo.readers.batching import Stream
from unimo.readers.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def drawn(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small set with pictures that show it: a square in one of eight places for the thing, in its colour."""
    folder = tmp_path_factory.mktemp("drawn")
    shades = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 220), "white": (250, 250, 250)}
    for name in ("pairs", "images", "texts"):
        (folder / f"{name}.jsonl").write_bytes((small_world / f"{name}.jsonl").read_bytes())
    pairs = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    things = sorted({pair["image_id"].split("-")[1] for pair in pairs})
    for pair in pairs:
        colour, thing = pair["image_id"].split("-")
        picture, place = np.full((32, 32, 3), 120, np.uint8), things.index(thing)
        y, x = 2 + 16 * (place // 4), 8 * (place % 4)
        picture[y : y + 12, x : x + 8] = shades[colour]
        Picture.fromarray(picture).save(folder / pair["image"])
    return folder


@pytest.fixture
def recipe(small_recipe: dict, drawn: Path) -> dict:
    """A tiny model of pixels on the small set."""
    model = {
        "hidden_size": 32,
        "text_vocab_size": small_recipe["model"]["vocab_size"],
        "text_max_position_embeddings": 40,
        "image_size": 32,
        "resolution": 16,
        "num_codebook": 24,
        "topk_value": 4,
    }
    for stack in ("", "text_", "vit_"):
        model |= {f"{stack}num_hidden_layers": 1, f"{stack}num_attention_heads": 4}
        model |= {f"{stack}hidden_dropout_prob": 0.0, f"{stack}attention_probs_dropout_prob": 0.0}
    return {
        "system": "unimo-2",
        "model": model,
        "tokenizer": small_recipe["tokenizer"],
        "data": {name: str(drawn / f"{name}.jsonl") for name in ("pairs", "images", "texts")},
        "streams": {"text": 1, "image": 1, "pair": 2},
        "batch_positions": {"text": 128, "image": 64, "pair": 256},
        "max_tokens": 24,
        "weights": {"mlm": 1.0, "match": 1.0, "contrast": 1.0, "dictionary": 1.0, "code": 0.1, "view": 0.5},
        "engine": {"steps": 8, "learning_rate": 1e-3, "log_every": 1, "save_every": 4},
    }


def run(recipe: dict, folder: Path, *overrides: str) -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = ["pretrain", str(folder / "recipe.yaml"), *overrides, "--output", str(folder / "run")]
    result = CliRunner().invoke(main, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def log(folder: Path) -> list[dict]:
    return [json.loads(line, object_hook=untimed) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]


def untimed(record: dict) -> dict:
    return {k: v for k, v in record.items() if k not in ("seconds", "items_per_s")}


def test_losses_fall_and_retrieval_is_measured_on_the_way(recipe, tmp_path):
    code, output = run(recipe, tmp_path, "engine.steps=160", "engine.learning_rate=3e-3", "engine.eval_every=80")
    assert code == 0, output
    records = [r for r in log(tmp_path) if "losses" in r]
    for name in ("mlm", "contrast", "view", "code"):
        curve = [r["losses"][name] for r in records if name in r["losses"]]
        assert np.mean(curve[-8:]) < np.mean(curve[:8]), name
    observed = records[-1]["observed"]
    assert 4 <= observed["live_codes"] <= 24 and observed["code_entropy"] <= np.log2(24)
    assert 0.001 <= observed["contrast_temperature"] <= 0.5 and observed["code_temperature"] != 100
    assert sum("mean_recall" in r.get("metrics", {}) for r in log(tmp_path)) == 2
    model, tokenizer = read_model(locate(tmp_path / "run"), ("unimo-2",))
    assert model.heads == ("pool", "match", "cmcl", "lm", "code") and tokenizer.encode("a red cat")
    features = json.loads((locate(tmp_path / "run") / "features.json").read_text())
    assert features == {"pixels": "upright"}


@pytest.mark.parametrize("revive_every", [0, 3])
def test_a_resumed_run_ends_bit_equal(recipe, tmp_path, revive_every):
    recipe["model"] |= {"num_codebook": 200} if revive_every else {}
    recipe["revive_every"] = revive_every
    recipe["pixels"] = {"augmentation": {"crop": 0.5, "jitter": 0.2}}
    recipe["engine"] |= {"log_every": 3, "keep_last": 9}
    assert run(recipe, tmp_path / "whole", "engine.steps=11")[0] == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for folder in (tmp_path / "part" / "run" / "checkpoints").iterdir():
        if folder.is_dir() and not folder.name.endswith("4"):
            shutil.rmtree(folder)
    code, output = run(recipe, tmp_path / "part", "engine.steps=11")
    assert code == 0 and "resuming from step 4" in output
    files = ("model.safetensors", "optimizer.safetensors", "task.safetensors")
    ends = [checkpoint.find_latest(tmp_path / name / "run") for name in ("whole", "part")]
    for name in files:
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes(), name
    whole, part = (log(tmp_path / name) for name in ("whole", "part"))
    assert whole[-2:] == part[-2:], "losses and what is observed"
    assert (whole[-1]["observed"].get("revived_codes", 0) > 0) == bool(revive_every)


def test_codes_that_nobody_chose_start_anew_where_tokens_are(recipe):
    recipe["revive_every"] = 2
    checked, sources = opened(recipe)
    paddle.seed(6)
    task = build_task(Unimo2(checked.model, heads_of(checked)), checked)
    dictionary, before = task.model.dictionary, task.model.dictionary.codes.numpy().copy()
    stream = Stream(sources["pair"], 256, seed=1)
    task.train()
    task.forward(stream.next())
    task.after_update(1)
    assert (dictionary.codes.numpy() == before).all(), "not yet"
    batch = stream.next()
    task.forward(batch)
    chosen = np.flatnonzero(task.revival.use.counts.numpy())
    task.after_update(2)
    after, dead = dictionary.codes.numpy(), np.setdiff1d(np.arange(24), chosen)
    assert len(dead) and (after[chosen] == before[chosen]).all() and (after[dead] != before[dead]).any(axis=1).all()
    lengths = np.linalg.norm(after[dead], axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(before[chosen], axis=1).mean(), rtol=1e-5)
    tokens = task.revival._tokens.numpy()
    cosines = (after[dead] / lengths[:, None]) @ (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).T
    np.testing.assert_allclose(cosines.max(1), 1, rtol=1e-5)
    assert task.observed()["revived_codes"] == len(dead) and not task.revival.use.counts.any()
    task.forward(batch)
    assert set(np.flatnonzero(task.revival.use.counts.numpy())) & set(dead), "some of them are chosen now"


GOLDEN = Path(__file__).with_name("unimo2_losses.json")


def test_the_first_twenty_losses_are_the_recorded_ones(recipe, tmp_path):
    """To 1e-4: a change of what is drawn or computed shows. `UNIMO_RECORD=1 pytest THIS` writes them anew."""
    assert run(recipe, tmp_path, "engine.steps=20")[0] == 0
    found = [{name: round(loss, 6) for name, loss in r["losses"].items()} for r in log(tmp_path)]
    assert len(found) == 20
    if os.environ.get("UNIMO_RECORD"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    recorded = json.loads(GOLDEN.read_text())
    for number, (ours, theirs) in enumerate(zip(found, recorded, strict=True)):
        assert ours == pytest.approx(theirs, abs=1e-4), f"update {number + 1}"


def test_two_processes_train_as_one(recipe, tmp_path):
    """Losses over all rows of both, with padding that depends on the process: only without votes of pads."""
    from engine.launched import launch

    recipe["model"]["padding_votes"] = False
    recipe["engine"] |= {"steps": 4, "reader_threads": 0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for number in (1, 2):
        words = ["pretrain", str(tmp_path / "recipe.yaml"), "batch_multiple=8"]
        process = launch(words, tmp_path / f"by{number}", {"NPROC": str(number)})
        assert process.wait(180) == 0, process.out.read_text()
    one, two = (
        [json.loads(line)["losses"] for line in (tmp_path / f"by{number}" / "log.jsonl").read_text().splitlines()]
        for number in (1, 2)
    )
    assert len(one) == 4
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=2e-5), "gradients move later losses by their rounding"
    assert one[0] == pytest.approx(two[0], rel=1e-6)


def opened(recipe: dict) -> tuple[Unimo2Recipe, dict]:
    checked = validate(Unimo2Recipe, recipe, "the test")
    return checked, build_sources(checked, load_tokenizer(recipe["tokenizer"]))


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, k]) for k in range(count)]


def test_some_captions_are_paired_with_another_picture_too(recipe):
    """About the share asked for, always a picture of another caption; words are predicted for pairs that fit."""
    recipe["mismatched"] = 0.4
    _, sources = opened(recipe)
    stream, source = Stream(sources["pair"], 256, seed=1, even=True), sources["pair"]
    shares = []
    for _ in range(60):
        batch = stream.next()
        text, rows = batch.inputs["text"], batch.inputs.get("others", {"captions": []})["captions"]
        count = len(batch.ids)
        shares.append(len(rows) / count)
        own = [source.image_ids[source.ids.index(i)] for i in batch.ids]
        images = batch.inputs["pixels"]["images"]
        assert (source.images.collate(own)["images"] == images[:count]).all() and len(images) == count + len(rows)
        assert all((images[count + k] != images[row]).any() for k, row in enumerate(rows))
        assert set(text["words"] // text["ids"].shape[1]) == set(range(count)), "every caption has a hidden word"
    assert 0.33 < np.mean(shares) < 0.47


def test_batches_do_not_depend_on_the_number_of_processes(recipe):
    _, sources = opened(recipe)
    for name in ("pair", "image"):
        whole = Stream(sources[name], 256, seed=3, even=True).next()
        parts = [Stream(sources[name], 256, seed=3, rank=rank, world=2, even=True).next() for rank in (0, 1)]
        assert [i for pair in zip(*(p.ids for p in parts)) for i in pair] == whole.ids[: 2 * len(parts[0].ids)]
        if name == "pair":
            none = {"captions": []}
            rows = [2 * row + rank for rank, p in enumerate(parts) for row in p.inputs.get("others", none)["captions"]]
            both = whole.inputs.get("others", none)["captions"]
            assert sorted(rows) == [row for row in both if row < 2 * len(parts[0].ids)]


def test_views_of_a_picture_differ_and_are_its_own(recipe):
    _, sources = opened(recipe)
    batch = sources["image"].batch(np.arange(6), rngs(6), None)
    images = batch.inputs["pixels"]["images"]
    assert images.shape == (12, 3, 32, 32) and batch.inputs["codes"]["masked"].shape == (12, 4)
    assert (images[:6] != images[6:]).any((1, 2, 3)).all()
    again = sources["image"].batch(np.arange(6), rngs(6), None).inputs["pixels"]["images"]
    assert (images == again).all()


def test_a_broken_picture_is_left_out_with_its_caption(recipe, drawn, tmp_path):
    pairs = [json.loads(line) for line in Path(recipe["data"]["pairs"]).read_text().splitlines()]
    for pair in pairs:
        pair["image"] = str(drawn / pair["image"])
    broken = next(pair for pair in pairs if pair["split"] == "train")
    broken["image"] = str(tmp_path / "broken.png")
    Path(broken["image"]).write_bytes(b"no picture")
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    recipe["data"] = recipe["data"] | {"pairs": str(tmp_path / "pairs.jsonl")}
    recipe["weights"]["match"] = 0.0
    recipe["mismatched"] = 0.0
    _, sources = opened(recipe)
    source = sources["pair"]
    place = source.image_ids.index(broken["image_id"])
    batch = source.batch(np.array([place, place + 1]), rngs(2), None)
    assert batch.ids == [source.ids[place + 2]] * 2 and "others" not in batch.inputs
    code, output = run(recipe, tmp_path / "training")
    assert code == 0 and f"image '{broken['image_id']}' cannot be decoded" in output
    listed = [json.loads(line) for line in (tmp_path / "training" / "run" / "broken.jsonl").read_text().splitlines()]
    assert [record["id"] for record in listed] == [broken["image_id"]]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"grounding_method": "none"}}, set()),
        ({"model": {"grounding_method": "normal"}}, {"dictionary"}),
        ({"model": {"open_bridge": True}}, {"dictionary"}),
    ],
)
def test_variants_are_one_key(recipe, change, named):
    recipe["model"] |= change["model"]
    recipe["weights"]["code"] = 0.0
    checked, sources = opened(recipe)
    model = Unimo2(checked.model, heads_of(checked))
    task = build_task(model, checked)
    for name, source in sources.items():
        batch = source.batch(np.arange(8), rngs(8), np.random.default_rng(0))
        losses = task(batch)
        assert losses.keys() == task.items(batch).keys() and ("dictionary" in losses) == bool(named), name
        sum(losses.values()).backward()
        assert all(np.isfinite(float(loss)) for loss in losses.values())
    assert model.vit.patch.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": {"mlm": 1.0}}, "no objective of stream image has a weight; give one of code, dictionary, view"),
        ({"data": {"texts": None}}, "stream text needs data.texts"),
        ({"batch_positions": {"pair": 256}}, "stream image needs batch_positions.image"),
        ({"model": {"image_size": 40}}, "image_size \\(40\\) is no multiple of a patch, resolution \\(16\\)"),
        ({"model": {"topk_value": 25}}, "topk_value \\(25\\) is more than num_codebook \\(24\\)"),
        ({"views": {"crop": 1.0, "flip": 0.0, "jitter": 0.0}}, "views that do not differ teach nothing"),
        ({"model": {"grounding_method": "normal"}}, "code masks a set of topk_value codes"),
        ({"mismatched": 0.0}, "matching needs pairs that do not fit"),
        ({"max_tokens": 50}, "max_tokens is 50, the model has positions for 38"),
        ({"normalised": "all"}, "normalised: Input should be 'image', 'neither' or 'both', got 'all'"),
        ({"pixels": {"shards": ["nowhere"]}}, "nowhere does not exist"),
    ],
)
def test_wrong_recipes_are_told(recipe, tmp_path, changes, said):
    for key, value in changes.items():
        mend = key in ("data", "model")
        recipe[key] = recipe.get(key, {}) | value if mend else value
    code, output = run(recipe, tmp_path)
    assert code == 2 and re.search(said, output), output


def test_texts_given_to_the_stream_of_pairs_are_told(recipe, drawn, tmp_path):
    recipe["data"]["pairs"] = str(drawn / "texts.jsonl")
    code, output = run(recipe, tmp_path)
    assert code == 2 and "texts.jsonl" in output and "key 'captions' is missing" in output
    assert not (tmp_path / "run").exists()


def test_a_start_may_be_a_whole_model(recipe, tmp_path):
    """Of two encoders: tests/port/test_start_of_two.py."""
    checked, _ = opened(recipe)
    recipe["initialise_from"] = ["nowhere-at-all"]
    code, output = run(recipe, tmp_path)
    assert code == 2 and "nowhere-at-all" in output
    paddle.seed(5)
    whole = Unimo2(checked.model, heads_of(checked))
    from unimo.engine.model_folder import write_model

    write_model(tmp_path / "start", whole, load_tokenizer(recipe["tokenizer"]))
    recipe["initialise_from"] = str(tmp_path / "start")
    code, output = run(recipe, tmp_path / "from", "engine.steps=1", "engine.learning_rate=1e-9")
    assert code == 0, output
    trained, _ = read_model(locate(tmp_path / "from" / "run"), ("unimo-2",))
    assert np.abs(trained.vit.patch.weight.numpy() - whole.vit.patch.weight.numpy()).max() < 1e-6


def test_without_matching_no_other_pictures_are_read(recipe):
    recipe["weights"]["match"] = 0.0
    _, sources = opened(recipe)
    batch = sources["pair"].batch(np.arange(20), rngs(20), None)
    assert "others" not in batch.inputs and len(batch.inputs["pixels"]["images"]) == 20
