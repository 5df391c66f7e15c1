"""The release's names <-> ours: complete, one to one, and strict about what a folder lacks."""

import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from unimo.errors import CheckpointError
from unimo.models.unimo import HEADS, Unimo, UnimoConfig
from unimo.port.files.variables import list_variables, open_variable, write_folder
from unimo.port.interchange import Checkpoint, Options, build
from unimo.port.names.unimo_names import CORE, NOT_OURS, heads_of, name_table
from unimo.port.release import loaded, read_release, shapes_in, write_release
from unimo.port.weights import values_of

ROOT = Path(__file__).parents[3]
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


def read(folder: Path, parts: Collection[str] | None = None) -> Checkpoint:
    return read_release(folder, Options(config=CONFIG), parts)


def test_round_trip_is_bit_equal(tmp_path):
    heads = [h for h in HEADS if not h.startswith("region_")]
    model = Unimo(CONFIG, heads)
    write_release(tmp_path / "checkpoint", Checkpoint("unimo", CONFIG, model.heads, values_of(model)))
    entailment = {f"cls_out_{kind}_{k}" for kind in "wb" for k in (0, 1)}  # which the recording's program had not
    assert set(list_variables(tmp_path / "checkpoint")[0]) == set(list_variables(CHECKPOINT)[0]) | entailment
    found = read(tmp_path / "checkpoint")
    other, random = build(found)
    assert (found.unused, random, found.heads) == ((), [], model.heads)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy()), name


def test_query_key_and_value_are_joined_in_that_order():
    parts = np.split(read(CHECKPOINT).tensors["layers.1.attention.qkv.weight"].read(), 3, axis=1)
    for part, kind in zip(parts, ("query", "key", "value"), strict=True):
        theirs = open_variable(CHECKPOINT / f"encoder_layer_1_multi_head_att_{kind}_fc.w_0").read()
        assert np.array_equal(part, theirs)


def test_loaded_weights_are_the_models_own(folder):
    before = (folder / "word_embedding").read_bytes()
    model, _ = build(read(folder))
    with paddle.no_grad():
        model.word_embedding.weight.add_(paddle.ones([1]))  # a mapped file would not take it
    loaded = open_variable(folder / "word_embedding").read()
    assert np.array_equal(model.word_embedding.weight.numpy(), loaded + np.float32(1))
    assert (folder / "word_embedding").read_bytes() == before


def test_heads_are_read_from_the_folder(tmp_path):
    assert heads_of(shapes_in(CHECKPOINT)) == (("pool", "lm", "match", "classify"), (3,))
    text = {"word_embedding": np.ones(1), "pooled_fc_text.w_0": np.ones(1)}
    write_folder(tmp_path, text | {f"cls_out_{n}_w": np.ones(1) for n in (12, 2)} | {"cls_out_w_0": np.ones(1)})
    assert heads_of(shapes_in(tmp_path)) == (("pool", "classify", "entail"), (2, 12))
    write_folder(tmp_path / "snli_ve", text | {"cls_out_w_0": np.ones(1), "cls_out_b_1": np.ones(3)})
    assert heads_of(shapes_in(tmp_path / "snli_ve")) == (("pool", "entail"), (3,))


@pytest.mark.parametrize(("labels", "taken"), [(3, 3), (5, 5), (4, 2)])
def test_of_several_classification_heads_the_one_of_the_given_sizes_is_taken(labels, taken, folder):
    for n in (2, 5):
        write_folder(folder, {f"cls_out_{n}_w": np.ones((32, n), np.float32), f"cls_out_{n}_b": np.ones(n, np.float32)})
    found = read_release(folder, Options(config=CONFIG.model_copy(update={"num_labels": labels})))
    assert found.config.num_labels == taken and found.tensors["classify.affine.bias"].shape == (taken,)
    assert f"of the classification heads for (2, 3, 5) labels only that for {taken} is taken" in found.notes


def test_everything_missing_is_listed(folder):
    gone = ["word_embedding", "encoder_layer_2_ffn_fc_1.b_0", "image_loc.w_0", "mask_lm_out_fc.b_0"]
    for name in gone:
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match="4 problem") as caught:
        read(folder)
    assert all(f"{name}: missing, expected [" in str(caught.value) for name in gone)


def test_shapes_damage_and_types_are_listed_at_once(folder):
    write_folder(folder, {"pos_embedding": np.ones((41, 32), np.float32), "image_emb.b_0": np.ones(32, np.int64)})
    write_folder(folder, {"encoder_layer_0_multi_head_att_key_fc.w_0": np.ones((32, 96), np.float32)})
    torn = folder / "encoder_layer_1_ffn_fc_0.w_0"
    torn.write_bytes(torn.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="4 problem") as caught:
        read(folder)
    assert "pos_embedding: shape [41, 32], expected [40, 32]" in str(caught.value)
    assert "encoder_layer_0_multi_head_att_key_fc.w_0: shape [32, 96], expected [32, 32]" in str(caught.value)
    assert "image_emb.b_0: data type int64" in str(caught.value)
    assert "encoder_layer_1_ffn_fc_0.w_0: 16407 bytes, expected exactly 16411" in str(caught.value)


def test_what_is_not_used_is_reported(folder):
    write_folder(folder, {"role_embedding": np.ones((3, 32), np.float32), "learning_rate_0": np.ones(1, np.float32)})
    (folder / "notes.txt").write_text("from 2021")
    for path in folder.glob("mask_lm*"):
        path.unlink()
    found = read(folder)
    assert found.unused == ("role_embedding (CoQA dialogue)",) and found.heads == ("pool", "match", "classify")
    facts = "\n".join(found.facts())
    for part in ("not used (1): role_embedding", "1 variables of the optimiser are left", "left alone: notes.txt"):
        assert part in facts
    assert loaded(found)[0] == "loaded 66 tensors into 54 parameters"


def test_parts_that_are_asked_for_must_be_there_and_others_may_be_damaged(folder):
    for path in folder.glob("match_fc*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"match_fc.w_0: missing, expected \[32, 1\]"):
        read(folder, [*CORE, "match"])
    (folder / "mask_lm_out_fc.b_0").write_bytes(b"torn")
    found = read(folder, [*CORE, "pool_text"])
    assert found.heads == ("pool",) and "pool_image.affine.weight" not in found.tensors and found.unused == ()


def test_labels_are_those_given_for_parts_that_are_asked_for(folder):
    with pytest.raises(CheckpointError, match=r"cls_out_2_w: missing, expected \[32, 2\]"):
        read_release(folder, Options(config=CONFIG.model_copy(update={"num_labels": 2})), [*CORE, "classify"])


def test_half_a_head_is_an_error(folder):
    (folder / "match_fc.b_0").unlink()
    with pytest.raises(CheckpointError, match=r"match_fc.b_0: missing, expected \[1\]"):
        read(folder)


def test_half_precision_is_widened(folder):
    halved = open_variable(folder / "image_emb.w_0").read().astype(np.float16)
    write_folder(folder, {"image_emb.w_0": halved})
    model, _ = build(read(folder))
    assert np.array_equal(model.image_embedding.weight.numpy(), halved.astype(np.float32))
