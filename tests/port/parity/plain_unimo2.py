"""UNIMO-2's forward pass in plain numpy, float64, on the release's variable names, and random cases to run it on.

Written from a description of the release alone and sharing no code with the package, so that it checks the port.
"""

import numpy as np
from plain_unimo import affine, attention, block, draw, encoder, gelu, layer_shapes, norm


def cubic(distance):
    """Weight of a pixel at this distance; a = -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resize(table, rows):
    """Bicubic, corners not aligned, edges repeated: [14, 14, H] -> [rows, rows, H]."""
    matrix = np.zeros([rows, len(table)])
    for i in range(rows):
        centre = (i + 0.5) * len(table) / rows - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[i, np.clip(j, 0, len(table) - 1)] += cubic(centre - j)
    return np.einsum("ia,jb,abh->ijh", matrix, matrix, table)


def vit(images, w, layers, heads, patch):
    """[B, side, side, 3] -> [B, patches + 1, H]."""
    rows, pad = images.shape[1] // patch, (patch - 1) // 2
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    kernel = w["patch_embeddings_projection_weight"].transpose(2, 3, 1, 0).reshape(patch * patch * 3, -1)
    cells = [
        padded[:, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch].reshape(len(images), -1)
        for r in range(rows)
        for c in range(rows)
    ]
    x = np.stack(cells, 1) @ kernel + w["patch_embeddings_projection_bias"]
    table = w["position_embeddings"][0]
    places = resize(table[1:].reshape(14, 14, -1), rows).reshape(rows * rows, -1)
    x = np.concatenate([np.repeat(w["cls_token_embeddings"] + table[0], len(x), 0), x + places], 1)
    seen = np.ones([1, x.shape[1], x.shape[1]])
    for i in range(layers):
        name = f"encoder_layer_{i}"
        x = x + attention(norm(x, w, f"{name}_pre_att_layer_norm", 1e-12), seen, w, name, heads)
        inner = gelu(affine(norm(x, w, f"{name}_pre_ffn_layer_norm", 1e-12), w, f"{name}_ffn_fc_0"))
        x = x + affine(inner, w, f"{name}_ffn_fc_1")
    return norm(x, w, "post_encoder_layer_norm", 1e-12)


def ground(z, codes, temperature, k):
    """Chosen codes [B, K], their vectors [B, K, H] and the dictionary's loss."""
    s = 1 / (1 + np.exp(-np.clip(temperature, 1, 1e4) * (z @ codes.T)))  # (B, S, C)
    votes = s.sum(1)
    chosen = np.argsort(-votes, 1)[:, :k]
    ranked = -np.sort(-votes, 1)
    if k < votes.shape[1]:
        assert (ranked[:, k - 1] - ranked[:, k]).min() > 1e-4, "a tie: draw other weights"
    q = codes[chosen]
    share = np.take_along_axis(s, chosen[:, None], 2)  # (B, S, K)
    means = (share / np.take_along_axis(votes, chosen, 1)[:, None]).transpose(0, 2, 1) @ z
    rebuilt = share / share.sum(2, keepdims=True) @ q
    return chosen, q, ((z - rebuilt) ** 2).mean() + 0.25 * ((q - means) ** 2).mean()


def outputs(mode, weights, inputs, sizes, k):
    """The recorded outputs of one mode (vl, txt, img or cap); sizes {stack: (layers, heads)}, patch under "patch"."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    stack = {
        prefix: {name.removeprefix(f"{prefix}."): array for name, array in w.items()} for prefix in ("vit", "text")
    } | {"grounded": {name.removeprefix("grounded."): array for name, array in w.items()}}
    found, image, text = {}, None, None
    given = inputs["in_tmask"].astype(np.float64) if mode != "img" else None  # (B, 1 or S, S)
    if mode != "txt":
        found["out_venc"] = image = vit(
            inputs["in_img"].astype(np.float64), stack["vit"], *sizes["vit"], sizes["patch"]
        )
    if mode != "img":
        x = stack["text"]["word_embedding"][inputs["in_src"][..., 0]]
        x = norm(x + stack["text"]["pos_embedding"][inputs["in_pos"][..., 0]], stack["text"], "pre_encoder_layer_norm")
        square = given if mode == "cap" else given.transpose(0, 2, 1) * given
        found["out_tenc"] = text = encoder(x, square, stack["text"], *sizes["text"])
    voters = {"vl": [image, text], "txt": [text], "img": [image], "cap": [image]}[mode]
    z = np.concatenate([states[:, 1:] for states in voters], 1)
    found["out_idx"], codes, loss = ground(z, w["vq_emb"], w["topk_temperature"], k)
    codes = norm(codes, stack["grounded"], "pre_encoder_layer_norm")
    x = np.concatenate([part for part in (image, codes, text) if part is not None], 1)
    v, s = 0 if image is None else image.shape[1], 0 if text is None else text.shape[1]
    seen = np.ones([len(x), v + k + s, v + k + s])
    if s:
        seen[:, v : v + k, v + k :] = 0 if mode == "cap" else given
        seen[:, v + k :, v + k :] = square
        seen[:, :v, v + k :] = 0
        seen[:, v + k :, :v] = mode == "cap"
    x = encoder(x, seen, stack["grounded"], *sizes["grounded"])
    found |= {"out_g": x[:, v : v + k]}
    if v:
        found["out_v"] = x[:, :v]
    if s:
        found["out_l"] = x[:, v + k :]
    if mode != "cap":
        found["out_vq"] = loss
    if mode in ("txt", "vl"):
        pooled_text = np.maximum(affine(found["out_l"][:, 0], w, "grounded.pooled_fc_text"), 0)
        found["out_pool"] = pooled_text
    if mode == "txt":
        if "cls_out_w" in w:
            found["out_cls_logits"] = pooled_text @ w["cls_out_w"] + w["cls_out_b"]
    if mode == "vl":
        unit = image[:, 0] / np.linalg.norm(image[:, 0], axis=-1, keepdims=True)
        found["out_cmcl"] = (unit * text[:, 0]).sum(-1, keepdims=True)
        found["out_match"] = pooled_text * np.maximum(affine(x[:, 0], w, "grounded.pooled_fc_image"), 0)
        if "grounded.img_text_matching_fc.w_0" in w:
            found["out_match_logits"] = affine(found["out_match"], w, "grounded.img_text_matching_fc")
    if mode == "cap" and "grounded.mask_lm_trans_fc.w_0" in w:
        lm = norm(gelu(affine(found["out_l"], w, "grounded.mask_lm_trans_fc")), w, "grounded.mask_lm_trans_layer_norm")
        found["out_lm_logits"] = lm @ w["text.word_embedding"].T + w["grounded.mask_lm_out_fc.b_0"]
    return found


def variables(rng, sizes, hidden, vocabulary, positions, codes, labels, temperature):
    """Random weights under the release's names, float32; every bias and scale is off its neutral value."""
    patch = sizes["patch"]
    shapes = {
        "vit.patch_embeddings_projection_weight": [hidden, 3, patch, patch],
        "vit.patch_embeddings_projection_bias": [hidden],
        "vit.cls_token_embeddings": [1, 1, hidden],
        "vit.position_embeddings": [1, 197, hidden],
        "text.word_embedding": [vocabulary, hidden],
        "text.pos_embedding": [positions, hidden],
        "vq_emb": [codes, hidden],
        "grounded.mask_lm_out_fc.b_0": [vocabulary],
        "cls_out_w": [hidden, labels],
        "cls_out_b": [labels],
    }
    heads = ("pooled_fc_text", "pooled_fc_image", "mask_lm_trans_fc")
    maps = {f"grounded.{name}": [hidden, hidden] for name in heads} | {"grounded.img_text_matching_fc": [hidden, 2]}
    norms = ["vit.post_encoder_layer_norm", "text.pre_encoder_layer_norm", "grounded.pre_encoder_layer_norm"]
    norms += ["grounded.mask_lm_trans_layer_norm"]
    for stack, place in (("vit", "pre"), ("text", "post"), ("grounded", "post")):
        for i in range(sizes[stack][0]):
            block(f"{stack}.encoder_layer_{i}", place, hidden, maps, norms)
    made = draw(rng, shapes | layer_shapes(maps, norms, hidden))
    return made | {"topk_temperature": np.float32([temperature]), "cmcl_temperature": np.float32([0.07])}


def inputs(mode, rng, vocabulary, side, patch, tokens, pad, objects):
    """A padded batch. `tokens` are the texts' lengths; in captions the first `objects` tokens are object words."""
    b, s = len(tokens), max(tokens) + pad
    ids, places = np.ones([b, s, 1], np.int64), np.ones([b, s, 1], np.int64)
    mask = np.zeros([b, s if mode == "cap" else 1, s], np.float32)
    for i, length in enumerate(tokens):
        ids[i, :length, 0] = rng.integers(2, vocabulary, length)
        places[i, :length, 0] = range(2, 2 + length)
        mask[i, :length, :length] = 1
        if mode == "cap":  # object words see each other, the caption sees them and its own past
            mask[i] *= [[c < objects[i] or objects[i] <= c <= r for c in range(s)] for r in range(s)]
    images = rng.uniform(-1, 1, [b, side, side, 3]).astype(np.float32)
    return {
        "in_src": ids,
        "in_pos": places,
        "in_tmask": mask,
        "in_img": images,
        "in_imask": np.ones([b, 1, (side // patch) ** 2 + 1], np.float32),
    }
