"""ViTs of other libraries <-> the image side of UNIMO-2 (`vit.`) and the tower of OneR (`tower.`).

Both are the same function but for what a conversion notes: UNIMO-2 pads the image before it cuts patches, and layer
norms have other epsilons. A position table of another grid is resized as UNIMO-2's release resizes its own. Class heads
and poolers are left out by name; whatever else would change the encoder is refused by name.
"""

import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from unimo.config import validate
from unimo.errors import CheckpointError, ConfigError
from unimo.models.systems import SYSTEMS, skeleton
from unimo.models.vision import resize_positions
from unimo.port.files.tensor_files import open_tensors
from unimo.port.interchange import Checkpoint, Options, given_config
from unimo.port.library_folder import model_type, read_config, write_folder
from unimo.port.names.vit_names import BIG_VISION, HF, HF_MODULES, NPZ, TIMM, Layout
from unimo.port.weights import Lazy, Stored, gather, linear_weights, problems, refuse, scatter, shapes_of
from unimo.storage.atomic import atomic_write
from unimo.storage.safetensors_writer import write_safetensors_to

PREFIX = {"unimo-2": "vit.", "oner": "tower."}
# width -> attention heads of the published ViTs Ti, S, B, L, so400m, H, g and G; before them small ones, as tests have
# them, with heads of 64 as Ti to L have
HEADS = {64: 1, 128: 2, 192: 3, 384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1408: 16, 1664: 16}
MODEL_TYPES = {"vit": "ViT", "vit_mae": "ViTMAE", "vit_msn": "ViTMSN"}  # of one encoder -> their classes
PATCH = 16  # pixels; of UNIMO-2's release
# sizes that UNIMO-2 has for each of its stacks
_STACK = (
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
)
_SAME = ("hidden_size", "num_hidden_layers", "num_attention_heads", "resolution")  # in a library's ViT and in ours
_PRODUCT = re.compile(r"MultiHeadDotProductAttention_\d/(query|key|value|out)/(kernel|bias)$")


def read_hf(path: Path, options: Options) -> Checkpoint:
    """A Hugging Face ViT folder, or the file of weights in one."""
    config, stored = _config_beside(path), open_tensors(path)
    act, epsilon = config.get("hidden_act", "gelu"), config.get("layer_norm_eps", HF.epsilon)
    wrong, kind = [f"hidden_act is {act!r}, expected 'gelu'"] if act != "gelu" else [], model_type(config, MODEL_TYPES)
    if kind is not None and kind not in MODEL_TYPES:
        wrong.append(f"config.json is of model type {kind!r}, expected {' or '.join(map(repr, MODEL_TYPES))}")
    if not isinstance(epsilon, float | int):
        wrong.append(f"layer_norm_eps is {epsilon!r}, expected a number")
    layout = HF_MODULES if any(name.endswith("layers.0.attention.q_proj.weight") for name in stored) else HF
    return _read(path, layout, stored, options, config.get("num_attention_heads"), epsilon, wrong)


def read_timm(path: Path, options: Options) -> Checkpoint:
    """A weight file of timm's VisionTransformer, or a folder of one and its config.json."""
    config = _config_beside(path)
    architecture, arguments = str(config.get("architecture", "")), config.get("model_args")
    heads = config.get("num_attention_heads") or (arguments if isinstance(arguments, dict) else {}).get("num_heads")
    wrong = [f"{architecture} has another activation than the exact GELU"] if "quickgelu" in architecture else []
    return _read(path, TIMM, open_tensors(path), options, heads, TIMM.epsilon, wrong)


def read_npz(path: Path, options: Options) -> Checkpoint:
    """A `.npz` of google-research/vision_transformer or of big_vision."""
    stored = open_tensors(path)
    layout = NPZ if any("/LayerNorm_2/" in name for name in stored) else BIG_VISION
    queries = (t.shape for name, t in stored.items() if name.endswith("/query/kernel") and len(t.shape) == 3)
    heads = next((shape[1] for shape in queries), None)
    flat = {name: _flattened(name, tensor) for name, tensor in stored.items()}
    return _read(path, layout, flat, options, heads, layout.epsilon, [])


def write_hf(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Write what `transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False)` reads."""
    tensors, notes = _theirs(HF, checkpoint)
    config, system = checkpoint.config, checkpoint.system
    values = {key: _own(system, config, key) for key in ("hidden_size", *_STACK, "initializer_range", "image_size")}
    values |= {"model_type": "vit", "architectures": ["ViTModel"], "hidden_act": "gelu", "qkv_bias": True}
    values |= {"intermediate_size": 4 * config.hidden_size, "patch_size": config.resolution, "num_channels": 3}
    write_folder(folder, values, tensors, "pt")
    return notes


def write_timm(path: Path, checkpoint: Checkpoint) -> list[str]:
    """Write what `timm.create_model(..., num_classes=0, checkpoint_path=path)` reads; `path` ends in .safetensors."""
    tensors, notes = _theirs(TIMM, checkpoint)
    with atomic_write(path) as file:
        shapes = {name: (tensor.dtype.name, list(tensor.shape)) for name, tensor in tensors.items()}
        write_safetensors_to(file, shapes, (tensor.read() for tensor in tensors.values()))
    heads = _own(checkpoint.system, checkpoint.config, "num_attention_heads")
    if HEADS.get(checkpoint.config.hidden_size) != heads:
        notes.append(f"timm does not keep the number of attention heads, {heads}; give num_heads={heads} to its model")
    return notes + _epsilon_note(checkpoint.system, checkpoint.config, TIMM.library, TIMM.epsilon)


def write_npz(path: Path, checkpoint: Checkpoint) -> list[str]:
    """Write the names and shapes of google-research/vision_transformer, not compressed."""
    tensors, notes = _theirs(NPZ, checkpoint)
    heads = _own(checkpoint.system, checkpoint.config, "num_attention_heads")
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, tensor in tensors.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                array = np.ascontiguousarray(_unflattened(name, tensor.read(), heads))
                np.lib.format.write_array(member, array, allow_pickle=False)
    return notes + _epsilon_note(checkpoint.system, checkpoint.config, NPZ.library, NPZ.epsilon)


def _read(
    path: Path,
    layout: Layout,
    stored: Mapping[str, Stored],
    options: Options,
    heads: int | None,
    epsilon: float,
    wrong: list[str],
) -> Checkpoint:
    """Find the encoder among the tensors, compare it with our sizes, and give it our names.

    Args:
        heads: number of attention heads, None where the library does not keep it.
        wrong: what the library's config says that we do not have.

    Raises:
        CheckpointError: listing all that would make the encoder another function, or does not fit.
    """
    system = options.system or "unimo-2"
    if system not in PREFIX:
        raise ConfigError(f"{path}: a ViT starts {' or '.join(PREFIX)}, not {system}")
    encoder, outside = _encoder(path, layout, stored)
    first = layout.layer["attention_norm.weight"][0]
    layers = next(i for i in range(len(encoder) + 1) if first.format(i=i) not in encoder)
    names = layout.names(layers)
    used = {name for group in names.values() for name in group}
    unused, others = _sort_others(layout, [name for name in encoder if name not in used])
    wrong = wrong + others
    if not layers and not others:
        wrong.append(f"{first.format(i=0)}: missing, so no layer is there")
    sizes = _sizes(layout, encoder, wrong) | {"num_hidden_layers": layers, "layer_norm_eps": epsilon}
    refuse(path, wrong)
    if heads is not None:
        sizes["num_attention_heads"] = heads
    config, notes = _config(path, system, sizes, options)
    own = {key: _own(system, config, key) for key in _SAME}
    refuse(path, [f"{key}: {sizes[key]}, expected {v}" for key, v in own.items() if sizes.get(key, v) != v])
    model, prefix = skeleton(system, config, ()), PREFIX[system]
    shapes = shapes_of(model)
    rows, position = shapes[f"{prefix}position"][1], names["position"][0]
    encoder[position] = _positions(encoder[position], rows, notes)
    table = {f"{prefix}{ours}": theirs for ours, theirs in names.items()}
    transposed = linear_weights(model) if layout.torch else set()
    refuse(path, problems(table, encoder, shapes, transposed))
    notes += _padding_note(system, config, layout.library) + _epsilon_note(system, config, layout.library, epsilon)
    tensors = gather(table, encoder, shapes, transposed)
    return Checkpoint(system, config, (), tensors, unused=(*unused, *outside), notes=tuple(notes))


def _encoder(path: Path, layout: Layout, stored: Mapping[str, Stored]) -> tuple[dict[str, Stored], list[str]]:
    """The encoder's tensors without the prefix that stands before its class token; the names outside of it."""
    cls = layout.table["cls"][0]
    found = [name for name in stored if re.fullmatch(rf"(.*[./])?{re.escape(cls)}", name)]
    if len(found) != 1:
        raise CheckpointError(
            f"{path}: {len(found)} tensors named {cls}, expected one: this is not {layout.library}, or one without a "
            "class token, which is another function"
        )
    prefix = found[0].removesuffix(cls)
    encoder = {name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)}
    return encoder, [f"{name} (outside of the encoder)" for name in stored if not name.startswith(prefix)]


def _sort_others(layout: Layout, names: list[str]) -> tuple[list[str], list[str]]:
    """Tensors without a place in our encoder: those that may be left out, and why the rest may not."""
    unused: list[str] = []
    reasons: dict[str, list[str]] = {}
    for name in names:
        head = next((what for start, what in layout.heads.items() if name.startswith(start)), None)
        other = next((what for part, what in layout.others.items() if part in name), None)
        if head and not other:
            unused.append(f"{name} ({head})")
        else:
            reasons.setdefault(other or "a part that this reader does not know", []).append(name)
    more = {what: f" and {len(group) - 1} more" if group[1:] else "" for what, group in reasons.items()}
    return unused, [f"{group[0]}{more[what]}: {what}; our encoder has none" for what, group in reasons.items()]


def _sizes(layout: Layout, encoder: Mapping[str, Stored], wrong: list[str]) -> dict[str, Any]:
    """What shapes tell of the encoder's sizes; what they should not be is added to `wrong`."""
    shapes = {}
    for ours, rank in (("cls", 3), ("position", 3), ("patch.weight", 4)):
        name = layout.table[ours][0]
        shape = encoder[name].shape if name in encoder else None
        if shape is None or len(shape) != rank or 0 in shape or (rank == 3 and shape[0] != 1):
            got = "missing" if shape is None else f"shape {list(shape)}"
            wrong.append(f"{name}: {got}, expected {'[1, rows, width]' if rank == 3 else '[width, 3, side, side]'}")
            return {}
        shapes[ours] = shape
    rows, patch = shapes["position"][1], shapes["patch.weight"][-1]
    grid = math.isqrt(rows)
    if rows - grid**2 not in (0, 1):
        wrong.append(f"{layout.table['position'][0]}: {rows} rows, expected n * n + 1, a class token and a square grid")
    return {"hidden_size": shapes["cls"][-1], "resolution": patch, "image_size": grid * patch}


def _config(path: Path, system: str, sizes: dict[str, Any], options: Options) -> tuple[Any, list[str]]:
    """Our sizes: those that the user gave, else the encoder's; UNIMO-2's other stacks then are as deep as its ViT."""
    schema, notes = SYSTEMS[system].config, []
    if options.config:
        config = given_config(options.config, system, path)
        heads, width = _own(system, config, "num_attention_heads"), config.hidden_size
        if "num_attention_heads" not in sizes and HEADS.get(width) != heads:
            known = f"{HEADS[width]} in published ViTs of width {width}" if width in HEADS else "which nothing confirms"
            notes.append(f"attention heads are {heads} in the sizes given, {known}")
        return config, notes
    if "num_attention_heads" not in sizes:
        width = sizes["hidden_size"]
        if width not in HEADS:
            raise ConfigError(
                f"{path}: the weights do not keep the number of attention heads, and {width} is none of the published "
                f"widths {', '.join(map(str, HEADS))}; put a config.json with num_attention_heads beside the weights, "
                "or give our sizes by --config"
            )
        sizes = sizes | {"num_attention_heads": HEADS[width]}
        notes.append(
            f"the weights do not keep the number of attention heads: {HEADS[width]} were taken, as in published ViTs "
            f"of width {width}; a config.json with num_attention_heads beside the weights says otherwise"
        )
    if system == "oner":
        return validate(schema, sizes, source=str(path)), notes
    if sizes["resolution"] != PATCH:
        refuse(path, [f"patches of {sizes['resolution']} pixels, expected {PATCH}; UNIMO-2 of others needs --config"])
    stacks, depth = ("", "text_", "vit_"), ("num_hidden_layers", "num_attention_heads")
    values = {f"{stack}{key}": sizes[key] for stack in stacks for key in depth}
    return validate(schema, values | {"hidden_size": sizes["hidden_size"]}, source=str(path)), notes


def _own(system: str, config: Any, key: str) -> Any:
    """A size of our encoder."""
    return getattr(config, f"vit_{key}" if system == "unimo-2" and key in _STACK else key)


def _positions(table: Stored, rows: int, notes: list[str]) -> Stored:
    """A position table with a row for the class token and as many `rows` as ours; notes say what was done to it."""
    _, found, hidden = table.shape
    grid, target, read = math.isqrt(found), math.isqrt(rows - 1), table.read
    if found == grid**2:  # big_vision and timm's no_embed_class add positions before the class token
        notes.append("the position table has no row for the class token: zeros were put there")

        def read() -> np.ndarray:
            return np.pad(table.read(), [(0, 0), (1, 0), (0, 0)])

    if grid == target:
        return Lazy((1, rows, hidden), read, table.dtype)
    notes.append(f"the position table was resized bicubically from {grid} x {grid} to {target} x {target}")

    def resized() -> np.ndarray:
        with paddle.no_grad(), paddle.device.device_guard("cpu"):
            return resize_positions(paddle.to_tensor(read().astype(np.float32)), target, target).numpy()

    return Lazy((1, rows, hidden), resized, table.dtype)


def _padding_note(system: str, config: Any, library: str) -> list[str]:
    """UNIMO-2's release pads images, which no library does."""
    if system != "unimo-2":
        return []
    padding = (config.resolution - 1) // 2
    return [f"UNIMO-2 pads images by {padding} pixels, {library} by none: from the same weights come other states"]


def _epsilon_note(system: str, config: Any, library: str, theirs: float) -> list[str]:
    ours = _own(system, config, "layer_norm_eps")
    return [f"layer norms: epsilon is {ours:g} here, {theirs:g} in {library}"] if ours != theirs else []


def _theirs(layout: Layout, checkpoint: Checkpoint) -> tuple[dict[str, Stored], list[str]]:
    """The image side of a checkpoint under a library's names, and notes."""
    system, config = checkpoint.system, checkpoint.config
    if system not in PREFIX:
        raise ConfigError(f"{system} has no ViT to write; expected {' or '.join(PREFIX)}")
    prefix = PREFIX[system]
    table = {f"{prefix}{o}": t for o, t in layout.names(_own(system, config, "num_hidden_layers")).items()}
    missing = [name for name in table if name not in checkpoint.tensors]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} parameters of the ViT: {', '.join(missing[:3])}, ..."
        )
    left = sorted({name.split(".")[0] for name in checkpoint.tensors if not name.startswith(prefix)})
    left += [name for name in checkpoint.tensors if name.startswith(prefix) and name not in table]
    notes = [f"not carried, {layout.library} has no place for: {', '.join(left)}"] if left else []
    transposed = linear_weights(skeleton(system, config, ())) if layout.torch else set()
    return scatter(table, checkpoint.tensors, transposed), notes + _padding_note(system, config, layout.library)


def _flattened(name: str, tensor: Stored) -> Stored:
    """A tensor of an `.npz` as an affine map or convolution of ours; another rank is left for the check of shapes."""
    shape, product = tensor.shape, _PRODUCT.search(name)
    if name.endswith("embedding/kernel") and len(shape) == 4:
        order = (3, 2, 0, 1)  # [P, P, 3, H] -> [H, 3, P, P]
        return Lazy(tuple(shape[i] for i in order), lambda: tensor.read().transpose(order), tensor.dtype)
    if not product or len(shape) != {"kernel": 3, "bias": 2}[product[2]] or product.groups() == ("out", "bias"):
        return tensor
    # [H, heads, d] -> [H, heads * d]; of out [heads, d, H] -> [heads * d, H]; of a bias [heads, d] -> [heads * d]
    flat = (
        (shape[0] * shape[1], *shape[2:])
        if product[1] == "out" or product[2] == "bias"
        else (shape[0], shape[1] * shape[2])
    )
    return Lazy(flat, lambda: tensor.read().reshape(flat), tensor.dtype)


def _unflattened(name: str, array: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `_flattened`."""
    product = _PRODUCT.search(name)
    if name == "embedding/kernel":
        return array.transpose(2, 3, 1, 0)
    if not product or product.groups() == ("out", "bias"):
        return array
    if product[1] == "out":
        return array.reshape(heads, -1, array.shape[-1])
    return array.reshape(*array.shape[:-1], heads, -1)


def _config_beside(path: Path) -> dict[str, Any]:
    """The library's config.json in the folder of the weights; empty where there is none."""
    return read_config(path if path.is_dir() else path.parent, {}) or {}
