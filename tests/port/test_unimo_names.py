"""The release's names <-> ours: complete, one to one, and strict about what a folder lacks."""

import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from unimo.errors import CheckpointError, ConfigError
from unimo.models.unimo import HEADS, Unimo, UnimoConfig
from unimo.port.unimo_names import CORE, NOT_OURS, heads_in, load_release, name_table, to_release
from unimo.port.variables import list_variables, open_variable, write_folder

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "tests" / "fixtures" / "parity" / "unimo" / "checkpoint"
CONFIG = UnimoConfig(
    hidden_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    vocab_size=120,
    max_position_embeddings=40,
    image_embedding_size=24,
    image_class_size=11,
    num_labels=3,
)
SHARED = [*CORE, "pool_text", "pool_image", "lm"]  # what the release pre-trains


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def release_names(layers: int) -> set[str]:
    """The release's shared variables, spelled out apart from the table under test."""
    names = {"word_embedding", "pos_embedding", "mask_lm_out_fc.b_0"}
    affine = ["image_emb", "image_loc", "pooled_fc_text", "pooled_fc_image", "mask_lm_trans_fc"]
    norms = ["pre_encoder_layer_norm", "v_pre_encoder_layer_norm", "mask_lm_trans_layer_norm"]
    for i in range(layers):
        attention = [f"encoder_layer_{i}_multi_head_att_{k}_fc" for k in ("query", "key", "value", "output")]
        affine += [*attention, f"encoder_layer_{i}_ffn_fc_0", f"encoder_layer_{i}_ffn_fc_1"]
        norms += [f"encoder_layer_{i}_post_att_layer_norm", f"encoder_layer_{i}_post_ffn_layer_norm"]
    names |= {f"{name}.{kind}" for name in affine for kind in ("w_0", "b_0")}
    return names | {f"{name}_{kind}" for name in norms for kind in ("scale", "bias")}


@pytest.mark.parametrize(("size", "parameters", "variables"), [("base", 127_457_625, 211), ("large", 359_616_601, 403)])
def test_sizes_of_the_paper(size, parameters, variables):
    config = UnimoConfig(**yaml.safe_load((ROOT / f"model_configs/models/unimo_{size}.yaml").read_text()))
    with paddle.LazyGuard():  # shapes only, no memory
        model = Unimo(config, heads=("pool", "lm"))
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) == parameters
    names = [name for group in name_table(config, SHARED).values() for name in group]
    assert len(names) == len(set(names)) == variables
    assert set(names) == release_names(config.num_hidden_layers)
    assert set(name_table(config, SHARED)) == {name for name, _ in model.named_parameters()}


def test_every_parameter_has_a_release_name_or_is_a_head_of_ours():
    model = Unimo(CONFIG, heads=HEADS)
    own = {name for name, _ in model.named_parameters() if name.startswith("region_")}
    assert set(name_table(CONFIG)) | own == {name for name, _ in model.named_parameters()}
    assert not set(NOT_OURS) & {name for group in name_table(CONFIG).values() for name in group}


def test_round_trip_is_bit_equal(tmp_path):
    heads = [h for h in HEADS if not h.startswith("region_")]
    model, other = Unimo(CONFIG, heads), Unimo(CONFIG, heads)
    written = to_release(model)
    write_folder(tmp_path / "checkpoint", written)
    assert set(written) == set(list_variables(CHECKPOINT)[0])
    report = load_release(tmp_path / "checkpoint", other, required=[*CORE, *heads])
    assert (report.unused, report.missing_heads, report.notes) == ((), (), ())
    for (name, ours), (_, theirs) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy()), name


def test_query_key_and_value_are_joined_in_that_order():
    model = Unimo(CONFIG)
    load_release(CHECKPOINT, model)
    parts = np.split(model.layers[1].attention.qkv.weight.numpy(), 3, axis=1)
    written = to_release(model)
    for part, kind in zip(parts, ("query", "key", "value"), strict=True):
        assert np.array_equal(part, written[f"encoder_layer_1_multi_head_att_{kind}_fc.w_0"].read())


def test_loaded_weights_are_the_models_own(folder):
    before = (folder / "word_embedding").read_bytes()
    model = Unimo(CONFIG)
    load_release(folder, model)
    with paddle.no_grad():
        model.word_embedding.weight.add_(paddle.ones([1]))  # a mapped file would not take it
    loaded = open_variable(folder / "word_embedding").read()
    assert np.array_equal(model.word_embedding.weight.numpy(), loaded + np.float32(1))
    assert (folder / "word_embedding").read_bytes() == before


def test_heads_are_read_from_the_folder(tmp_path):
    assert heads_in(CHECKPOINT) == (("pool", "lm", "match", "classify"), (3,))
    text = {"word_embedding": np.ones(1), "pooled_fc_text.w_0": np.ones(1)}
    write_folder(tmp_path, text | {f"cls_out_{n}_w": np.ones(1) for n in (12, 2)} | {"cls_out_w_0": np.ones(1)})
    assert heads_in(tmp_path) == (("pool", "classify"), (2, 12))


def test_everything_missing_is_listed_and_nothing_is_set(folder):
    gone = ["word_embedding", "encoder_layer_2_ffn_fc_1.b_0", "image_loc.w_0", "mask_lm_out_fc.b_0"]
    for name in gone:
        (folder / name).unlink()
    model = Unimo(CONFIG, heads=("pool", "lm"))
    before = model.position_embedding.weight.numpy()
    with pytest.raises(CheckpointError, match="4 problem") as caught:
        load_release(folder, model)
    assert all(f"{name}: missing, expected [" in str(caught.value) for name in gone)
    assert np.array_equal(before, model.position_embedding.weight.numpy())


def test_shapes_damage_and_types_are_listed_at_once(folder):
    write_folder(folder, {"pos_embedding": np.ones((41, 32), np.float32), "image_emb.b_0": np.ones(32, np.int64)})
    write_folder(folder, {"encoder_layer_0_multi_head_att_key_fc.w_0": np.ones((32, 96), np.float32)})
    torn = folder / "encoder_layer_1_ffn_fc_0.w_0"
    torn.write_bytes(torn.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="4 problem") as caught:
        load_release(folder, Unimo(CONFIG))
    assert "pos_embedding: shape [41, 32], expected [40, 32]" in str(caught.value)
    assert "encoder_layer_0_multi_head_att_key_fc.w_0: shape [32, 96], expected [32, 32]" in str(caught.value)
    assert "image_emb.b_0: data type int64" in str(caught.value)
    assert "encoder_layer_1_ffn_fc_0.w_0: 16407 bytes, expected exactly 16411" in str(caught.value)


def test_unused_variables_and_random_heads_are_reported(folder):
    write_folder(folder, {"role_embedding": np.ones((3, 32), np.float32), "learning_rate_0": np.ones(1, np.float32)})
    (folder / "notes.txt").write_text("from 2021")
    for path in folder.glob("mask_lm*"):
        path.unlink()
    report = load_release(folder, Unimo(CONFIG, heads=("pool", "lm", "match", "region_class")))
    assert report.unused == ("cls_out_3_b", "cls_out_3_w", "learning_rate_0", "role_embedding (CoQA dialogue)")
    assert report.missing_heads == ("lm", "region_class")
    text = "\n".join(report.lines())
    assert "learning_rate_0" in text and "random: lm, region_class" in text and "notes.txt" in text


def test_required_heads_must_be_there_and_built(folder):
    for path in folder.glob("match_fc*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"match_fc.w_0: missing, expected \[32, 1\]"):
        load_release(folder, Unimo(CONFIG, heads=("pool", "match")), required=[*CORE, "match"])
    with pytest.raises(ConfigError, match="built without"):
        load_release(folder, Unimo(CONFIG), required=[*CORE, "lm"])


def test_half_a_head_is_an_error(folder):
    (folder / "match_fc.b_0").unlink()
    with pytest.raises(CheckpointError, match=r"match_fc.b_0: missing, expected \[1\]"):
        load_release(folder, Unimo(CONFIG, heads=("pool", "match")))


def test_half_precision_is_widened(folder):
    whole = Unimo(CONFIG)
    load_release(folder, whole)
    halved = to_release(whole)["image_emb.w_0"].read().astype(np.float16)
    write_folder(folder, {"image_emb.w_0": halved})
    model = Unimo(CONFIG)
    load_release(folder, model)
    assert np.array_equal(model.image_embedding.weight.numpy(), halved.astype(np.float32))
