"""Pre-training from the command line: losses fall, a stopped run goes on, the checkpoint carries all it needs."""

import json
import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from unimo.cli import main
from unimo.config import ROOT, load
from unimo.engine import checkpoint
from unimo.engine.model_folder import locate, read_model
from unimo.engine.seen import seen_by
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.port import text_encoders
from unimo.port.bert import BERT
from unimo.port.interchange import Checkpoint
from unimo.port.release import write_release
from unimo.port.roberta import ROBERTA
from unimo.port.weights import values_of
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.run import build_model
from unimo.pretrain.systems import PRETRAINING, read_recipe
from unimo.pretrain.unimo import HEADS
from unimo.readers.annotations import read_texts
from unimo.readers.token_shards import TokenShardWriter
from unimo.readers.tokenizer import load_tokenizer


def run(recipe: dict, folder: Path, *arguments: str) -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    output = ["--output", str(folder / "run")]
    result = CliRunner().invoke(main, ["pretrain", str(folder / "recipe.yaml"), *arguments, *output])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]


def test_losses_fall_and_the_checkpoint_is_complete(small_recipe, tmp_path):
    code, output = run(small_recipe, tmp_path, "engine.steps=150", "engine.learning_rate=3e-3", "engine.eval_every=75")
    assert code == 0, output
    records = [r for r in log(tmp_path) if "losses" in r]
    assert len(records) == 150
    for name in small_recipe["weights"]:
        curve = [r["losses"][name] for r in records if name in r["losses"]]
        assert np.mean(curve[-4:]) < 0.98 * np.mean(curve[:4]), name
    model, tokenizer = read_model(locate(tmp_path / "run"))
    assert model.heads == ("pool", "lm", "match", "region_feature", "region_class")
    assert tokenizer.decode(tokenizer.encode("a red cat")) == "a red cat"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["engine"]["steps"] == 150
    evaluations = [r["metrics"]["mean_recall"] for r in log(tmp_path) if "metrics" in r]
    assert len(evaluations) == 2


def test_a_second_run_gives_the_same_numbers_and_a_shorter_one_is_its_start(small_recipe, tmp_path):
    small_recipe["engine"]["schedule"] = "constant"
    for name, steps in (("a", 6), ("b", 6)):
        assert run(small_recipe, tmp_path / name, f"engine.steps={steps}")[0] == 0
    first, second = (
        [([*r["streams"]], r["losses"], r["grad_norm"]) for r in log(tmp_path / name)] for name in ("a", "b")
    )
    assert first == second


def test_token_shards_take_the_place_of_texts_and_a_resumed_run_ends_bit_equal(small_recipe, small_world, tmp_path):
    tokenizer = load_tokenizer(small_recipe["tokenizer"])
    writer = TokenShardWriter(tmp_path / "tokens", tokenizer.fingerprint, tokenizer.vocab_size, {}, shard_tokens=200)
    for number, text in enumerate(read_texts(small_world / "texts.jsonl")):
        writer.add(tokenizer.encode(" ".join([text.text] * (1 + number % 5))))  # up to 50 tokens, of 24 that fit
        if writer.full:
            writer.commit({})
    writer.commit({}, complete=True)
    small_recipe["data"]["texts"] = str(tmp_path / "tokens")
    small_recipe["streams"] = {"text": 1}
    small_recipe["model"]["hidden_dropout_prob"] = 0.1
    for name in ("straight", "stopped"):
        code, output = run(small_recipe, tmp_path / name)
        assert code == 0, output
        assert "stream text: 56 samples" in output
    last = checkpoint.folder_of(tmp_path / "stopped" / "run", 6)
    shutil.rmtree(last)  # as if it had been killed after the save of step 3
    (tmp_path / "stopped" / "run" / "state.json").unlink()
    code, output = run(small_recipe, tmp_path / "stopped")
    assert code == 0 and "step 4/6" in output and "step 3/6" not in output
    for name in (checkpoint.MODEL, checkpoint.OPTIMIZER):
        straight = checkpoint.folder_of(tmp_path / "straight" / "run", 6) / name
        assert (last / name).read_bytes() == straight.read_bytes()
    assert [r["step"] for r in log(tmp_path / "stopped")] == [1, 2, 3, 4, 5, 6]
    small_recipe["tokenizer"] = str(ROOT / "model_files" / "dict")
    code, output = run(small_recipe, tmp_path / "c", "model.vocab_size=50265")
    assert code == 2 and "made with another tokenizer" in output


def test_streams_and_objectives_can_be_switched_off(small_recipe, tmp_path):
    code, output = run(small_recipe, tmp_path, "streams.text=0", "streams.image=0", "weights.cmcl=0", "engine.steps=3")
    assert code == 0, output
    assert {name for r in log(tmp_path) for name in r["losses"]} <= {"mlm", "seq2seq", "region_feature", "region_class"}


def test_a_run_of_another_config_is_refused_and_left_as_it_was(small_recipe, tmp_path):
    assert run(small_recipe, tmp_path)[0] == 0
    before = (tmp_path / "run" / "config.yaml").read_text()
    code, output = run(small_recipe, tmp_path, "contrast.temperature=0.5", "model.hidden_dropout_prob=0.2")
    assert code == 2 and "belongs to another run" in output
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_held_out_pictures_are_refused_in_the_image_stream(small_recipe, tmp_path):
    code, output = run(small_recipe, tmp_path, f"data.images={small_recipe['data']['pairs']}")
    assert code == 2 and "split: Input should be 'train'" in output


def test_a_recipe_names_its_system(small_recipe, tmp_path):
    """Without the key it is UNIMO's; a system without pre-training is refused by name, and so are its keys."""
    code, output = run(small_recipe | {"system": "unimo"}, tmp_path / "named", "engine.steps=1")
    assert code == 0, output
    assert read_recipe(tmp_path / "named" / "run" / "config.yaml").system == "unimo"
    for system in ("oner", "bert"):
        code, output = run(small_recipe, tmp_path / "other", f"system={system}")
        assert code == 2 and f"system: '{system}', expected one of {', '.join(PRETRAINING)}" in output


def test_epochs_count_one_stream_only(small_recipe, tmp_path):
    del small_recipe["engine"]["steps"]
    code, output = run(small_recipe, tmp_path, "engine.epochs=2")
    assert code == 2 and "engine.epochs counts passes over one stream, this run draws from image, pair, text" in output
    code, output = run(small_recipe, tmp_path, "engine.epochs=2", "streams={text: 1}")
    assert code == 0, output
    steps = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["engine"]["steps"]
    assert len(log(tmp_path)) == steps > 2


def test_init_replaces_a_model_folder_and_nothing_else(small_recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe))
    call = ["init", str(tmp_path / "recipe.yaml"), "--output"]
    for _ in range(2):
        assert CliRunner().invoke(main, [*call, str(tmp_path / "model")]).exit_code == 0
    assert seen_by(tmp_path / "model") == ["started at random", "not trained"]
    refused = CliRunner().invoke(main, [*call, str(tmp_path)])
    assert refused.exit_code == 2 and "not a model folder" in refused.output
    assert (tmp_path / "recipe.yaml").exists()


@pytest.mark.parametrize(
    "override, expected",
    [
        ("model.image_embedding_size=20", "16-d features"),
        ("model.image_class_size=5", "set model.image_class_size=9"),
        ("model.vocab_size=10", "set model.vocab_size="),
        ("weights.mlmm=1", "mlmm"),
        ("data.regions=no/where", "no/where does not exist"),
        ("batch_positions.pair=20", "alone takes"),
        ("max_tokens=90", "the model has positions for 38"),
        ("weights={cmcl: 1.0}", "no objective of stream image, text has a weight"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(small_recipe, tmp_path, override, expected):
    code, output = run(small_recipe, tmp_path, override)
    assert code == 2
    assert output.count("error:") == 1 and expected in output
    assert "Traceback" not in output


@pytest.mark.parametrize("library", [BERT, ROBERTA], ids=lambda library: library.model_type)
def test_a_run_starts_from_the_encoder_that_the_recipe_names(library, small_recipe, tmp_path):
    """A BERT or a RoBERTa, told apart by its config.json; what is neither a path nor a name of the zoo is refused."""
    config = UnimoConfig(**small_recipe["model"])
    paddle.seed(8)
    source = Unimo(config, ["lm"])
    text_encoders.write(library, tmp_path / "encoder", Checkpoint("unimo", config, source.heads, values_of(source)))
    small_recipe["initialise_from"] = str(tmp_path / "encoder")
    recipe = load_recipe(small_recipe, tmp_path)
    model = build_model(recipe, load_tokenizer(recipe.tokenizer))
    theirs, ours = dict(source.named_parameters()), dict(model.named_parameters())
    for name in ("word_embedding.weight", "layers.0.attention.qkv.weight", "text_norm.bias", "lm.transform.weight"):
        assert np.array_equal(ours[name].numpy(), theirs[name].numpy()), name
    small_recipe["initialise_from"] = str(tmp_path / "nowhere")
    code, output = run(small_recipe, tmp_path / "b")
    assert code == 2 and "nowhere does not exist, and the zoo has no model" in output


def test_a_start_from_a_file_of_bert_has_the_bits_of_the_seed_and_of_the_file(small_recipe, tmp_path):
    """As the quickstart starts from MiniLM: the random model of the seed, and over it what the file holds, by hand."""
    config = UnimoConfig(**small_recipe["model"])
    paddle.seed(8)
    source = Unimo(config.model_copy(update={"num_hidden_layers": 3}))
    text_encoders.write(BERT, tmp_path / "minilm", Checkpoint("unimo", source.config, (), values_of(source)))
    file = tmp_path / "minilm" / "model.safetensors"
    theirs = load_file(file)
    theirs["embeddings.token_type_embeddings.weight"] += np.random.default_rng(3).random((2, 32), np.float32)
    save_file(theirs, file)
    small_recipe["initialise_from"] = str(file)
    recipe = load_recipe(small_recipe, tmp_path)
    got = dict(build_model(recipe, load_tokenizer(recipe.tokenizer)).named_parameters())

    paddle.seed(recipe.engine.seed)
    wanted = {name: p.numpy().copy() for name, p in Unimo(config, HEADS).named_parameters()}
    wanted["word_embedding.weight"] = theirs["embeddings.word_embeddings.weight"]
    rows = theirs["embeddings.position_embeddings.weight"] + theirs["embeddings.token_type_embeddings.weight"][0]
    wanted["position_embedding.weight"] = np.concatenate([np.zeros((2, 32), np.float32), rows])
    norms = {"text_norm": "embeddings.LayerNorm"}
    for i in range(2):
        layer = f"encoder.layer.{i}"
        qkv = [f"{layer}.attention.self.{kind}" for kind in ("query", "key", "value")]
        wanted[f"layers.{i}.attention.qkv.weight"] = np.concatenate([theirs[f"{n}.weight"].T for n in qkv], 1)
        wanted[f"layers.{i}.attention.qkv.bias"] = np.concatenate([theirs[f"{n}.bias"] for n in qkv])
        for ours, other in (
            ("attention.out", "attention.output.dense"),
            ("feed_forward.inner", "intermediate.dense"),
            ("feed_forward.outer", "output.dense"),
        ):
            wanted[f"layers.{i}.{ours}.weight"] = theirs[f"{layer}.{other}.weight"].T
            wanted[f"layers.{i}.{ours}.bias"] = theirs[f"{layer}.{other}.bias"]
        norms |= {f"layers.{i}.attention_norm": f"{layer}.attention.output.LayerNorm"}
        norms |= {f"layers.{i}.feed_forward_norm": f"{layer}.output.LayerNorm"}
    wanted |= {f"{o}.{kind}": theirs[f"{t}.{kind}"] for o, t in norms.items() for kind in ("weight", "bias")}
    assert got.keys() == wanted.keys()
    for name, array in wanted.items():
        assert np.array_equal(got[name].numpy(), array), name


def test_a_released_unimo_is_trained_on_and_so_is_its_run(small_recipe, tmp_path):
    config = UnimoConfig(**small_recipe["model"])
    paddle.seed(8)
    source = Unimo(config, ["pool", "lm", "match"])
    write_release(tmp_path / "release", Checkpoint("unimo", config, source.heads, values_of(source)))
    small_recipe["initialise_from"] = str(tmp_path / "release")
    recipe = load_recipe(small_recipe, tmp_path)
    ours = dict(build_model(recipe, load_tokenizer(recipe.tokenizer)).named_parameters())
    for name, parameter in source.named_parameters():
        assert np.array_equal(ours[name].numpy(), parameter.numpy()), name
    code, output = run(small_recipe, tmp_path / "a", "engine.steps=2", "engine.save_every=2")
    assert code == 0, output
    assert f"loaded {len(list(source.parameters()))} of {len(ours)} parameters from {tmp_path / 'release'}" in output
    assert "not in the checkpoint, starting at random: region_class, region_feature" in output
    small_recipe["initialise_from"] = str(tmp_path / "a" / "run")
    trained, _ = read_model(locate(tmp_path / "a" / "run"))
    model = build_model(load_recipe(small_recipe, tmp_path), load_tokenizer(recipe.tokenizer))
    for (name, before), after in zip(trained.named_parameters(), model.parameters(), strict=True):
        assert np.array_equal(before.numpy(), after.numpy()), name
    assert run(small_recipe, tmp_path / "b", "engine.steps=1")[0] == 0


def load_recipe(values: dict, folder: Path) -> PretrainRecipe:
    (folder / "start.yaml").write_text(yaml.safe_dump(values))
    return load(PretrainRecipe, folder / "start.yaml")
