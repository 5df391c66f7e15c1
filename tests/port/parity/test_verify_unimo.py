"""`unimo port verify`: the recorded fixture agrees, other sizes agree, and every fault of a port shows."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import plain_unimo
import pytest
from click.testing import CliRunner, Result

from unimo.cli import main
from unimo.models.heads import PoolHead
from unimo.models.layers import FeedForward
from unimo.models.unimo import Unimo
from unimo.port.files.variables import list_variables, open_variable, write_folder

FIXTURE = Path(__file__).parents[2] / "fixtures" / "parity" / "unimo"
GOLDEN = dict(np.load(FIXTURE / "io.npz"))
RECORDED = [name for name in GOLDEN if name.startswith("out_")]


def verify(
    folder: Path = FIXTURE / "checkpoint",
    config: Path = FIXTURE / "config.json",
    golden: Path = FIXTURE / "io.npz",
    *options: str,
) -> Result:
    arguments = ["port", "verify", str(folder), "--config", str(config), "--golden", str(golden), *options]
    return CliRunner().invoke(main, arguments)


def weights() -> dict[str, np.ndarray]:
    return {name: np.array(open_variable(p).read()) for name, p in list_variables(FIXTURE / "checkpoint")[0].items()}


def write_golden(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(tmp_path / "golden.npz", **arrays)
    return tmp_path / "golden.npz"


def write_config(tmp_path: Path, **changes: object) -> Path:
    values = json.loads((FIXTURE / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(values))
    return tmp_path / "config.json"


def test_recorded_fixture_agrees():
    result = verify()
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == RECORDED
    assert all(float(line[1]) <= 1e-5 for line in lines)


def test_dropout_of_the_config_is_off(tmp_path):
    assert verify(config=write_config(tmp_path, hidden_dropout_prob=0.5)).exit_code == 0


def test_plain_numpy_agrees_with_fixture():
    got = plain_unimo.outputs(weights(), GOLDEN, layers=3, heads=4, labels=3)
    real = {"S": GOLDEN["in_m_l"].any(2), "N": GOLDEN["in_m_vl"].any(2)[:, :6]}
    for name in RECORDED:
        assert got[name].shape == GOLDEN[name].shape
        per_position = {9: real["S"], 6: real["N"]}.get(GOLDEN[name].shape[1], slice(None))
        assert np.abs(got[name] - GOLDEN[name])[per_position].max() < 1e-5, name


CASES = {
    "1 head, 1 layer, 2 labels": dict(layers=1, heads=1, hidden=8, labels=2, slots=[3, 4], tags=[2, 1], tokens=[5, 7]),
    "2 heads, 1 label": dict(layers=2, heads=2, hidden=16, labels=1, slots=[4, 2, 3], tags=[1, 1, 3], tokens=[2, 6, 4]),
    "8 heads, 12 labels": dict(layers=2, heads=8, hidden=64, labels=12, slots=[9], tags=[4], tokens=[12]),
    "no padding": dict(layers=2, heads=4, hidden=32, labels=3, slots=[4, 4], tags=[3, 3], tokens=[6, 6]),
    "wide padding": dict(layers=2, heads=4, hidden=32, labels=3, slots=[2, 5], tags=[3, 1], tokens=[3, 8], pad=7),
    "image without boxes": dict(layers=2, heads=4, hidden=32, labels=3, slots=[0, 5], tags=[2, 2], tokens=[4, 6]),
    "single region": dict(layers=2, heads=4, hidden=32, labels=3, slots=[2, 2], tags=[1, 1], tokens=[1, 1]),
    "no tags": dict(layers=2, heads=4, hidden=32, labels=3, slots=[3, 2], tags=[0, 2], tokens=[4, 3]),
}


def make_case(
    tmp_path: Path,
    layers: int,
    heads: int,
    hidden: int,
    labels: int,
    slots: list,
    tags: list,
    tokens: list,
    pad: int = 0,
) -> tuple[Path, Path, Path]:
    """Write checkpoint folder, config and golden file of a random model of the given sizes."""
    rng = np.random.default_rng(hidden + len(tokens))
    vocabulary, positions, width = 40 + hidden, 30, 12
    made = plain_unimo.variables(rng, layers, hidden, vocabulary, positions, width, labels)
    given = plain_unimo.inputs(rng, vocabulary, width, slots, tags, tokens, pad)
    given |= {
        name: array.astype(np.float32)
        for name, array in plain_unimo.outputs(made, given, layers, heads, labels).items()
    }
    write_folder(tmp_path / "checkpoint", made)
    config = write_config(
        tmp_path,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_size=hidden,
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        image_embedding_size=width,
    )
    return tmp_path / "checkpoint", config, write_golden(tmp_path, given)


@pytest.mark.parametrize("case", CASES)
def test_other_sizes_and_paddings_agree(case, tmp_path):
    result = verify(*make_case(tmp_path, **CASES[case]))
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == len(RECORDED)


def test_as_a_process(tmp_path):
    folder, config, golden = make_case(tmp_path, **CASES["2 heads, 1 label"])
    unimo = Path(sys.executable).with_name("unimo")
    command = [unimo, "port", "verify", folder, "--config", config, "--golden", golden]
    good = subprocess.run(command, capture_output=True, text=True)
    assert (good.returncode, len(good.stdout.splitlines())) == (0, len(RECORDED)), good.stderr
    (folder / "word_embedding").write_bytes((folder / "word_embedding").read_bytes()[:-1])
    torn = subprocess.run(command, capture_output=True, text=True)
    assert torn.returncode == 2 and not torn.stdout
    assert "word_embedding" in torn.stderr and "Traceback" not in torn.stderr


# ---- faults that must show


def test_layer_norm_epsilon_of_bert_differs(tmp_path):
    assert verify(config=write_config(tmp_path, layer_norm_eps=1e-12)).exit_code == 1


def test_tanh_gelu_differs(monkeypatch):
    monkeypatch.setattr(FeedForward, "forward", lambda self, x: self.outer(F.gelu(self.inner(x), approximate=True)))
    assert verify().exit_code == 1


def test_tanh_pooler_differs(monkeypatch):
    monkeypatch.setattr(PoolHead, "forward", lambda self, state: paddle.tanh(self.affine(state)))
    result = verify()
    assert result.exit_code == 1
    differing = {line.split()[0] for line in result.stdout.splitlines() if line.endswith("DIFFERS")}
    pooled = {"out_l_pooled", "out_vl_pooled_text", "out_vl_pooled_image", "out_cls_logits", "out_match_score"}
    assert differing == pooled


def test_swapped_image_and_tags_differ(monkeypatch):
    """[tags, image, text] under a mask that is laid out for [image, tags, text]."""
    right = Unimo.forward

    def swapped(self, text=None, regions=None, tags=None, attention_mask=None, cache=None):
        if tags is not None:
            n, o, s = regions.boxes.shape[1], tags.ids.shape[1], text.ids.shape[1]
            place = paddle.to_tensor([*range(o, o + n), *range(o), *range(n + o, n + o + s)])
            attention_mask = attention_mask.index_select(place, axis=1).index_select(place, axis=2)
        return right(self, text, regions, tags, attention_mask, cache)

    monkeypatch.setattr(Unimo, "forward", swapped)
    result = verify()
    assert result.exit_code == 1
    differing = {line.split()[0] for line in result.stdout.splitlines() if line.endswith("DIFFERS")}
    assert differing == {"out_vol_text", "out_vol_image", "out_lm_logits"}


def test_one_changed_number_in_any_variable_differs(tmp_path):
    used = {"word_embedding": GOLDEN["in_src_ids"][0, 0, 0], "pos_embedding": 2}
    folder = Path(shutil.copytree(FIXTURE / "checkpoint", tmp_path / "checkpoint"))
    unnoticed = []
    for name, array in weights().items():
        changed = array.copy()
        changed.reshape(len(array), -1)[used.get(name, 0), 0] += 0.1
        write_folder(folder, {name: changed})
        if verify(folder).exit_code != 1:
            unnoticed.append(name)
        write_folder(folder, {name: array})
    # a key bias adds the same number to all logits of a query, which softmax takes out again
    assert unnoticed == [f"encoder_layer_{i}_multi_head_att_key_fc.b_0" for i in range(3)]


def test_tolerance_is_an_option(tmp_path):
    arrays = GOLDEN | {"out_match_score": GOLDEN["out_match_score"] + np.float32(1e-3)}
    golden = write_golden(tmp_path, arrays)
    assert verify(golden=golden).exit_code == 1
    assert verify(FIXTURE / "checkpoint", FIXTURE / "config.json", golden, "--tolerance", "2e-3").exit_code == 0


def test_recorded_nan_differs(tmp_path):
    arrays = GOLDEN | {"out_l_pooled": np.full_like(GOLDEN["out_l_pooled"], np.nan)}
    assert verify(golden=write_golden(tmp_path, arrays)).exit_code == 1


def test_padded_positions_are_not_compared(tmp_path):
    arrays = {name: array.copy() for name, array in GOLDEN.items()}
    arrays["out_l_seq"][2, 4:] = 99  # the third text has four tokens
    assert verify(golden=write_golden(tmp_path, arrays)).exit_code == 0
    arrays["out_l_seq"][2, 3] = 99
    assert verify(golden=write_golden(tmp_path, arrays)).exit_code == 1


# ---- files that record or hold less


@pytest.mark.parametrize("name", RECORDED)
def test_one_recorded_output_alone(name, tmp_path):
    arrays = {key: array for key, array in GOLDEN.items() if key == name or key.startswith("in_")}
    result = verify(golden=write_golden(tmp_path, arrays))
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == [name]


def test_inputs_that_are_not_needed_are_named(tmp_path):
    arrays = {name: GOLDEN[name] for name in ("in_src_ids", "in_pos_ids", "in_m_l", "in_loc", "out_l_seq")}
    result = verify(golden=write_golden(tmp_path, arrays | {"in_sent_ids": GOLDEN["in_src_ids"]}))
    assert result.exit_code == 0 and "no recorded output needs: in_loc, in_sent_ids" in result.stderr


def test_checkpoint_of_a_text_task(tmp_path):
    """A fine-tuned text model saves no image input, image pooler or LM head, and records no image."""
    text_only = {k: v for k, v in weights().items() if not any(p in k for p in ("image", "mask_lm", "match", "v_pre"))}
    write_folder(tmp_path / "checkpoint", text_only)
    given = ("in_src_ids", "in_pos_ids", "in_m_l", "out_l_seq", "out_l_pooled", "out_cls_logits")
    golden = write_golden(tmp_path, {name: GOLDEN[name] for name in given})
    result = verify(tmp_path / "checkpoint", golden=golden)
    assert result.exit_code == 0, result.output
    assert "starting at random: image, pool_image" in result.stderr
    pair = verify(tmp_path / "checkpoint")
    assert pair.exit_code == 2 and not pair.stdout
    assert "image_emb.w_0: missing, expected [24, 32]" in pair.stderr and "match_fc.w_0" in pair.stderr


def test_parts_that_are_needed_are_listed_where_they_are_missing_half_or_damaged(tmp_path):
    """One that no recorded output needs may be absent, but not half."""
    folder = Path(shutil.copytree(FIXTURE / "checkpoint", tmp_path / "checkpoint"))
    for path in folder.glob("match_fc*"):
        path.unlink()
    (folder / "cls_out_3_b").unlink()
    torn = folder / "mask_lm_out_fc.b_0"
    torn.write_bytes(torn.read_bytes()[:-1])
    result = verify(folder)
    assert result.exit_code == 2 and not result.stdout and "4 problem(s)" in result.stderr
    for part in ("match_fc.w_0: missing", "match_fc.b_0: missing", "cls_out_3_b: missing", f"{torn}: "):
        assert part in result.stderr
    kept = {key: array for key, array in GOLDEN.items() if key.startswith("in_") or key == "out_l_seq"}
    golden = write_golden(tmp_path, kept)
    assert "2 problem(s)" in verify(folder, golden=golden).stderr  # half a classifier, half an LM head
    for path in [*folder.glob("cls_out*"), *folder.glob("mask_lm*")]:
        path.unlink()
    assert verify(folder, golden=golden).exit_code == 0


def test_the_other_systems_folder_is_refused_by_name():
    result = verify(FIXTURE.parent / "unimo2_forward" / "checkpoint_vl")
    assert result.exit_code == 2 and "is of unimo-2, the sizes given are those of unimo" in result.stderr


# ---- input that cannot be used: exit code 2 and a message that says what was got and what was expected

BAD_GOLDEN = {
    "unknown output": ({"out_attention": GOLDEN["out_l_seq"]}, "out_attention", "out_lm_logits"),
    "missing input": ({"in_loc": None}, "in_loc: missing", "['B', 'N', 5]"),
    "no trailing axis": ({"in_src_ids": GOLDEN["in_src_ids"][..., 0]}, "in_src_ids: shape [3, 9]", "['B', 'S', 1]"),
    "other batch": ({"in_image": GOLDEN["in_image"][:2]}, "in_image: shape [2, 6, 24]", "= [3, 6, 24]"),
    "other feature width": ({"in_image": GOLDEN["in_image"][..., :9]}, "in_image: shape [3, 6, 9]", "[3, 6, 24]"),
    "mask too small": ({"in_m_vol": GOLDEN["in_m_vl"]}, "in_m_vol: shape [3, 15, 15]", "= [3, 20, 20]"),
    "mask not 0/1": ({"in_m_l": GOLDEN["in_m_l"] * -1e4}, "in_m_l", "0 and 1"),
    "everything masked": ({"in_m_l": GOLDEN["in_m_l"] * 0}, "in_m_l", "nothing to compare"),
    "id outside the table": ({"in_src_ids": GOLDEN["in_src_ids"] + 900}, "in_src_ids", "0 to 119"),
    "position outside": ({"in_pos_ids": GOLDEN["in_pos_ids"] - 2}, "in_pos_ids: -1", "0 to 39"),
    "ids as floats": ({"in_src_ids": GOLDEN["in_src_ids"].astype(np.float32)}, "in_src_ids", "integers"),
    "text as features": ({"in_image": GOLDEN["in_image"].astype(str)}, "in_image: data type", "numbers"),
    "empty batch": (
        {name: array[:0] for name, array in GOLDEN.items()},
        "in_src_ids: shape [0, 9, 1]",
        "none of them 0",
    ),
    "other labels": ({"out_cls_logits": GOLDEN["out_cls_logits"][:, :2]}, "cls_out_2_w: missing", "[32, 2]"),
    "output too short": ({"out_lm_logits": GOLDEN["out_lm_logits"][:, :5]}, "out_lm_logits: shape", "[3, 9, 120]"),
    "a single number": ({"out_cls_logits": np.float32(1)}, "out_cls_logits: shape []", "['B', 'C']"),
    "nothing recorded": (dict.fromkeys(RECORDED), "none", "out_l_seq"),
}


@pytest.mark.parametrize("case", BAD_GOLDEN)
def test_unusable_golden_file(case, tmp_path):
    changes, *parts = BAD_GOLDEN[case]
    arrays = {name: array for name, array in (GOLDEN | changes).items() if array is not None}
    result = verify(golden=write_golden(tmp_path, arrays))
    assert result.exit_code == 2, result.output
    assert not result.stdout and "Traceback" not in result.stderr
    assert all(part in result.stderr for part in parts), result.stderr


def test_golden_file_that_is_no_npz(tmp_path):
    whole = (FIXTURE / "io.npz").read_bytes()
    bad = tmp_path / "bad.npz"
    for content in (b"", b"text", whole[:-30], whole[:2000], whole[: len(whole) // 2] + whole[len(whole) // 2 + 8 :]):
        bad.write_bytes(content)
        result = verify(golden=bad)
        assert result.exit_code == 2 and "expected an npz" in result.stderr, result.output
    np.savez(bad, out_l_seq=np.array([{"a": "pickle"}], dtype=object))
    assert verify(golden=bad).exit_code == 2
    np.save(tmp_path / "one.npy", GOLDEN["out_l_seq"])
    assert verify(golden=tmp_path / "one.npy").exit_code == 2
    assert verify(golden=tmp_path / "absent.npz").exit_code == 2


def test_unusable_config(tmp_path):
    cases = {"hidden_size": "wide", "num_attention_heads": 5, "hidden_act": "relu", "type_vocab_size": 2}
    for key, value in cases.items():
        result = verify(config=write_config(tmp_path, **{key: value}))
        assert result.exit_code == 2 and key in result.stderr, result.output
    for text in ("", "[]", "{"):
        (tmp_path / "config.json").write_text(text)
        assert verify(config=tmp_path / "config.json").exit_code == 2
    assert verify(config=tmp_path / "absent.json").exit_code == 2
