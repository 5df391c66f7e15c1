"""Names of ViT libraries <-> ours, as data: Hugging Face, timm, Google's `.npz`.

Ours are those of `VisionTransformer`, without the tower's own prefix. Source of theirs: transformers 5.23 (ViTModel),
timm 1.0.31 (vision_transformer.py), and for the `.npz` what timm reads of google-research's vision_transformer and
big_vision. A version of a library that names things otherwise is a layout of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from unimo.port.weights import Table


@dataclass(frozen=True)
class Layout:
    """How one library keeps a ViT. {i} counts layers."""

    library: str
    table: Table  # all but the layers; `cls` first
    layer: Table
    torch: bool  # weights of affine maps are [out, in]
    epsilon: float  # of its layer norms, where no config says otherwise
    heads: Mapping[str, str]  # start of a name -> what is behind the encoder, or not used with a whole image
    others: Mapping[str, str]  # part of a name -> what makes the encoder another function than ours

    def names(self, layers: int) -> dict[str, tuple[str, ...]]:
        """Our parameters -> theirs, in our order."""
        table = dict(self.table)
        for i in range(layers):
            for ours, theirs in self.layer.items():
                table[f"layers.{i}.{ours}"] = tuple(name.format(i=i) for name in theirs)
        return table


def _torch(ours: str, *theirs: str) -> dict[str, tuple[str, ...]]:
    return {f"{ours}.{kind}": tuple(f"{t}.{kind}" for t in theirs) for kind in ("weight", "bias")}


def _flax(ours: str, *theirs: str) -> dict[str, tuple[str, ...]]:
    weight = "scale" if "norm" in ours else "kernel"
    return {f"{ours}.{o}": tuple(f"{t}/{k}" for t in theirs) for o, k in (("weight", weight), ("bias", "bias"))}


_EMBEDDINGS_HF = {
    "cls": ("embeddings.cls_token",),
    "position": ("embeddings.position_embeddings",),
    **_torch("patch", "embeddings.patch_embeddings.projection"),
    **_torch("norm", "layernorm"),
}
_HEADS_HF = {
    "pooler.": "pooler",
    "classifier.": "class head",
    "decoder.": "decoder of masked images",
    "embeddings.mask_token": "vector of masked patches",
}
_OTHERS_HF = {
    "distillation_token": "a distillation token in the sequence (DeiT)",
    "register_tokens": "register tokens in the sequence (DINOv2)",
    "layer_scale": "layer scale (DINOv2)",
    "lambda_": "layer scale (BEiT)",
    "relative_position": "relative positions (BEiT)",
    "q_norm": "norms of queries and keys",
    "k_norm": "norms of queries and keys",
}
HF = Layout(
    "Hugging Face's ViT",
    _EMBEDDINGS_HF,
    {
        **_torch("attention_norm", "encoder.layer.{i}.layernorm_before"),
        **_torch("attention.qkv", *(f"encoder.layer.{{i}}.attention.attention.{n}" for n in ("query", "key", "value"))),
        **_torch("attention.out", "encoder.layer.{i}.attention.output.dense"),
        **_torch("feed_forward_norm", "encoder.layer.{i}.layernorm_after"),
        **_torch("feed_forward.inner", "encoder.layer.{i}.intermediate.dense"),
        **_torch("feed_forward.outer", "encoder.layer.{i}.output.dense"),
    },
    True,
    1e-12,
    _HEADS_HF,
    _OTHERS_HF,
)
HF_MODULES = Layout(  # the names of transformers 5's modules, as torch.save(model.state_dict()) writes them
    "Hugging Face's ViT",
    _EMBEDDINGS_HF,
    {
        **_torch("attention_norm", "layers.{i}.layernorm_before"),
        **_torch("attention.qkv", *(f"layers.{{i}}.attention.{n}_proj" for n in "qkv")),
        **_torch("attention.out", "layers.{i}.attention.o_proj"),
        **_torch("feed_forward_norm", "layers.{i}.layernorm_after"),
        **_torch("feed_forward.inner", "layers.{i}.mlp.fc1"),
        **_torch("feed_forward.outer", "layers.{i}.mlp.fc2"),
    },
    True,
    1e-12,
    _HEADS_HF,
    _OTHERS_HF,
)
TIMM = Layout(
    "timm's ViT",
    {
        "cls": ("cls_token",),
        "position": ("pos_embed",),
        **_torch("patch", "patch_embed.proj"),
        **_torch("norm", "norm"),
    },
    {
        **_torch("attention_norm", "blocks.{i}.norm1"),
        **_torch("attention.qkv", "blocks.{i}.attn.qkv"),
        **_torch("attention.out", "blocks.{i}.attn.proj"),
        **_torch("feed_forward_norm", "blocks.{i}.norm2"),
        **_torch("feed_forward.inner", "blocks.{i}.mlp.fc1"),
        **_torch("feed_forward.outer", "blocks.{i}.mlp.fc2"),
    },
    True,
    1e-6,
    {
        "head.": "class head",
        "pre_logits.": "layer before the class head",
        "attn_pool.": "attention pooling behind the encoder",
        "mask_token": "vector of masked patches",
    },
    {
        "dist_token": "a distillation token in the sequence (DeiT)",
        "head_dist": "a distillation token in the sequence (DeiT)",
        "reg_token": "register tokens in the sequence",
        "fc_norm": "the mean of the patches instead of a final norm (fc_norm)",
        "norm_pre": "a norm before the first block (CLIP)",
        ".ls1.": "layer scale",
        ".ls2.": "layer scale",
        ".gamma_": "layer scale",
        ".q_norm": "norms of queries and keys",
        ".k_norm": "norms of queries and keys",
        ".attn.norm": "a norm inside the attention",
        ".mlp.norm": "a norm inside the feed-forward",
        "fc1_g": "a gated feed-forward",
        "rel_pos": "relative positions",
        "relative_position": "relative positions",
    },
)
_HEADS_NPZ = {
    "head/": "class head",
    "pre_logits/": "layer before the class head",
    "MAPHead_0/": "attention pooling behind the encoder",
}
_OTHERS_NPZ = {
    "conv_root": "a ResNet in front of the patches (hybrid)",
    "gn_root": "a ResNet in front of the patches (hybrid)",
    "block1/": "a ResNet in front of the patches (hybrid)",
    "Transformer/encoderblock/": "all layers stacked in one tensor (scan), which this reader does not take apart",
}


def _npz(attention: int, mlp: int, second_norm: int, position: str) -> Layout:
    """Flax numbers the parts of a block; the two code bases built them in different orders."""
    block = "Transformer/encoderblock_{i}/"
    products = (f"{block}MultiHeadDotProductAttention_{attention}/{n}" for n in ("query", "key", "value"))
    return Layout(
        "Google's ViT",
        {
            "cls": ("cls",),
            "position": (position,),
            **_flax("patch", "embedding"),
            **_flax("norm", "Transformer/encoder_norm"),
        },
        {
            **_flax("attention_norm", f"{block}LayerNorm_0"),
            **_flax("attention.qkv", *products),
            **_flax("attention.out", f"{block}MultiHeadDotProductAttention_{attention}/out"),
            **_flax("feed_forward_norm", f"{block}LayerNorm_{second_norm}"),
            **_flax("feed_forward.inner", f"{block}MlpBlock_{mlp}/Dense_0"),
            **_flax("feed_forward.outer", f"{block}MlpBlock_{mlp}/Dense_1"),
        },
        False,
        1e-6,
        _HEADS_NPZ,
        _OTHERS_NPZ,
    )


NPZ = _npz(1, 3, 2, "Transformer/posembed_input/pos_embedding")  # google-research/vision_transformer
BIG_VISION = _npz(0, 0, 1, "pos_embedding")
