"""Names of the original UNIMO-2 release <-> ours. Affine maps are kept [in, out] in both: nothing is transposed.

Source of the names: the release's unimo_grounded.py, transformer_encoder.py, vision_transformer_encoder.py and
fine-tuning programs.
"""

import re
from collections.abc import Collection, Iterable, Mapping

from unimo.models.unimo2 import GRID, STREAMS, Unimo2Config
from unimo.port.names.release_names import Rows, affine, block, holds, norm

Shapes = Mapping[str, tuple[int, ...]]

# Part of the model -> our parameter -> the release's variables that make it. {i} counts layers.
PARTS: dict[str, Rows] = {
    "vit": {
        "vit.patch.weight": ("vit.patch_embeddings_projection_weight",),
        "vit.patch.bias": ("vit.patch_embeddings_projection_bias",),
        "vit.cls": ("vit.cls_token_embeddings",),
        "vit.position": ("vit.position_embeddings",),
        **block("vit.layers.{i}", "vit.encoder_layer_{i}", "pre"),
        **norm("vit.norm", "vit.post_encoder_layer_norm"),
    },
    "text": {
        "text.word_embedding.weight": ("text.word_embedding",),
        "text.position_embedding.weight": ("text.pos_embedding",),
        **norm("text.norm", "text.pre_encoder_layer_norm"),
        **block("text.layers.{i}", "text.encoder_layer_{i}", "post"),
    },
    "grounded": {
        **norm("grounded.norm", "grounded.pre_encoder_layer_norm"),
        **block("grounded.layers.{i}", "grounded.encoder_layer_{i}", "post"),
    },
    "dictionary": {"dictionary.codes": ("vq_emb",), "dictionary.temperature": ("topk_temperature",)},
    "pool_text": affine("pool_text.affine", "grounded.pooled_fc_text"),
    "pool_image": affine("pool_image.affine", "grounded.pooled_fc_image"),
    "match": affine("match.affine", "grounded.img_text_matching_fc"),
    "cmcl": {"cmcl_temperature": ("cmcl_temperature",)},
    "lm": {
        **affine("lm.transform", "grounded.mask_lm_trans_fc"),
        **norm("lm.norm", "grounded.mask_lm_trans_layer_norm"),
        "lm.bias": ("grounded.mask_lm_out_fc.b_0",),
    },
    "code": {
        **affine("code.transform", "grounded.mask_g_trans_fc"),
        **norm("code.norm", "grounded.mask_g_trans_layer_norm"),
        "code.bias": ("grounded.mask_g_out_fc.b_0",),
    },
    "classify": {"classify.affine.weight": ("cls_out_w",), "classify.affine.bias": ("cls_out_b",)},
}
TOPK = 100  # codes a sample in every released recipe; no variable tells it
CORE = ("dictionary", "grounded")  # in every graph of the release; one of a single stream lacks the other's encoder
HEAD_PARTS = {"pool": ("pool_text", "pool_image")} | {
    head: (head,) for head in ("match", "cmcl", "lm", "code", "classify")
}
LAYERS = {"vit": "vit_num_hidden_layers", "text": "text_num_hidden_layers", "grounded": "num_hidden_layers"}

# Our projections -> the release's, of which no released recipe makes use.
PROJECTIONS = {
    "voters.image": "grounded.grounding_patch_projection",
    "voters.text": "grounded.grounding_token_projection",
    "projections.image": "grounded.cmcl_pooled_fc_image",
    "projections.text": "grounded.cmcl_pooled_fc_text",
}

# Variables of the release that this model has no place for, and what they belong to.
NOT_OURS = {
    **{
        f"{name}.{kind}": "projection that the config does not ask for"
        for name in PROJECTIONS.values()
        for kind in ("w_0", "b_0")
    },
    "cls_out_new_w": "head of a task that starts from MNLI's model",
    "cls_out_new_b": "head of a task that starts from MNLI's model",
    "grounded.mask_lm_out_fc.w_0": "output table of an LM head that is not tied to the word table",
    "duplicated_trigram_blocking_id2is_full_token": "constant of the decoding program",
    "duplicated_trigram_blocking_delta_score_out": "constant of the decoding program",
}


def name_table(config: Unimo2Config, parts: Collection[str] = tuple(PARTS)) -> Rows:
    """The rows of `parts` that a model of these sizes has, with layer numbers filled in."""
    table: dict[str, tuple[str, ...]] = {}
    grounds = config.grounding_method != "none"
    wanted = {"voters": config.with_grounding_projection}
    wanted["projections"] = config.with_cmcl_projection and not config.cmcl_share_parameters
    encoders = {"image": "vit", "text": "text"}
    for name, projection in PROJECTIONS.items():
        of, stream = name.split(".")
        if wanted[of] and encoders[stream] in parts:
            table |= affine(f"{name}.affine", projection)
    for part in parts:
        if part == "dictionary" and not grounds:
            continue
        for i in range(getattr(config, LAYERS[part]) if part in LAYERS else 1):
            for ours, theirs in PARTS[part].items():
                if grounds or not ours.startswith("grounded.norm."):
                    table[ours.format(i=i)] = tuple(name.format(i=i) for name in theirs)
    return table


def heads_of(shapes: Shapes) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Heads of Unimo2 that variables of these names and shapes are for, and the label count of its `cls_out` head."""
    held = [head for head, parts in HEAD_PARTS.items() if any(holds(shapes, PARTS[part]) for part in parts)]
    return tuple(held), shapes["cls_out_w"][-1:] if "cls_out_w" in shapes else ()


def parts_of(heads: Iterable[str], streams: Iterable[str] = STREAMS) -> list[str]:
    """Parts of a model with these heads and streams."""
    built = [part for head in heads for part in HEAD_PARTS[head]]
    encoders = {"image": ("vit", "pool_image"), "text": ("text", "pool_text")}
    absent = {part for stream, parts in encoders.items() if stream not in streams for part in parts}
    return [part for part in ("vit", "text", *CORE, *built) if part not in absent]


def sizes_in(shapes: Shapes) -> dict[str, int]:
    """Sizes that the shapes of a release's variables tell, by config key.

    Raises:
        KeyError, ValueError: a variable that tells them is missing or of other dimensions.
    """
    codes, hidden = shapes["vq_emb"]
    sizes = {"num_codebook": codes, "hidden_size": hidden, "topk_value": min(codes, TOPK)}
    for part, key in LAYERS.items():
        found = {m[1] for m in (re.match(rf"{part}\.encoder_layer_(\d+)_", name) for name in shapes) if m}
        sizes |= {key: len(found)} if found else {}
    if "text.word_embedding" in shapes:
        sizes["text_vocab_size"], _ = shapes["text.word_embedding"]
        sizes["text_max_position_embeddings"], _ = shapes["text.pos_embedding"]
    if "vit.patch_embeddings_projection_weight" in shapes:
        *_, sizes["resolution"] = shapes["vit.patch_embeddings_projection_weight"]
        sizes["image_size"] = GRID * sizes["resolution"]
    return sizes
