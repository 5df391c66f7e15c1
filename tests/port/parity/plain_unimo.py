"""UNIMO's forward pass in plain numpy, float64, on the release's variable names, and random cases to run it on.

Written from a description of the release alone and sharing no code with the package, so that it checks the port.
"""

import math

import numpy as np

erf = np.vectorize(math.erf)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def norm(x, weights, name, epsilon=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return scaled * weights[f"{name}_scale"] + weights[f"{name}_bias"]


def affine(x, weights, name):
    return x @ weights[f"{name}.w_0"] + weights[f"{name}.b_0"]


def attention(x, mask, weights, name, heads):
    """x [B, S, H], mask [B, S, S]: every head by itself, in a loop.

    The mask's -1e4 is added in float32, whose rounding there the states of rows that see nothing depend on.
    """
    width, contexts = x.shape[-1] // heads, []
    q, k, v = (affine(x, weights, f"{name}_multi_head_att_{kind}_fc") for kind in ("query", "key", "value"))
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = np.float32(q[..., part] * width**-0.5 @ k[..., part].transpose(0, 2, 1)) + np.float32(1e4 * (mask - 1))
        share = np.exp(np.float64(logits - logits.max(-1, keepdims=True)))
        contexts.append(share / share.sum(-1, keepdims=True) @ v[..., part])
    return affine(np.concatenate(contexts, -1), weights, f"{name}_multi_head_att_output_fc")


def encoder(x, mask, weights, layers, heads):
    """x [B, S, H], mask [B, S, S]."""
    for i in range(layers):
        name = f"encoder_layer_{i}"
        x = norm(x + attention(x, mask, weights, name, heads), weights, f"{name}_post_att_layer_norm")
        inner = gelu(affine(x, weights, f"{name}_ffn_fc_0"))
        x = norm(x + affine(inner, weights, f"{name}_ffn_fc_1"), weights, f"{name}_post_ffn_layer_norm")
    return x


def outputs(weights, inputs, layers, heads, labels):
    """All recorded outputs of a golden file from its inputs."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def words(ids, positions):
        x = w["word_embedding"][inputs[ids][..., 0]] + w["pos_embedding"][inputs[positions][..., 0]]
        return norm(x, w, "pre_encoder_layer_norm")

    text, tags = words("in_src_ids", "in_pos_ids"), words("in_obj_ids", "in_obj_pos")
    image = affine(inputs["in_image"], w, "image_emb") + affine(inputs["in_loc"], w, "image_loc")
    image = norm(image, w, "v_pre_encoder_layer_norm")
    n, s = image.shape[1], text.shape[1]
    l_seq = encoder(text, inputs["in_m_l"], w, layers, heads)
    vl = encoder(np.concatenate([image, text], 1), inputs["in_m_vl"], w, layers, heads)
    vol = encoder(np.concatenate([image, tags, text], 1), inputs["in_m_vol"], w, layers, heads)
    l_pooled = np.maximum(affine(l_seq[:, 0], w, "pooled_fc_text"), 0)
    pooled_text = np.maximum(affine(vl[:, n], w, "pooled_fc_text"), 0)
    pooled_image = np.maximum(affine(vl[:, 0], w, "pooled_fc_image"), 0)
    lm = norm(gelu(affine(vol[:, -s:], w, "mask_lm_trans_fc")), w, "mask_lm_trans_layer_norm")
    return {
        "out_l_seq": l_seq,
        "out_l_pooled": l_pooled,
        "out_cls_logits": l_pooled @ w[f"cls_out_{labels}_w"] + w[f"cls_out_{labels}_b"],
        "out_vl_text": vl[:, n:],
        "out_vl_image": vl[:, :n],
        "out_vl_pooled_text": pooled_text,
        "out_vl_pooled_image": pooled_image,
        "out_match_score": affine(pooled_text * pooled_image, w, "match_fc"),
        "out_vol_text": vol[:, -s:],
        "out_vol_image": vol[:, :n],
        "out_lm_logits": lm @ w["word_embedding"].T + w["mask_lm_out_fc.b_0"],
    }


def block(name, place, hidden, maps, norms):
    """Add the affine maps and layer norms of one layer."""
    for kind in ("query", "key", "value", "output"):
        maps[f"{name}_multi_head_att_{kind}_fc"] = [hidden, hidden]
    maps |= {f"{name}_ffn_fc_0": [hidden, 4 * hidden], f"{name}_ffn_fc_1": [4 * hidden, hidden]}
    norms += [f"{name}_{place}_att_layer_norm", f"{name}_{place}_ffn_layer_norm"]


def layer_shapes(maps, norms, hidden):
    """Shapes of the variables of affine maps {name: [in, out]} and layer norms."""
    shapes = {f"{name}.w_0": size for name, size in maps.items()} | {f"{name}.b_0": [s[1]] for name, s in maps.items()}
    return shapes | {f"{name}_{kind}": [hidden] for name in norms for kind in ("scale", "bias")}


def draw(rng, shapes):
    """Random float32 weights."""
    return {
        name: (rng.normal(0, 0.15, shape) + name.endswith("_scale")).astype(np.float32)
        for name, shape in shapes.items()
    }


def variables(rng, layers, hidden, vocabulary, positions, width, labels):
    """Random weights under the release's names, float32; every bias and scale is off its neutral value."""
    shapes = {"word_embedding": [vocabulary, hidden], "pos_embedding": [positions, hidden]}
    maps = {"image_emb": [width, hidden], "image_loc": [5, hidden], "match_fc": [hidden, 1]}
    maps |= dict.fromkeys(["pooled_fc_text", "pooled_fc_image", "mask_lm_trans_fc"], [hidden, hidden])
    norms = ["pre_encoder_layer_norm", "v_pre_encoder_layer_norm", "mask_lm_trans_layer_norm"]
    for i in range(layers):
        block(f"encoder_layer_{i}", "post", hidden, maps, norms)
    shapes |= layer_shapes(maps, norms, hidden)
    shapes |= {"mask_lm_out_fc.b_0": [vocabulary]}
    shapes |= {f"cls_out_{labels}_w": [hidden, labels], f"cls_out_{labels}_b": [labels]}
    return draw(rng, shapes)


def inputs(rng, vocabulary, width, slots, tags, tokens, pad):
    """A padded batch. `slots`, `tags`, `tokens` list each example's real lengths; `pad` positions more are padding."""
    b, n, o, s = len(tokens), max(slots) + pad, max(tags) + pad, max(tokens) + pad
    batch = {
        "in_src_ids": np.ones([b, s, 1], np.int64),
        "in_pos_ids": np.ones([b, s, 1], np.int64),
        "in_image": np.zeros([b, n, width], np.float32),
        "in_loc": np.zeros([b, n, 5], np.float32),
        "in_obj_ids": np.ones([b, o, 1], np.int64),
        "in_obj_pos": np.ones([b, o, 1], np.int64),
        "in_m_l": np.zeros([b, s, s], np.float32),
        "in_m_vl": np.zeros([b, n + s, n + s], np.float32),
        "in_m_vol": np.zeros([b, n + o + s, n + o + s], np.float32),
    }
    for i in range(b):
        for ids, places, length in (("in_src_ids", "in_pos_ids", tokens[i]), ("in_obj_ids", "in_obj_pos", tags[i])):
            batch[ids][i, :length, 0] = rng.integers(2, vocabulary, length)
            batch[places][i, :length, 0] = range(2, 2 + length)
        batch["in_image"][i, 1 : slots[i]] = rng.normal(0, 1, [max(slots[i] - 1, 0), width])
        batch["in_loc"][i, 1 : slots[i]] = rng.uniform(0, 1, [max(slots[i] - 1, 0), 5])
        if slots[i] > 1:
            batch["in_image"][i, 0] = batch["in_image"][i, 1 : slots[i]].mean(0)
            batch["in_loc"][i, 0] = (0, 0, 1, 1, 1)
        image, words = range(slots[i]), range(tokens[i])
        context = [*image, *(n + k for k in range(tags[i]))]
        batch["in_m_l"][i][np.ix_(words, words)] = 1
        both = [*image, *(n + k for k in words)]
        batch["in_m_vl"][i][np.ix_(both, both)] = 1
        batch["in_m_vol"][i][np.ix_(context, context)] = 1
        for k in words:  # captioning: image, tags and the caption so far
            seen = [*context, *(n + o + j for j in range(k + 1))]
            batch["in_m_vol"][i][n + o + k, seen] = 1
    return batch
