"""UNIMO-2's names in the release <-> ours: complete, one to one, and told apart by what a folder holds."""

from pathlib import Path

import paddle
import pytest

from unimo.config import load
from unimo.models.systems import skeleton
from unimo.models.unimo2 import HEADS, Unimo2, Unimo2Config
from unimo.port.files.variables import list_variables, open_variable, write_folder
from unimo.port.names.unimo2_names import NOT_OURS, heads_of, name_table, parts_of, sizes_in
from unimo.port.weights import fill, gather, problems, scatter, shapes_of, values_of

ROOT = Path(__file__).parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "parity" / "unimo2_forward"
UNION = ("pool", "match", "cmcl", "lm")  # what the released graphs hold together


def config_of(size: str) -> Unimo2Config:
    return load(Unimo2Config, ROOT / "model_configs" / "models" / f"unimo2_{size}.yaml")


def release_names(layers: int) -> set[str]:
    """The union of the release's graphs, spelled out apart from the table under test."""
    names = {"vit.cls_token_embeddings", "vit.position_embeddings", "text.word_embedding", "text.pos_embedding"}
    names |= {f"vit.patch_embeddings_projection_{kind}" for kind in ("weight", "bias")}
    names |= {"vq_emb", "cmcl_temperature", "topk_temperature", "grounded.mask_lm_out_fc.b_0"}
    affine = ["pooled_fc_text", "pooled_fc_image", "img_text_matching_fc", "mask_lm_trans_fc"]
    affine = [f"grounded.{name}" for name in affine]
    norms = ["vit.post_encoder", "text.pre_encoder", "grounded.pre_encoder", "grounded.mask_lm_trans"]
    for stack, place in (("vit", "pre"), ("text", "post"), ("grounded", "post")):
        for i in range(layers):
            layer = f"{stack}.encoder_layer_{i}"
            affine += [f"{layer}_multi_head_att_{kind}_fc" for kind in ("query", "key", "value", "output")]
            affine += [f"{layer}_ffn_fc_0", f"{layer}_ffn_fc_1"]
            norms += [f"{layer}_{place}_att", f"{layer}_{place}_ffn"]
    names |= {f"{name}.{kind}" for name in affine for kind in ("w_0", "b_0")}
    return names | {f"{name}_layer_norm_{kind}" for name in norms for kind in ("scale", "bias")}


@pytest.mark.parametrize(("size", "layers", "variables"), [("base", 12, 602), ("large", 24, 1178)])
def test_names_of_the_released_sizes(size, layers, variables):
    config = config_of(size)
    table = name_table(config, parts_of(UNION))
    names = [name for group in table.values() for name in group]
    assert len(names) == len(set(names)) == variables
    assert set(names) == release_names(layers)
    assert set(table) == set(shapes_of(skeleton("unimo-2", config, UNION)))


@pytest.mark.parametrize(
    ("heads", "streams", "variables"),
    [
        (("pool", "cmcl", "classify"), ("text",), 397),
        (("pool", "match", "cmcl"), ("image", "text"), 597),
        (("lm",), ("image", "text"), 595),
    ],
)
def test_variables_of_the_released_graphs(heads, streams, variables):
    config = config_of("base")
    table = name_table(config, parts_of(heads, streams))
    assert sum(map(len, table.values())) == variables
    with paddle.LazyGuard():
        assert set(table) == set(shapes_of(Unimo2(config, heads, streams)))


def test_every_parameter_has_a_release_name():
    config = config_of("tiny")
    table = name_table(config)
    assert set(table) == set(shapes_of(skeleton("unimo-2", config, HEADS)))
    assert not set(NOT_OURS) & {name for group in table.values() for name in group}


HELD = {  # heads and label counts of the recorded folders
    "vl": ({"pool", "match", "cmcl"}, ()),
    "txt": ({"pool", "classify", "cmcl"}, (3,)),
    "img": ({"cmcl"}, ()),
    "cap": ({"lm"}, ()),
}


@pytest.mark.parametrize("mode", HELD)
def test_folder_comes_back_byte_for_byte(mode, tmp_path):
    """The release's variables -> a model -> variables; sizes and heads are those that the folder tells."""
    folder = FIXTURE / f"checkpoint_{mode}"
    stored = {name: open_variable(path) for name, path in list_variables(folder)[0].items()}
    shapes = {name: variable.shape for name, variable in stored.items()}
    sizes = sizes_in(shapes)
    assert sizes["hidden_size"] == 32 and (sizes["num_codebook"], sizes["topk_value"]) == (40, 40)
    assert sizes.get("text_vocab_size") == (None if mode == "img" else 101)
    assert (sizes.get("image_size"), sizes.get("vit_num_hidden_layers")) == (
        (None, None) if mode == "txt" else (224, 2)
    )
    heads, labels = heads_of(shapes)
    assert (set(heads), labels) == HELD[mode]
    streams = {"txt": ("text",), "img": ("image",)}.get(mode, ("image", "text"))
    config = {"num_labels": 3} | sizes | {f"{s}num_attention_heads": 4 for s in ("", "text_", "vit_")}
    model = Unimo2(Unimo2Config(**config), heads, streams)
    table = name_table(model.config, parts_of(heads, streams))
    assert {name for group in table.values() for name in group} == set(stored)
    assert problems(table, stored, shapes_of(model)) == []
    fill(model, gather(table, stored, shapes_of(model)))
    write_folder(tmp_path / "again", scatter(table, values_of(model)))
    for name in stored:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_query_key_and_value_are_joined_in_that_order():
    table = name_table(config_of("tiny"))
    for stack in ("vit", "text", "grounded"):
        names = table[f"{stack}.layers.1.attention.qkv.weight"]
        kinds = ("query", "key", "value")
        assert names == tuple(f"{stack}.encoder_layer_1_multi_head_att_{kind}_fc.w_0" for kind in kinds)


def test_heads_and_labels_are_told_by_names_and_shapes():
    assert heads_of({"cls_out_w": (32, 3), "cls_out_b": (3,)}) == (("classify",), (3,))
    assert heads_of({"grounded.mask_g_out_fc.b_0": (40,), "grounded.pooled_fc_image.b_0": (32,)}) == (
        ("pool", "code"),
        (),
    )
    assert heads_of({"cls_out_new_w": (32, 3)}) == ((), ())


def test_sizes_need_the_dictionary():
    with pytest.raises(KeyError):
        sizes_in({"text.word_embedding": (101, 32)})
    for shape in ((), (3,)):
        with pytest.raises(ValueError):
            sizes_in({"vq_emb": (40, 32), "text.word_embedding": shape})


def test_folder_of_other_sizes_than_the_configs_is_refused_by_name():
    model = skeleton("unimo-2", config_of("tiny").model_copy(update={"num_codebook": 41}), ())
    stored = {"vq_emb": open_variable(FIXTURE / "checkpoint_txt" / "vq_emb")}
    wrong = problems({"dictionary.codes": ("vq_emb",)}, stored, shapes_of(model))
    assert wrong == ["vq_emb: shape [40, 32], expected [41, 32]"]
