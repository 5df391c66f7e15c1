"""`unimo port convert`, `inspect` and `diff` over every format, as a user runs them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from unimo.cli import main
from unimo.config import ROOT
from unimo.engine.model_folder import read_description
from unimo.models.faster_rcnn import FasterRCNNConfig
from unimo.models.systems import SYSTEMS, skeleton
from unimo.models.unimo import UnimoConfig
from unimo.models.unimo2 import Unimo2Config
from unimo.port import ours
from unimo.port.formats import FORMATS, detect
from unimo.port.interchange import Checkpoint, Options
from unimo.port.weights import of_array, shapes_of
from unimo.readers.tokenizer import load_tokenizer

FIXTURE = Path(__file__).parents[1] / "fixtures" / "parity" / "unimo"
# What of a model each format carries, by the start of our parameter names.
TEXT = ("word_embedding", "position_embedding", "text_norm", "layers")
CARRIES = {
    **dict.fromkeys(("unimo", "safetensors", "pdparams", "release", "release-combined"), ("",)),
    **dict.fromkeys(("paddlenlp", "roberta", "bert"), (*TEXT, "lm")),
    **dict.fromkeys(("vit-hf", "vit-timm", "vit-npz"), ("vit.",)),
    "frcnn-lxmert": ("",),
}
FILES = {"safetensors": "model.safetensors", "pdparams": "model.pdparams", "release-combined": "all_variables"}
FILES |= {"vit-npz": "vit.npz", "vit-timm": "vit.safetensors"}


def run(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """A model folder of some systems, random, those of text with the release's tokenizer."""
    root, rng = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    unimo = UnimoConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, layer_norm_eps=1e-5)
    layers = {f"{s}num_hidden_layers": 1 for s in ("", "text_", "vit_")}
    heads = {f"{s}num_attention_heads": 1 for s in ("", "text_", "vit_")}
    unimo2 = Unimo2Config(hidden_size=64, **layers, **heads, num_codebook=12, topk_value=12)
    folders = {}
    detector = FasterRCNNConfig(depth=50, width=1, stem_size=2, rpn_size=2, num_classes=3, num_attributes=2)
    for system, config, held in (
        ("unimo", unimo, ("pool", "lm", "match")),
        ("unimo-2", unimo2, ("pool", "lm")),
        ("bottom-up-attention", detector, ()),
    ):
        shapes = shapes_of(skeleton(system, config, held))
        tensors = {name: of_array(rng.standard_normal(shape, dtype=np.float32)) for name, shape in shapes.items()}
        tokenizer = load_tokenizer(ROOT / "model_files" / "dict") if held else None
        folders[system] = root / system
        ours.write_folder(folders[system], Checkpoint(system, config, held, tensors, tokenizer))
    return folders


def test_every_format_is_tried():
    assert set(CARRIES) == set(FORMATS)


@pytest.mark.parametrize("form", CARRIES)
def test_there_and_back_is_bit_equal(form, models, tmp_path):
    """Our folder -> the format -> our folder: what the format carries has the same bits, the rest is named."""
    system = {"vit": "unimo-2", "frcnn": "bottom-up-attention"}.get(form.split("-")[0], "unimo")
    there, back = tmp_path / FILES.get(form, form), tmp_path / "back"
    run("port", "convert", models[system], there, "--to", form)
    options = ["--config", models[system] / "config.json"] if form == "release-combined" else []
    options += ["--system", system] if form.startswith("vit") else []
    if form == "vit-timm":  # which keeps no number of heads
        (tmp_path / "config.json").write_text('{"num_attention_heads": 1}')
    assert detect(there) == form
    output = run("port", "convert", there, back, *options)
    before, after = (load_file(folder / "model.safetensors") for folder in (models[system], back))
    for name in set(after) - set(before):  # a table that these always have
        assert form in ("paddlenlp", "bert") and name == "type_embedding.weight" and not after.pop(name).any()
    carried = [name for name in after if name.startswith(CARRIES[form])]
    assert carried
    for name in carried:
        a, b = before[name], after[name]
        if name.startswith("position_embedding") and form in ("paddlenlp", "bert"):
            a, b = a[2:], b[2:]  # rows that no real token has; these libraries have none
        np.testing.assert_array_equal(a, b, err_msg=name)
    random = {name.split(".")[0] for name in after if name not in carried}
    assert all(part in output for part in random), output


def test_a_folder_and_a_file_are_told_alike(models, tmp_path):
    run("port", "convert", models["unimo-2"], tmp_path / "model.safetensors", "--to", "vit-timm")
    (tmp_path / "config.json").write_text('{"num_attention_heads": 1}')
    assert detect(tmp_path) == detect(tmp_path / "model.safetensors") == "vit-timm"
    run("port", "convert", models["unimo"], tmp_path / "bert", "--to", "bert")
    assert detect(tmp_path / "bert" / "model.safetensors") == "bert"
    output = run("port", "convert", tmp_path, tmp_path / "oner", "--system", "oner")
    assert "starting at random (seed 1): projection, tower.text_position, tower.word_embedding" in output


@pytest.mark.parametrize("streams", ["cap", "img", "txt", "vl"])
def test_a_release_of_any_streams_is_told(streams):
    assert detect(FIXTURE.parent / "unimo2_forward" / f"checkpoint_{streams}") == "release"


def test_a_base_model_gives_what_the_source_lacks(models, tmp_path):
    """A ViT and a RoBERTa are put together into one UNIMO-2."""
    run("port", "convert", models["unimo"], tmp_path / "roberta", "--to", "roberta")
    run("port", "convert", models["unimo-2"], tmp_path / "vit", "--to", "vit-hf")
    base = tmp_path / "base"
    output = run("port", "convert", tmp_path / "roberta", base, "--base", models["unimo-2"])
    assert "from the base model: dictionary, grounded, pool_image, pool_text, vit" in output
    output = run("port", "convert", tmp_path / "vit", tmp_path / "whole", "--base", base)
    assert "from the base model: dictionary, grounded, lm, pool_image, pool_text, text" in output
    system, _, heads = read_description(tmp_path / "whole")
    assert (system, heads) == ("unimo-2", ("pool", "lm"))
    got, text, rest = (
        load_file(f / "model.safetensors") for f in (tmp_path / "whole", models["unimo"], models["unimo-2"])
    )
    for name, tensor in got.items():
        source = rest[name]
        if name.startswith(("text.", "lm.")):
            source = text[name.replace("text.norm", "text_norm").removeprefix("text.")]
        np.testing.assert_array_equal(tensor, source, err_msg=name)


def test_what_is_missing_starts_at_random_by_the_seed(models, tmp_path):
    run("port", "convert", models["unimo"], tmp_path / "bert", "--to", "bert")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        output = run("port", "convert", tmp_path / "bert", tmp_path / name, "--seed", seed)
        assert f"starting at random (seed {seed}): box_embedding, image_embedding, image_norm" in output
    a, b, c = (load_file(tmp_path / n / "model.safetensors")["image_embedding.weight"] for n in "abc")
    np.testing.assert_array_equal(a, b)
    assert 0.01 < c.std() < 0.03 and not np.array_equal(a, c)


def test_release_folder_to_a_folder_with_a_tokenizer(models, tmp_path):
    run("port", "convert", models["unimo"], tmp_path / "release", "--to", "release")
    output = run("port", "convert", tmp_path / "release", tmp_path / "m")
    assert "release, unimo" in output
    assert not (tmp_path / "m" / "tokenizer.json").exists()
    vocabulary = ROOT / "model_files" / "dict"
    run("port", "convert", tmp_path / "release", tmp_path / "n", "--tokenizer", vocabulary)
    assert load_tokenizer(tmp_path / "n").vocab_size == 50265
    arguments = (FIXTURE / "checkpoint", tmp_path / "o", "--config", FIXTURE / "config.json", "--tokenizer", vocabulary)
    assert "has 50265 tokens, the word table 120 rows" in run("port", "convert", *arguments, code=2)


def test_what_no_shape_shows_must_be_the_base_models(models, tmp_path):
    run("port", "convert", models["unimo"], tmp_path / "bert", "--to", "bert")
    weights = tmp_path / "bert" / "model.safetensors"
    tensors = load_file(weights)
    tensors["bert.embeddings.token_type_embeddings.weight"][0] = 1
    save_file(tensors, weights)
    run("port", "convert", tmp_path / "bert", tmp_path / "laid", "--base", models["unimo"])
    before, after = (
        load_file(f / "model.safetensors")["position_embedding.weight"] for f in (models["unimo"], tmp_path / "laid")
    )
    np.testing.assert_array_equal(after[2:], before[2:] + 1)  # the base has no types: row 0 is in the positions
    config = tmp_path / "bert" / "config.json"
    config.write_text(config.read_text().replace('"gelu"', '"relu"'))
    output = run("port", "convert", tmp_path / "bert", tmp_path / "relu", "--base", models["unimo"], code=2)
    assert "hidden_act: 'relu', expected 'gelu'" in output
    run("port", "convert", tmp_path / "bert", tmp_path / "relu")
    output = run("port", "convert", tmp_path / "relu", tmp_path / "x", "--base", models["unimo"], code=2)
    assert "hidden_act: relu, expected gelu" in output and "type_vocab_size: 2, expected 0" in output


def test_options_that_a_source_cannot_follow(models, tmp_path):
    for arguments, message in (
        (("--to", "safetensors", "--optimizer"), "safetensors cannot hold moments"),
        (("--base", models["unimo"], "--optimizer"), "do not go together"),
        (("--optimizer",), "holds no optimizer.safetensors"),
        (("--system", "unimo-2"), "is of unimo, not of unimo-2"),
        (("--base", models["unimo-2"]), "is of unimo; it cannot be laid over a model of unimo-2"),
    ):
        assert message in run("port", "convert", models["unimo"], tmp_path / "x", *arguments, code=2)


def test_inspect_names_format_size_and_statistics(models, tmp_path):
    output = run("port", "inspect", models["unimo"])
    assert "unimo (a model folder or run of this toolkit)" in output and "a size of its own" in output
    assert "heads: pool, lm, match" in output
    line = next(line for line in output.splitlines() if line.startswith("word_embedding.weight"))
    assert "[50265, 64]" in line and "float32" in line
    output = run("port", "inspect", FIXTURE / "checkpoint", "--config", FIXTURE / "config.json")
    assert "release (the releases' folder" in output and "encoder_layer_0_ffn_fc_0.w_0" in output


@pytest.mark.parametrize("size", ["unimo_base", "unimo_tiny", "unimo2_tiny"])
def test_inspect_finds_the_shipped_size(size, tmp_path):
    from unimo.config import load
    from unimo.port.inspection import _shipped_sizes

    system = {"unimo": "unimo", "unimo2": "unimo-2"}[size.split("_")[0]]
    config = load(SYSTEMS[system].config, ROOT / "model_configs" / "models" / f"{size}.yaml")
    assert size in _shipped_sizes(system, config)


def test_inspect_reports_what_is_not_finite(models, tmp_path):
    tensors = load_file(models["unimo"] / "model.safetensors")
    tensors["text_norm.bias"][[3, 5]] = np.nan, np.inf
    save_file(tensors, tmp_path / "m.safetensors")
    output = run("port", "inspect", tmp_path / "m.safetensors", "--config", models["unimo"] / "config.json")
    assert "values that are not finite: text_norm.bias (2)" in output


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stop_a_conversion(value, models, tmp_path):
    tensors = load_file(models["unimo"] / "model.safetensors")
    tensors["layers.0.attention.qkv.bias"][[3, 70]] = value
    save_file(tensors, tmp_path / "m.safetensors")
    sizes = ("--config", models["unimo"] / "config.json")
    for form in ("unimo", "release", "pdparams"):
        output = run("port", "convert", tmp_path / "m.safetensors", tmp_path / "to", "--to", form, *sizes, code=2)
        assert "2 of 192 values are not finite" in output or "1 of 64 values are not finite" in output
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors"]


def test_diff_within_and_across_formats(models, tmp_path):
    run("port", "convert", models["unimo"], tmp_path / "release", "--to", "release")
    assert "45 tensors are bit-equal" in run("port", "diff", models["unimo"], tmp_path / "release")
    tensors = load_file(models["unimo"] / "model.safetensors")
    tensors["match.affine.bias"] += np.float32(0.5)
    tensors["text_norm.bias"] = tensors["text_norm.bias"][:3]
    tensors["new"] = tensors.pop("text_norm.weight")
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(load_file(models["unimo"] / "model.safetensors"), tmp_path / "b.safetensors")
    output = run("port", "diff", tmp_path / "a.safetensors", tmp_path / "b.safetensors", code=1)
    for part in (
        "a.safetensors: new [64]",
        "b.safetensors: text_norm.weight",
        "match.affine.bias: largest difference 5",
        "text_norm.bias: shape [3] and [64]",
        "42 tensors are bit-equal, 4 differ",
    ):
        assert part in output


def test_diff_of_tables_that_a_library_keeps_the_other_way_round(models, tmp_path):
    run("port", "convert", models["unimo-2"], tmp_path / "vit", "--to", "vit-hf")
    run("port", "convert", models["unimo-2"], tmp_path / "vit.npz", "--to", "vit-npz")
    assert "18 tensors are bit-equal\n" in run("port", "diff", tmp_path / "vit", tmp_path / "vit.npz")


def test_diff_of_arrays_of_any_rank_and_order(tmp_path):
    arrays = {"scalar": np.float32(3), "empty": np.zeros([0, 3]), "columns": np.asfortranarray(np.ones([2, 3]))}
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **arrays, nan=np.float32("nan"))
    assert "4 tensors are bit-equal" in run("port", "diff", tmp_path / "a.npz", tmp_path / "b.npz")


def test_tensors_of_no_known_model(tmp_path):
    """They have no format, but names, shapes and values."""
    for name in ("a", "b"):
        save_file({"encoder.0": np.ones([2, 3], np.float32)}, tmp_path / f"{name}.safetensors")
    assert "1 tensors are bit-equal" in run("port", "diff", tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    output = run("port", "inspect", tmp_path / "a.safetensors")
    assert "tensors of no known model" in output and "[2, 3]" in output


def test_bad_requests_have_one_clear_error(models, tmp_path):
    assert "unknown format onnx" in run("port", "convert", models["unimo"], tmp_path / "x", "--to", "onnx", code=2)
    assert "unknown format onnx" in run("port", "inspect", models["unimo"], "--from", "onnx", code=2)
    assert "does not exist" in run("port", "convert", tmp_path / "none", tmp_path / "x", code=2)
    (tmp_path / "odd").write_bytes(b"what is this")
    assert "name it by --from of" in run("port", "inspect", tmp_path / "odd", code=2)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("mine")
    output = run("port", "convert", models["unimo"], tmp_path / "taken", code=2)
    assert "is not a model folder" in output and (tmp_path / "taken" / "thesis.tex").exists()
    save_file({"a.b": np.zeros(3, np.float32)}, tmp_path / "weights.safetensors")
    output = run("port", "convert", tmp_path / "weights.safetensors", tmp_path / "x", "--from", "safetensors", code=2)
    assert "--config" in output
    assert Options() == Options(None, None, None, False)


def test_options_that_do_nothing_are_refused(models, tmp_path):
    config = models["unimo"] / "config.json"
    output = run("port", "convert", models["unimo"], tmp_path / "x", "--config", config, code=2)
    assert "--config is for safetensors, pdparams, release, " in output
    output = run("port", "convert", FIXTURE / "checkpoint", tmp_path / "x", "--names", config, code=2)
    assert "--names is for release-combined" in output
    assert not (tmp_path / "x").exists()


def test_a_vocabulary_that_is_not_carried_is_named(models, tmp_path):
    left = "the vocabulary is not carried, release has no place for it"
    assert left in run("port", "convert", models["unimo"], tmp_path / "release", "--to", "release")
    assert left not in run("port", "convert", models["unimo"], tmp_path / "bert", "--to", "bert")


def test_diff_shows_sizes_that_no_tensor_shows(models, tmp_path):
    shutil.copytree(models["unimo"], tmp_path / "other")
    config = tmp_path / "other" / "config.json"
    config.write_text(config.read_text().replace('"num_attention_heads": 1', '"num_attention_heads": 2'))
    (tmp_path / "other" / "COMPLETE").write_text(
        json.dumps(
            {path.name: path.stat().st_size for path in (tmp_path / "other").iterdir() if path.name != "COMPLETE"}
        )
    )
    output = run("port", "diff", models["unimo"], tmp_path / "other", code=1)
    assert "num_attention_heads: 1 and 2" in output and "45 tensors are bit-equal, 1 differ" in output
