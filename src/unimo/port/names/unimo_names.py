"""Names of the original UNIMO release <-> ours. Its affine maps are kept [in, out] as ours are: nothing is transposed.

Source of the names: the release's transformer_encoder.py, unimo_finetune.py and fine-tuning programs.
"""

import re
from collections.abc import Iterable, Mapping

from unimo.models.unimo import UnimoConfig
from unimo.port.names.release_names import Rows, affine, block, holds, norm

# Part of the model -> our parameter -> the release's variables that make it, joined along the last axis.
# {i} counts layers, {n} is the number of labels.
PARTS: dict[str, Rows] = {
    "text": {
        "word_embedding.weight": ("word_embedding",),
        "position_embedding.weight": ("pos_embedding",),
        **norm("text_norm", "pre_encoder_layer_norm"),
    },
    "encoder": block("layers.{i}", "encoder_layer_{i}", "post"),
    "image": {
        **affine("image_embedding", "image_emb"),
        **affine("box_embedding", "image_loc"),
        **norm("image_norm", "v_pre_encoder_layer_norm"),
    },
    "pool_text": affine("pool_text.affine", "pooled_fc_text"),
    "pool_image": affine("pool_image.affine", "pooled_fc_image"),
    "lm": {
        **affine("lm.transform", "mask_lm_trans_fc"),
        **norm("lm.norm", "mask_lm_trans_layer_norm"),
        "lm.bias": ("mask_lm_out_fc.b_0",),
    },
    "match": affine("match.affine", "match_fc"),
    "classify": {"classify.affine.weight": ("cls_out_{n}_w",), "classify.affine.bias": ("cls_out_{n}_b",)},
    "entail": {
        "entail.inner.weight": ("cls_out_w_0",),
        "entail.inner.bias": ("cls_out_b_0",),
        "entail.affine.weight": ("cls_out_w_1",),
        "entail.affine.bias": ("cls_out_b_1",),
    },
}
CORE = ("text", "encoder", "image")
ENTAILED = "cls_out_b_1"  # as many values as SNLI-VE's head has labels
HEAD_PARTS = {"pool": ("pool_text", "pool_image")} | {head: (head,) for head in ("lm", "match", "classify", "entail")}

# Variables of the release that this model has no place for, and what they belong to.
NOT_OURS = {
    "mask_lm_out_fc.w_0": "output table of an LM head that is not tied to the word table",
    "role_embedding": "CoQA dialogue",
    "turn_embedding": "CoQA dialogue",
    "duplicated_trigram_blocking_id2is_full_token": "constant of the decoding program",
    "duplicated_trigram_blocking_delta_score_out": "constant of the decoding program",
}


def name_table(config: UnimoConfig, parts: Iterable[str] = PARTS) -> dict[str, tuple[str, ...]]:
    """The rows of `parts` with layer numbers and label count filled in."""
    table = {}
    for part in parts:
        for i in range(config.num_hidden_layers if part == "encoder" else 1):
            for ours, theirs in PARTS[part].items():
                table[ours.format(i=i)] = tuple(name.format(i=i, n=config.num_labels) for name in theirs)
    return table


def heads_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Heads of Unimo that variables of these names and shapes are for, and the label counts of its `cls_out_{n}` heads,
    or else that of SNLI-VE's."""
    matches = (re.fullmatch(r"cls_out_([1-9][0-9]*)_[wb]", name) for name in shapes)
    labels = tuple(sorted({int(m[1]) for m in matches if m}))
    held = {part for part, rows in PARTS.items() if holds(shapes, rows)} | ({"classify"} if labels else set())
    return tuple(head for head, parts in HEAD_PARTS.items() if held & set(parts)), labels or shapes.get(ENTAILED, ())[
        -1:
    ]


def parts_of(heads: Iterable[str]) -> list[str]:
    """Parts of a model with these heads; heads of our own have none."""
    return [*CORE, *(part for head in heads for part in HEAD_PARTS.get(head, ()))]


def sizes_in(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes that the shapes of a release's variables tell, by config key; raises KeyError for a core one missing."""
    vocabulary, hidden = shapes["word_embedding"]
    layers = {m[1] for m in (re.match(r"encoder_layer_(\d+)_", name) for name in shapes) if m}
    sizes = {"vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": len(layers)}
    sizes["max_position_embeddings"] = shapes["pos_embedding"][0]
    if "image_emb.w_0" in shapes:
        sizes["image_embedding_size"] = shapes["image_emb.w_0"][0]
    return sizes
