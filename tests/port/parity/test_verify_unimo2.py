"""`unimo port verify --system unimo-2`: recorded passes agree, other sizes agree, and every fault of a port shows."""

import json
import shutil
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import plain_unimo2
import pytest
from click.testing import CliRunner, Result

from unimo.cli import main
from unimo.models import unimo2
from unimo.models.dictionary import GroundedDictionary
from unimo.models.heads import PoolHead
from unimo.models.layers import LayerNorm
from unimo.models.unimo2 import Unimo2
from unimo.models.vision import VisionTransformer
from unimo.port.files.variables import list_variables, open_variable, write_folder

FIXTURE = Path(__file__).parents[2] / "fixtures" / "parity" / "unimo2_forward"
MODES = ("vl", "txt", "img", "cap")
GOLDEN = {mode: dict(np.load(FIXTURE / f"io_{mode}.npz")) for mode in MODES}
RECORDED = {mode: {name for name in GOLDEN[mode] if name.startswith("out_")} for mode in MODES}


def verify(mode: str, folder: Path | None = None, config: Path | None = None, golden: Path | None = None) -> Result:
    files = [folder or FIXTURE / f"checkpoint_{mode}", "--config", config or FIXTURE / "config.json"]
    files += ["--golden", golden or FIXTURE / f"io_{mode}.npz", "--system", "unimo-2"]
    return CliRunner().invoke(main, ["port", "verify", *map(str, files)])


def differing(result: Result) -> set[str]:
    return {line.split()[0] for line in result.stdout.splitlines() if line.endswith("DIFFERS")}


def weights(mode: str) -> dict[str, np.ndarray]:
    files = list_variables(FIXTURE / f"checkpoint_{mode}")[0]
    return {name: np.array(open_variable(path).read()) for name, path in files.items()}


def write_golden(tmp_path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(tmp_path / "golden.npz", **arrays)
    return tmp_path / "golden.npz"


def write_config(tmp_path: Path, **changes: object) -> Path:
    values = json.loads((FIXTURE / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(values))
    return tmp_path / "config.json"


@pytest.mark.parametrize("mode", MODES)
def test_recorded_pass_agrees(mode):
    result = verify(mode)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {line[0] for line in lines} == RECORDED[mode]
    assert all(float(line[1]) <= 1e-5 for line in lines)


@pytest.mark.parametrize("mode", MODES)
def test_plain_numpy_agrees_with_the_recorded_pass(mode):
    sizes = {"vit": (2, 4), "text": (2, 4), "grounded": (2, 4), "patch": 16}
    got = plain_unimo2.outputs(mode, weights(mode), GOLDEN[mode], sizes, k=5)
    assert set(got) == RECORDED[mode]
    real = GOLDEN["vl"]["in_tmask"][:, 0] > 0
    for name in RECORDED[mode]:
        where = real if name in ("out_l", "out_tenc") else ...
        assert np.abs(got[name] - GOLDEN[mode][name])[where].max() < 1e-5, name


SMALL = {"vit": (1, 2), "text": (1, 2), "grounded": (2, 2), "patch": 16}
OTHER_STACKS = {"vit": (1, 2), "text": (3, 4), "grounded": (2, 1), "patch": 16}
CASES = {
    "other stacks": (MODES, dict(sizes=OTHER_STACKS, hidden=8)),
    "larger images": (("vl", "img"), dict(sizes=SMALL, side=272)),
    "patches of 14": (("img",), dict(sizes=SMALL | {"patch": 14}, side=210)),
    "no padding": (("txt", "cap"), dict(sizes=SMALL, tokens=[9, 9])),
    "wide padding": (("vl", "txt", "cap"), dict(sizes=SMALL, tokens=[3, 7, 5], pad=6)),
    "one code": (("vl",), dict(sizes=SMALL, k=1, codes=9)),
    "all codes": (("txt",), dict(sizes=SMALL, k=12, codes=12)),
    "clipped temperature": (("vl",), dict(sizes=SMALL, temperature=0.2)),
    "one image": (("cap",), dict(sizes=SMALL, tokens=[5])),
}


def make_case(
    tmp_path: Path,
    mode: str,
    sizes: dict,
    hidden: int = 16,
    side: int = 224,
    tokens: tuple[int, ...] = (5, 8),
    pad: int = 0,
    k: int = 4,
    codes: int = 30,
    temperature: float = 2.0,
) -> tuple[Path, Path, Path]:
    """Write checkpoint folder, config and golden file of a random model of the given sizes."""
    rng = np.random.default_rng(hidden + len(tokens) + codes)
    vocabulary, positions = 60, 30
    made = plain_unimo2.variables(rng, sizes, hidden, vocabulary, positions, codes, 3, temperature)
    objects = [length // 2 for length in tokens]
    given = plain_unimo2.inputs(mode, rng, vocabulary, side, sizes["patch"], tokens, pad, objects)
    if mode != "cap":  # a mask of keys, not of query and key
        given["in_tmask"] = given["in_tmask"][:, :1]
    given |= {
        name: np.asarray(array, np.int64 if name == "out_idx" else np.float32)
        for name, array in plain_unimo2.outputs(mode, made, given, sizes, k).items()
    }
    write_folder(tmp_path / "checkpoint", made)
    values = {"hidden_size": hidden, "text_vocab_size": vocabulary, "text_max_position_embeddings": positions}
    for stack, prefix in (("vit", "vit_"), ("text", "text_"), ("grounded", "")):
        layers, heads = sizes[stack]
        values |= {f"{prefix}num_hidden_layers": layers, f"{prefix}num_attention_heads": heads}
    config = write_config(tmp_path, **values, resolution=sizes["patch"])
    return tmp_path / "checkpoint", config, write_golden(tmp_path, given)


@pytest.mark.parametrize(("case", "mode"), [(case, mode) for case, (modes, _) in CASES.items() for mode in modes])
def test_other_sizes_and_paddings_agree(case, mode, tmp_path):
    result = verify(mode, *make_case(tmp_path, mode, **CASES[case][1]))
    assert result.exit_code == 0, result.output
    count = {"vl": 11, "txt": 7, "img": 5, "cap": 7}[mode]
    assert len(result.stdout.splitlines()) == count


def test_dropout_of_the_config_is_off(tmp_path):
    rates = dict.fromkeys(("hidden_dropout_prob", "text_hidden_dropout_prob", "vit_hidden_dropout_prob"), 0.5)
    assert verify("vl", config=write_config(tmp_path, **rates)).exit_code == 0


def test_json_without_the_options_of_the_command_line(tmp_path):
    values = json.loads((FIXTURE / "config.json").read_text())
    for key in ("topk_value", "num_codebook"):
        del values[key]
        (tmp_path / "config.json").write_text(json.dumps(values))
        assert verify("vl", config=tmp_path / "config.json").exit_code == 0


# ---- parts of a file and of a folder


@pytest.mark.parametrize("mode", MODES)
def test_one_output_tells_the_pass(mode, tmp_path):
    states = {"out_l", "out_v", "out_pool"} if mode == "vl" else set()  # alone, these are of a stream alone
    for name in RECORDED[mode] - states:
        kept = {key: array for key, array in GOLDEN[mode].items() if key.startswith("in_") or key == name}
        result = verify(mode, golden=write_golden(tmp_path, kept))
        assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1, result.output


def test_only_what_is_needed_must_be_there(tmp_path):
    """Text alone, from a folder whose ViT and image pooler are damaged or gone."""
    folder = Path(shutil.copytree(FIXTURE / "checkpoint_vl", tmp_path / "checkpoint"))
    (folder / "vit.position_embeddings").write_bytes(b"torn")
    (folder / "grounded.pooled_fc_image.w_0").unlink()
    write_folder(folder, {"cls_out_new_w": np.ones([32, 2], np.float32), "own_variable": np.ones(1, np.float32)})
    kept = {"out_tenc": GOLDEN["vl"]["out_tenc"]} | {n: GOLDEN["vl"][n] for n in ("in_src", "in_pos", "in_tmask")}
    result = verify("vl", folder, golden=write_golden(tmp_path, kept))
    assert result.exit_code == 0, result.output
    assert "not loaded, no recorded output needs them: vit, pool_text, pool_image, match, cmcl" in result.stderr
    assert "own_variable" in result.stderr and "cls_out_new_w (head of a task" in result.stderr


def test_codes_may_be_recorded_in_any_order(tmp_path):
    swapped = {name: GOLDEN["vl"][name][:, ::-1] for name in ("out_idx", "out_g")}
    assert verify("vl", golden=write_golden(tmp_path, GOLDEN["vl"] | swapped)).exit_code == 0
    alone = GOLDEN["vl"] | {"out_g": swapped["out_g"]}
    assert differing(verify("vl", golden=write_golden(tmp_path, alone))) == {"out_g"}


def test_another_code_differs(tmp_path):
    chosen = GOLDEN["vl"]["out_idx"].copy()
    chosen[1, 2] = next(code for code in range(40) if code not in chosen[1])
    result = verify("vl", golden=write_golden(tmp_path, GOLDEN["vl"] | {"out_idx": chosen}))
    assert "out_idx" in differing(result) and result.exit_code == 1


# ---- faults that must show


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("vit.patch_embeddings_projection_weight", "out_venc"),
        ("vit.cls_token_embeddings", "out_venc"),
        ("vit.position_embeddings", "out_venc"),
        ("text.pos_embedding", "out_tenc"),
        ("vq_emb", "out_vq"),
        ("grounded.pre_encoder_layer_norm_scale", "out_g"),
        ("grounded.pooled_fc_image.w_0", "out_match"),
    ],
)
def test_changed_variable_differs(name, changed, tmp_path):
    folder = Path(shutil.copytree(FIXTURE / "checkpoint_vl", tmp_path / "checkpoint"))
    array = weights("vl")[name]
    write_folder(folder, {name: array + np.random.default_rng(0).normal(0, 0.1, array.shape).astype(np.float32)})
    assert changed in differing(verify("vl", folder))


@pytest.mark.parametrize(("stack", "changed"), [("vit", "out_venc"), ("text", "out_tenc"), ("grounded", "out_g")])
def test_swapped_query_and_key_differ(stack, changed, tmp_path):
    folder, config, golden = make_case(tmp_path, "vl", sizes=OTHER_STACKS, hidden=8)
    query, key = (folder / f"{stack}.encoder_layer_0_multi_head_att_{kind}_fc.w_0" for kind in ("query", "key"))
    query.rename(tmp_path / "query")
    key.rename(query)
    (tmp_path / "query").rename(key)
    assert changed in differing(verify("vl", folder, config, golden))


@pytest.mark.parametrize("prefix", ["", "text_", "vit_"])
def test_layer_count_of_the_config_counts(prefix, tmp_path):
    fewer, more = ({f"{prefix}num_hidden_layers": n} for n in (1, 3))
    assert verify("vl", config=write_config(tmp_path, **fewer)).exit_code == 1
    result = verify("vl", config=write_config(tmp_path, **more))
    assert result.exit_code == 2 and "encoder_layer_2_multi_head_att_query_fc.w_0: missing" in result.stderr


def built_with(monkeypatch, layer: type, **changes: object) -> None:
    """Build every such layer with these arguments instead of the right ones."""
    right = layer.__init__
    monkeypatch.setattr(layer, "__init__", lambda self, *args, **given: right(self, *args, **given | changes))


def test_other_epsilon_of_the_vit_differs(monkeypatch):
    built_with(monkeypatch, VisionTransformer, epsilon=1e-5)
    assert differing(verify("img")) >= {"out_venc", "out_v"}


def test_other_epsilon_of_the_text_differs(monkeypatch):
    right = LayerNorm.__init__
    monkeypatch.setattr(LayerNorm, "__init__", lambda self, width, epsilon: right(self, width, 1e-12))
    assert differing(verify("txt")) >= {"out_tenc", "out_l", "out_g"}


def test_unpadded_patches_differ(monkeypatch):
    built_with(monkeypatch, VisionTransformer, patch_padding=0)
    assert differing(verify("img")) >= {"out_venc", "out_v"}


def test_tanh_pooler_differs(monkeypatch):
    monkeypatch.setattr(PoolHead, "forward", lambda self, state: paddle.tanh(self.affine(state)))
    assert differing(verify("vl")) == {"out_pool", "out_match", "out_match_logits"}
    assert differing(verify("txt")) == {"out_pool", "out_cls_logits"}


def test_pads_without_a_vote_differ(monkeypatch):
    right = GroundedDictionary.forward
    real = paddle.to_tensor(GOLDEN["txt"]["in_tmask"][:, 0, 1:, None])
    monkeypatch.setattr(GroundedDictionary, "forward", lambda self, z, k, votes: right(self, z * real, k))
    assert "out_vq" in differing(verify("txt"))


def test_class_tokens_with_a_vote_differ(monkeypatch):
    right = GroundedDictionary.forward
    once_more = lambda self, z, k, votes: right(self, paddle.concat([z[:, :1], z], 1), k)  # noqa: E731
    monkeypatch.setattr(GroundedDictionary, "forward", once_more)
    assert "out_vq" in differing(verify("img"))


def test_image_and_text_that_see_each_other_differ(monkeypatch):
    monkeypatch.setattr(unimo2, "pair_mask", open_mask)
    assert differing(verify("vl")) >= {"out_v", "out_l", "out_g"}


def open_mask(image: int, codes: paddle.Tensor, text: paddle.Tensor, bridge: bool) -> paddle.Tensor:
    seen = paddle.concat([paddle.ones([3, image]), codes, text.astype("float32")], 1)
    return paddle.ones([3, seen.shape[1], 1]) * seen.unsqueeze(1)


def test_caption_that_does_not_see_the_image_differs(monkeypatch):
    def blind(context, text):
        mask = right(context, text)
        mask[:, context:, : context - 5] = 0  # five codes follow the image
        return mask

    right = unimo2.grounded_captioning_mask
    monkeypatch.setattr(unimo2, "grounded_captioning_mask", blind)
    assert differing(verify("cap")) == {"out_l", "out_lm_logits"}


def test_contrast_of_two_normalised_features_differs(monkeypatch):
    def both(self, encoded):
        pair = F.normalize(encoded.vit[:, 0], axis=-1), F.normalize(encoded.text_encoder[:, 0], axis=-1)
        return (pair[0] * pair[1]).sum(-1, keepdim=True)

    monkeypatch.setattr(Unimo2, "contrast_score", both)
    assert differing(verify("vl")) == {"out_cmcl"}


# ---- unusable files

BAD_GOLDEN = {
    "no image": ({"in_img": None}, "in_img: missing", "['B', 'W', 'W', 3]"),
    "channels first": ({"in_img": GOLDEN["vl"]["in_img"].transpose(0, 3, 1, 2)}, "in_img: shape [3, 3, 224, 224]"),
    "hidden patches": ({"in_imask": GOLDEN["vl"]["in_imask"] * 0}, "in_imask hides patches"),
    "another image": ({"in_img": GOLDEN["vl"]["in_img"][:, :96, :96]}, "out_venc: shape [3, 197, 32]", "[3, 37, 32]"),
    "half a mask": ({"in_tmask": GOLDEN["vl"]["in_tmask"] / 2}, "in_tmask: other values than 0 and 1"),
    "everything masked": ({"in_tmask": GOLDEN["vl"]["in_tmask"] * 0}, "in_tmask", "nothing to compare"),
    "id outside": ({"in_src": GOLDEN["vl"]["in_src"] + 90}, "in_src: 90 to", "0 to 100"),
    "position outside": ({"in_pos": GOLDEN["vl"]["in_pos"] + 60}, "in_pos: 61 to", "0 to 59"),
    "more codes chosen than there are": ({"out_idx": np.zeros([3, 41], np.int64), "out_g": None}, "out_idx: shape"),
    "two counts of codes": ({"out_idx": GOLDEN["vl"]["out_idx"][:, :4]}, "out_g: shape [3, 5, 32]", "[3, 4, 32]"),
    "loss of each example": ({"out_vq": np.ones(3, np.float32)}, "out_vq: shape [3]"),
    "another system": ({"out_vl_text": np.ones(3, np.float32)}, "out_vl_text", "out_venc"),
}


@pytest.mark.parametrize("case", BAD_GOLDEN)
def test_unusable_golden_file(case, tmp_path):
    changes, *parts = BAD_GOLDEN[case]
    arrays = {name: array for name, array in (GOLDEN["vl"] | changes).items() if array is not None}
    result = verify("vl", golden=write_golden(tmp_path, arrays))
    assert result.exit_code == 2, result.output
    assert not result.stdout and "Traceback" not in result.stderr
    assert all(part in result.stderr for part in parts), result.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vit_hidden_act", "relu"),
        ("grounding_method", "normal"),
        ("hidden_size", 0),
    ],
)
def test_unusable_config(key, value, tmp_path):
    result = verify("vl", config=write_config(tmp_path, **{key: value}))
    assert result.exit_code == 2 and key in result.stderr, result.output
