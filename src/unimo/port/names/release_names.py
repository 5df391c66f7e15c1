"""How the releases name the variables of a layer. Source: the transformer_encoder.py of both, in Fluid's `fc` style."""

from collections.abc import Container

Rows = dict[str, tuple[str, ...]]  # our parameter -> the variables that make it, joined along the last axis


def affine(ours: str, *theirs: str) -> Rows:
    """Weight and bias of one affine map of ours, which joins those of `theirs`."""
    return {f"{ours}.weight": tuple(f"{t}.w_0" for t in theirs), f"{ours}.bias": tuple(f"{t}.b_0" for t in theirs)}


def norm(ours: str, theirs: str) -> Rows:
    """Weight and bias of a layer norm."""
    return {f"{ours}.weight": (f"{theirs}_scale",), f"{ours}.bias": (f"{theirs}_bias",)}


def block(ours: str, theirs: str, place: str) -> Rows:
    """A Transformer block, whose layer norms are in place "pre" or "post"."""
    qkv = (f"{theirs}_multi_head_att_{kind}_fc" for kind in ("query", "key", "value"))
    return {
        **affine(f"{ours}.attention.qkv", *qkv),
        **affine(f"{ours}.attention.out", f"{theirs}_multi_head_att_output_fc"),
        **norm(f"{ours}.attention_norm", f"{theirs}_{place}_att_layer_norm"),
        **affine(f"{ours}.feed_forward.inner", f"{theirs}_ffn_fc_0"),
        **affine(f"{ours}.feed_forward.outer", f"{theirs}_ffn_fc_1"),
        **norm(f"{ours}.feed_forward_norm", f"{theirs}_{place}_ffn_layer_norm"),
    }


def holds(names: Container[str], rows: Rows) -> bool:
    """Whether any of the rows' variables is among the names."""
    return any(name in names for group in rows.values() for name in group)
