"""The releases' checkpoints through the hub: folders and combined files, both systems, moments, all bit-equal."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unimo.errors import CheckpointError, ConfigError
from unimo.models.systems import SYSTEMS, skeleton
from unimo.port import ours, release
from unimo.port.files.variables import list_variables, open_variable, write_folder
from unimo.port.interchange import Checkpoint, Options
from unimo.port.weights import of_array, shapes_of

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
FIXTURE, JSON = PARITY / "unimo" / "checkpoint", PARITY / "unimo" / "config.json"
SIZES = {
    "unimo": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "vocab_size": 20},
    "unimo-2": {
        "hidden_size": 64,
        **{f"{stack}num_hidden_layers": n for stack, n in (("", 1), ("text_", 2), ("vit_", 3))},
        **{f"{stack}num_attention_heads": 1 for stack in ("", "text_", "vit_")},
        "text_vocab_size": 20,
        "num_codebook": 12,
        "topk_value": 12,
    },
}
HEADS = {"unimo": ("pool", "lm", "match", "classify"), "unimo-2": ("pool", "match", "cmcl", "lm", "code", "classify")}


def random_checkpoint(system: str, heads: tuple[str, ...], optimizer: bool = False) -> Checkpoint:
    rng = np.random.default_rng(0)
    config = SYSTEMS[system].config(**SIZES[system])
    shapes = shapes_of(skeleton(system, config, heads))
    tensors = {name: of_array(rng.standard_normal(shape, dtype=np.float32)) for name, shape in shapes.items()}
    state = None
    if optimizer:
        state = {
            f"{name}.{kind}": of_array(rng.standard_normal(shape, dtype=np.float32))
            for name, shape in shapes.items()
            for kind in ("moment1", "moment2")
        }
        powers = {"beta1_pow_acc": 0.9**8, "beta2_pow_acc": 0.98**8}
        state |= {f"{n}.{k}": of_array(np.array([v], np.float32)) for n in shapes for k, v in powers.items()}
    return Checkpoint(system, config, heads, tensors, optimizer=state, step=7 if optimizer else 0)


def assert_equal(one: dict, other: dict) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name].read(), other[name].read(), err_msg=name)


@pytest.mark.parametrize("system", SIZES)
@pytest.mark.parametrize("form", ["folder", "combined"])
def test_round_trip_is_bit_equal(system, form, tmp_path):
    """ours -> release -> ours, with every head, sizes read off the shapes or the names off the sizes."""
    before = random_checkpoint(system, HEADS[system])
    if form == "folder":
        assert release.write_release(tmp_path / "release", before) == []
        after = release.read_release(tmp_path / "release", Options())
        assert "attention heads of width 64" in after.notes[-1]
    else:
        release.write_release_combined(tmp_path / "release", before)
        (tmp_path / "sizes.json").write_text(json.dumps(before.config.model_dump()))
        after = release.read_combined(tmp_path / "release", Options(config=tmp_path / "sizes.json"))
    assert (after.system, after.config, after.heads) == (before.system, before.config, before.heads)
    assert after.unused == ()
    assert_equal(before.tensors, after.tensors)


def test_folder_of_the_release_comes_back_byte_for_byte(tmp_path):
    found = release.read_release(FIXTURE, Options(config=JSON))
    assert found.heads == ("pool", "lm", "match", "classify")
    assert found.config.num_labels == 3
    release.write_release(tmp_path / "again", found)
    names = list_variables(FIXTURE)[0]
    assert list(list_variables(tmp_path / "again")[0]) == list(names)
    for name, path in names.items():
        assert (tmp_path / "again" / name).read_bytes() == path.read_bytes(), name


@pytest.mark.parametrize("system", SIZES)
def test_moments_and_step_there_and_back(system, tmp_path):
    before = random_checkpoint(system, HEADS[system], optimizer=True)
    release.write_release(tmp_path / "release", before)
    assert open_variable(tmp_path / "release" / "@LR_DECAY_COUNTER@").read().tolist() == [6]
    after = release.read_release(tmp_path / "release", Options(optimizer=True))
    assert after.step == 7
    assert_equal(before.optimizer, after.optimizer)
    ours.write_folder(tmp_path / "model", after)
    again = ours.read_folder(tmp_path / "model", Options(optimizer=True))
    assert again.step == 7
    assert_equal(before.optimizer, again.optimizer)
    left = release.read_release(tmp_path / "release", Options())
    assert left.optimizer is None
    assert "variables of the optimiser are left" in left.notes[-1]


def test_moments_that_do_not_fit_are_all_listed(tmp_path):
    release.write_release(tmp_path, random_checkpoint("unimo", ("pool",), optimizer=True))
    (tmp_path / "image_emb.w_0_moment1_0").unlink()
    (tmp_path / "@LR_DECAY_COUNTER@").unlink()
    write_folder(tmp_path, {"encoder_layer_0_multi_head_att_key_fc.w_0_beta1_pow_acc_0": np.array([0.5], np.float32)})
    with pytest.raises(CheckpointError, match="3 problem") as caught:
        release.read_release(tmp_path, Options(optimizer=True))
    for part in ("image_emb.w_0_moment1_0: missing", "@LR_DECAY_COUNTER@", "beta1_pow_acc of encoder_layer_0"):
        assert part in str(caught.value)


def test_damaged_values_of_the_optimiser_are_all_listed(tmp_path):
    release.write_release(tmp_path, random_checkpoint("unimo", ("pool",), optimizer=True))
    power, counter = tmp_path / "word_embedding_beta1_pow_acc_0", tmp_path / "@LR_DECAY_COUNTER@"
    power.write_bytes(power.read_bytes()[:-2])
    write_folder(tmp_path, {"pos_embedding_beta2_pow_acc_0": np.full([1], np.nan, np.float32)})
    for damage in (lambda: write_folder(tmp_path, {counter.name: np.zeros([0], np.int64)}), counter.unlink):
        damage()
        with pytest.raises(CheckpointError, match="3 problem") as caught:
            release.read_release(tmp_path, Options(optimizer=True))
        for part in (power.name, "pos_embedding_beta2_pow_acc_0: nan", counter.name):
            assert part in str(caught.value)


def test_variables_of_two_models_never_mix(tmp_path):
    checkpoint = random_checkpoint("unimo", ("pool",))
    release.write_release(tmp_path / "release", checkpoint)
    before = sorted((tmp_path / "release").iterdir())
    with pytest.raises(CheckpointError, match="exists already; name a new folder"):
        release.write_release(tmp_path / "release", random_checkpoint("unimo", ("pool", "lm")))
    assert sorted((tmp_path / "release").iterdir()) == before and len(list(tmp_path.iterdir())) == 1


def test_own_heads_have_no_variables_in_the_release(tmp_path):
    notes = release.write_release(tmp_path, random_checkpoint("unimo", ("pool", "region_class")))
    assert notes == ["not carried, the release has no variables for: region_class"]
    assert release.read_release(tmp_path, Options()).heads == ("pool",)


def test_what_the_release_cannot_be_is_refused_or_noted(tmp_path):
    before = random_checkpoint("unimo", ("pool",))
    notes = release.write_release(
        tmp_path, replace(before, config=before.config.model_copy(update={"layer_norm_eps": 1e-12}))
    )
    assert notes == ["layer_norm_eps is 1e-12 in this model, always 1e-05 in the release's code"]
    for change in ({"hidden_act": "relu"}, {"type_vocab_size": 4}):
        with pytest.raises(ConfigError, match=f"{next(iter(change))}: .*, expected"):
            release.write_release(tmp_path / "other", replace(before, config=before.config.model_copy(update=change)))


def test_combined_file_by_a_list_of_names(tmp_path):
    before = random_checkpoint("unimo", ("pool",))
    release.write_release(tmp_path / "folder", before)
    release.write_release_combined(tmp_path / "combined", before)
    (tmp_path / "names").write_text("\n".join(list_variables(tmp_path / "folder")[0]))
    assert_equal(
        before.tensors, release.read_combined(tmp_path / "combined", Options(names=tmp_path / "names")).tensors
    )
    with pytest.raises(ConfigError, match="without their names"):
        release.read_combined(tmp_path / "combined", Options())
    (tmp_path / "names").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="expected variable names"):
        release.read_combined(tmp_path / "combined", Options(names=tmp_path / "names"))
    (tmp_path / "names").write_text("word_embedding")
    with pytest.raises(ConfigError, match="has 1 names"):
        release.read_combined(tmp_path / "combined", Options(names=tmp_path / "names"))
    with pytest.raises(ConfigError, match="0 sets of variable names fit"):
        release.read_combined(tmp_path / "combined", Options(config=JSON))


def test_sizes_that_shapes_cannot_tell(tmp_path):
    write_folder(tmp_path / "thin", {"word_embedding": np.zeros([5, 48], np.float32)})
    with pytest.raises(CheckpointError, match="no sizes can be read off"):
        release.read_release(tmp_path / "thin", Options())
    with pytest.raises(ConfigError, match="hidden size 32 is no multiple of 64"):
        release.read_release(FIXTURE, Options())


def test_damaged_and_missing_variables_are_listed_together(tmp_path):
    release.write_release(tmp_path, random_checkpoint("unimo-2", ("pool",)))
    (tmp_path / "vq_emb").write_bytes((tmp_path / "vq_emb").read_bytes()[:-1])
    (tmp_path / "grounded.encoder_layer_0_ffn_fc_0.w_0").unlink()
    (tmp_path / "sizes.json").write_text(json.dumps(SIZES["unimo-2"]))
    with pytest.raises(CheckpointError, match="2 problem") as caught:
        release.read_release(tmp_path, Options(config=tmp_path / "sizes.json"))
    assert "vq_emb" in str(caught.value) and "ffn_fc_0.w_0: missing" in str(caught.value)
