"""`zoo.start`: a model takes what a checkpoint of any format holds, keeps the rest, and says which is which."""

import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from file_server import File, serving
from safetensors.numpy import load_file, save_file
from small_release import FIXTURE, reference, same

from unimo import zoo
from unimo.engine import checkpoint
from unimo.errors import CheckpointError, ConfigError
from unimo.models.faster_rcnn import FasterRCNN, FasterRCNNConfig
from unimo.models.oner import Oner, OnerConfig
from unimo.models.unimo import HEADS, Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.port.convert import convert
from unimo.port.files.variables import write_folder
from unimo.port.formats import FORMATS, detect
from unimo.zoo import catalogue

SIZES = dict(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, vocab_size=30, max_position_embeddings=20)
CONFIG = UnimoConfig(**SIZES, image_embedding_size=8, image_class_size=5)
STACKS = {f"{stack}num_hidden_layers": 2 for stack in ("", "text_", "vit_")}
STACKS |= {f"{stack}num_attention_heads": 1 for stack in ("", "text_", "vit_")}
TABLES = {"text_vocab_size": 30, "text_max_position_embeddings": 20, "num_codebook": 8, "topk_value": 3}
CONFIG2 = Unimo2Config(hidden_size=64, **STACKS, **TABLES)
FILES = {"safetensors": "m.safetensors", "pdparams": "m.pdparams", "vit-timm": "vit.safetensors", "vit-npz": "vit.npz"}


def make(seed: int, config: UnimoConfig = CONFIG, heads: tuple[str, ...] = ("pool", "lm", "match"), **sizes) -> Unimo:
    paddle.seed(seed)
    return Unimo(config.model_copy(update=sizes), heads)


def values(model: paddle.nn.Layer) -> dict[str, np.ndarray]:
    return {name: parameter.numpy().copy() for name, parameter in model.named_parameters()}


def saved(model: paddle.nn.Layer, folder: Path) -> Path:
    zoo.save_pretrained(model, folder)
    return folder


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "frcnn-lxmert"])
def test_every_format_starts_a_model(form, tmp_path):
    """What the format carries has the source's bits, the rest keeps its own, and both are said."""
    vit, text = form.startswith("vit"), form in ("paddlenlp", "roberta", "bert")
    paddle.seed(1)
    source, model = (Unimo2(CONFIG2, ["lm"]) if vit else make(seed, heads=HEADS) for seed in (1, 2))
    before, theirs, place = values(model), values(source), tmp_path / FILES.get(form, "place")
    convert(saved(source, tmp_path / "source"), place, target_format=form)
    assert detect(place) == form
    lines = zoo.start(model, place)
    sides = ("vit.",) if vit else ("word_", "position_", "text_norm", "layers.", "lm.") if text else ("",)
    loaded = 0
    for name, array in values(model).items():
        taken = name.startswith(sides) and not (form.startswith("release") and name.startswith("region_"))
        loaded += taken
        wanted = (theirs if taken else before)[name]
        if name == "position_embedding.weight" and form in ("bert", "paddlenlp"):
            wanted = np.concatenate([np.zeros((2, 32), np.float32), wanted[2:]])  # rows that no real token has
        assert np.array_equal(array, wanted), name
    assert lines[0] == f"loaded {loaded} of {len(before)} parameters from {place}"
    said = [line for line in lines if line.startswith("not in the checkpoint, starting at random: ")]
    assert len(said) == (loaded < len(before))
    assert all(f" {part}" in said[0] for part in {n.split(".")[0] for n in before if n not in theirs})


def test_the_release_starts_a_model_and_what_no_variable_shows_is_said():
    model = make(3, reference().config, HEADS)
    before, theirs = values(model), values(reference())
    lines = zoo.start(model, FIXTURE / "checkpoint")
    assert all(np.array_equal(array, theirs.get(name, before[name])) for name, array in values(model).items())
    assert lines == [
        f"loaded {len(theirs)} of {len(before)} parameters from {FIXTURE / 'checkpoint'}",
        "not in the checkpoint, starting at random: entail, region_class, region_feature",
        "attention heads are 8 wide in this model, 64 in every released one",
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"hidden_act": "relu"}, ConfigError, "hidden_act: 'relu', expected 'gelu'"),
        ({"type_vocab_size": 2}, ConfigError, "type_vocab_size: 2, expected 0"),
        ({"max_position_embeddings": 50}, CheckpointError, r"pos_embedding: shape \[40, 32\], expected \[50, 32\]"),
        ({"num_hidden_layers": 4}, CheckpointError, "encoder_layer_3_ffn_fc_0.w_0: missing"),
    ],
)
def test_a_model_that_no_release_is_cannot_start_from_one(change, error, message):
    model = make(3, reference().config, **change)
    before = values(model)
    with pytest.raises(error, match=f"(?s){FIXTURE / 'checkpoint'}.*{message}"):
        zoo.start(model, FIXTURE / "checkpoint")
    assert all(np.array_equal(array, before[name]) for name, array in values(model).items())


def test_a_release_of_unimo_2_starts_one(tmp_path):
    paddle.seed(1)
    source, model = (Unimo2(CONFIG2, heads) for heads in (["pool", "cmcl"], ["pool", "cmcl", "lm"]))
    convert(saved(source, tmp_path / "source"), tmp_path / "release", target_format="release")
    assert "starting at random: lm" in zoo.start(model, tmp_path / "release")[1]
    assert all(np.array_equal(dict(model.named_parameters())[name], array) for name, array in values(source).items())


def test_a_run_is_taken_at_its_best_checkpoint(tmp_path):
    source = make(1)
    saved(source, checkpoint.folder_of(tmp_path / "run", 3))
    model = make(2)
    assert zoo.start(model, tmp_path / "run") == [f"loaded 45 of 45 parameters from {tmp_path / 'run'}"]
    assert same(model, source)


def test_a_name_of_the_zoo_is_fetched_and_what_it_never_held_is_said(tiny, cache, packed, tmp_path, monkeypatch):
    monkeypatch.setenv("UNIMO_CACHE", str(cache))
    with serving(File(packed)) as url:
        monkeypatch.setattr(catalogue, "entry_of", lambda name: tiny(url))
        model = make(3, reference().config, ("pool", "lm", "match", "classify"))
        assert zoo.start(model, "tiny-en")[0].endswith("parameters from tiny-en")
    assert same(model, reference())
    assert zoo.start(make(3, reference().config), "tiny-en")[1].startswith("not used (2): classify.affine.")
    less = Path(shutil.copytree(FIXTURE / "checkpoint", tmp_path / "less"))
    for path in [*less.glob("match_fc*"), *less.glob("pooled_fc_image*")]:
        path.unlink()
    zoo.fetch(tiny("http://no-such-host.invalid/file"), less, cache, log=lambda line: None)
    lines = zoo.start(make(3, reference().config), "tiny-en")
    assert lines[1] == "not in the checkpoint, starting at random: match, pool_image"


# what a model of other sizes takes


@pytest.mark.parametrize("form", ["unimo", "safetensors", "release", "bert"])
def test_a_model_of_fewer_layers_takes_the_first_ones(form, tmp_path):
    source = saved(make(1, num_hidden_layers=3), tmp_path / "source")
    place = tmp_path / FILES.get(form, "place")
    convert(source, place, target_format=form)
    model = make(2)
    lines = zoo.start(model, place)
    theirs = load_file(source / "model.safetensors")
    assert all(np.array_equal(a, theirs[n]) for n, a in values(model).items() if n.startswith("layers."))
    assert sum("layers.2." in line or "layer.2." in line or "layer_2_" in line for line in lines) == 1


def test_tables_of_bert_are_cut_to_the_models(tmp_path):
    source = make(1, max_position_embeddings=26)
    convert(saved(source, tmp_path / "source"), tmp_path / "bert", target_format="bert")
    model = make(2)
    assert "only the first 18 of 24 positions were taken" in zoo.start(model, tmp_path / "bert")
    assert np.array_equal(model.position_embedding.weight[2:], source.position_embedding.weight[2:20])


def test_what_does_not_touch_the_weights_may_differ_and_a_head_of_another_task_stays(tmp_path):
    source = make(1, heads=HEADS, hidden_dropout_prob=0.3, recompute=True)
    model = make(2, heads=HEADS, num_labels=3, image_class_size=7, layer_norm_eps=1e-12)
    before, theirs, folder = values(model), values(source), saved(source, tmp_path / "source")
    lines = zoo.start(model, folder)
    for name, array in values(model).items():
        own = name.startswith(("classify.", "entail.", "region_class."))
        assert np.array_equal(array, (before if own else theirs)[name]), name
    for line in (
        "not in the checkpoint, starting at random: classify, entail, region_class",
        "classify is not taken: num_labels is 2 there, 3 here",
        "region_class is not taken: image_class_size is 5 there, 7 here",
        f"layer_norm_eps is 1e-12 here, 1e-05 in {folder}",
    ):
        assert line in lines


# what is refused


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ({"num_attention_heads": 2}, {}, "num_attention_heads: 2, expected 4"),
        ({}, {"hidden_act": "relu"}, "hidden_act: gelu, expected relu"),
        ({"type_vocab_size": 2}, {}, "type_vocab_size: 2, expected 0"),
        ({"num_hidden_layers": 1}, {}, "layers: 1 layers, expected 2 or more"),
        ({"vocab_size": 31}, {}, r"word_embedding.weight: shape \[31, 32\], expected \[30, 32\]"),
        ({"image_embedding_size": 9}, {}, r"image_embedding.weight: shape \[9, 32\], expected \[8, 32\]"),
    ],
)
def test_a_model_that_computes_otherwise_is_refused_and_nothing_is_set(there, here, message, tmp_path):
    folder, model = saved(make(1, **there), tmp_path / "there"), make(2, **here)
    before = values(model)
    with pytest.raises(CheckpointError, match=f"(?s){folder} does not fit the model: .*{message}"):
        zoo.start(model, folder)
    assert all(np.array_equal(array, before[name]) for name, array in values(model).items())


def test_all_that_does_not_fit_is_listed(tmp_path):
    folder = saved(make(1, vocab_size=31, num_attention_heads=8, num_hidden_layers=1), tmp_path / "there")
    with pytest.raises(CheckpointError, match=r"(?s)4 problem.*word_embedding.*lm.bias.*num_attention_heads.*1 layers"):
        zoo.start(make(2), folder)


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"num_attention_heads": 2}, "num_attention_heads: 2, expected 4"),
        ({"num_hidden_layers": 1}, "a BERT of 1 layers cannot start a model of 2"),
        ({"max_position_embeddings": 19}, r"\(17, 32\), expected at least 18 rows of 32"),
    ],
)
def test_a_bert_that_does_not_fit_is_refused(there, message, tmp_path):
    convert(saved(make(1, **there), tmp_path / "source"), tmp_path / "bert", target_format="bert")
    with pytest.raises(CheckpointError, match=f"(?s){tmp_path / 'bert'}.*{message}"):
        zoo.start(make(2), tmp_path / "bert")


def test_a_head_count_that_a_vit_does_not_keep_is_the_models(tmp_path):
    paddle.seed(1)
    source, model = (Unimo2(CONFIG2.model_copy(update={"vit_num_attention_heads": n}), []) for n in (1, 2))
    convert(saved(source, tmp_path / "source"), tmp_path / "vit.safetensors", target_format="vit-timm")
    lines = zoo.start(model, tmp_path / "vit.safetensors")
    assert "attention heads are 2 in the sizes given, 1 in published ViTs of width 64" in lines
    convert(tmp_path / "source", tmp_path / "vit", target_format="vit-hf")
    with pytest.raises(CheckpointError, match="num_attention_heads: 1, expected 2"):
        zoo.start(model, tmp_path / "vit")


def test_another_system_is_refused_by_name(tmp_path):
    paddle.seed(1)
    unimo, unimo2 = make(1), Unimo2(CONFIG2, ["lm"])
    oner = Oner(OnerConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=1, vocab_size=30))
    sizes = dict(depth=50, width=1, stem_size=2, rpn_size=2, num_classes=3, num_attributes=2)
    models = {"unimo": unimo, "unimo-2": unimo2, "oner": oner, "detector": FasterRCNN(FasterRCNNConfig(**sizes))}
    places = {name: saved(model, tmp_path / name) for name, model in models.items()}
    for source, form in (("unimo", "bert"), ("unimo-2", "vit-hf"), ("detector", "frcnn-lxmert")):
        places[form] = tmp_path / form
        convert(places[source], places[form], target_format=form)
    places |= {
        "release": FIXTURE / "checkpoint",
        "release of unimo-2": FIXTURE.parent / "unimo2_forward" / "checkpoint_vl",
    }
    for model, place, message in (
        (unimo, "unimo-2", "is of unimo-2; it cannot be laid over a model of unimo"),
        (unimo, "detector", "is of bottom-up-attention; it cannot be laid over a model of unimo"),
        (unimo, "frcnn-lxmert", "a Faster R-CNN is of system bottom-up-attention, not unimo"),
        (unimo, "vit-hf", "a ViT starts unimo-2 or oner, not unimo"),
        (unimo, "release of unimo-2", "is of unimo-2, not of unimo"),
        (unimo2, "release", "is of unimo, not of unimo-2"),
        (oner, "bert", r"BERT has a place in UNIMO and UNIMO-2 \(unimo, unimo-2\), not in oner"),
    ):
        with pytest.raises((ConfigError, CheckpointError), match=f"{places[place]}.*{message}"):
            zoo.start(model, places[place])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", ["unimo", "release", "bert"])
def test_values_that_are_not_finite_are_refused(form, value, tmp_path):
    source, place, bad = make(1), tmp_path / "place", np.full(32, value, np.float32)
    if form == "unimo":  # bytes of a save file of ours, where no save of ours puts them
        values = source.text_norm.bias.numpy() + np.float32(0.5)
        source.text_norm.bias.set_value(values)
        weights = saved(source, place) / "model.safetensors"
        weights.write_bytes(weights.read_bytes().replace(values.tobytes(), bad.tobytes()))
        with pytest.raises(CheckpointError, match="torn: model.safetensors has other bytes .* delete .* COMPLETE"):
            zoo.start(make(2), place)
        (place / "COMPLETE").unlink()
    else:
        convert(saved(source, tmp_path / "source"), place, target_format=form)
    if form == "release":
        write_folder(place, {"encoder_layer_1_ffn_fc_1.b_0": bad})
    elif form == "bert":
        tensors = load_file(place / "model.safetensors")
        save_file(tensors | {"bert.embeddings.LayerNorm.bias": bad}, place / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{place}: .*: 32 of 32 values are not finite"):
        zoo.start(make(2), place)


def test_damaged_files_and_what_is_no_checkpoint_are_named(tmp_path):
    model, place = make(2), tmp_path / "m.safetensors"
    convert(saved(make(1), tmp_path / "source"), place, target_format="safetensors")
    whole = place.read_bytes()
    for content in (b"", whole[:100], whole[:-1]):
        place.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{place}.*(empty|expected)"):
            zoo.start(model, place)
    convert(tmp_path / "source", tmp_path / "release", target_format="release")
    variable = tmp_path / "release" / "match_fc.w_0"
    variable.write_bytes(variable.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="(?s)release does not fit the model: 1 problem.*match_fc.w_0"):
        zoo.start(model, tmp_path / "release")
    (tmp_path / "text.txt").write_text("what is this")
    with pytest.raises(CheckpointError, match="text.txt is none of the formats that can be told"):
        zoo.start(model, tmp_path / "text.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty holds neither a model"):
        zoo.start(model, tmp_path / "empty")
    with pytest.raises(
        ConfigError, match="unimo-bass-en does not exist, and the zoo has no model .*; did you mean 'un"
    ):
        zoo.start(model, "unimo-bass-en")
    with pytest.raises(ConfigError, match="a Linear is no model of unimo"):
        zoo.start(paddle.nn.Linear(2, 2), tmp_path / "source")


def test_a_config_object_gives_sizes_and_no_heads(tmp_path):
    convert(saved(make(1), tmp_path / "source"), tmp_path / "m.safetensors", target_format="safetensors")
    (tmp_path / "m.config.json").unlink()
    with pytest.raises(ConfigError, match="holds weights alone and neither m.config.json nor config.json is beside"):
        zoo.start(make(2), tmp_path / "m.safetensors")
