"""`unimo port verify --system unimo-2`. A golden file records one pass: of a pair, text or images alone, or a caption.

Which pass it was shows in its mask, which for a caption is one of query and key, and in the recorded outputs: those of
one stream only are taken for a pass of that stream alone. Sizes come from the arrays and the config, number of codes
and labels from the checkpoint folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor

from unimo.errors import ConfigError, DataError
from unimo.models.dictionary import Grounding
from unimo.models.streams import given
from unimo.models.unimo2 import STREAMS, Encoded, Pixels, Text, Unimo2, Unimo2Config
from unimo.port.interchange import Options
from unimo.port.names.release_names import holds
from unimo.port.names.unimo2_names import CORE, PARTS, Shapes, name_table, parts_of
from unimo.port.parity.golden import Comparison, Golden, Sizes, check, compare, floats, ids, read_golden
from unimo.port.release import loaded, read_release, shapes_in
from unimo.port.weights import fill, finite
from unimo.storage.json_files import read_json

# Inputs of a stream and their sizes: B images of W x W pixels with P patches, S text tokens in Q mask rows (1 or S).
INPUTS: dict[str, dict[str, Sizes]] = {
    "image": {"in_img": ("B", "W", "W", 3), "in_imask": ("B", 1, "P+1")},
    "text": {"in_src": ("B", "S", 1), "in_pos": ("B", "S", 1), "in_tmask": ("B", "Q", "S")},
}


@dataclass(frozen=True)
class Output:
    """A recorded output: its sizes (H hidden, K chosen codes, C labels, V vocabulary), streams and head parts."""

    size: Sizes
    streams: tuple[str, ...]
    parts: tuple[str, ...]
    compute: Callable[[Unimo2, Encoded], Tensor]


BOTH = ("pool_text", "pool_image")
OUTPUTS = {
    "out_venc": Output(("B", "P+1", "H"), ("image",), (), lambda m, e: given(e.vit)),
    "out_tenc": Output(("B", "S", "H"), ("text",), (), lambda m, e: given(e.text_encoder)),
    "out_idx": Output(("B", "K"), (), (), lambda m, e: _grounded(e).chosen),
    "out_v": Output(("B", "P+1", "H"), ("image",), (), lambda m, e: given(e.image)),
    "out_g": Output(("B", "K", "H"), (), (), lambda m, e: given(e.codes)),
    "out_l": Output(("B", "S", "H"), ("text",), (), lambda m, e: given(e.text)),
    "out_vq": Output((), (), (), lambda m, e: m.dictionary_losses(e).mean()),
    "out_cmcl": Output(("B", 1), STREAMS, (), lambda m, e: m.contrast_score(e)),
    "out_pool": Output(("B", "H"), ("text",), ("pool_text",), lambda m, e: m.pooled_text(e)),
    "out_match": Output(("B", "H"), STREAMS, BOTH, lambda m, e: m.pooled_text(e) * m.pooled_image(e)),
    "out_match_logits": Output(("B", 2), STREAMS, (*BOTH, "match"), lambda m, e: m.match_logits(e)),
    "out_cls_logits": Output(
        ("B", "C"), ("text",), ("pool_text", "classify"), lambda m, e: m.classify(m.pooled_text(e))
    ),
    "out_lm_logits": Output(("B", "S", "V"), ("text",), ("lm",), lambda m, e: m.lm_logits(given(e.text))),
}


def _grounded(encoded: Encoded) -> Grounding:
    assert encoded.grounding is not None  # `verify_unimo2` takes no other config
    return encoded.grounding


def verify_unimo2(folder: Path, config_file: Path, golden_file: Path) -> tuple[list[str], list[Comparison]]:
    """Load what the recorded outputs need of a release's folder, run it on the golden inputs, compare every output.

    Returns:
        What a person should know of the folder, one fact a line, and the comparisons.

    Raises:
        ConfigError, CheckpointError, DataError: the config, folder or golden file is unusable.
    """
    golden = read_golden(golden_file, OUTPUTS)
    outputs = {name: OUTPUTS[name] for name in OUTPUTS if name in golden}
    shapes = shapes_in(folder)
    streams, captioning = _pass_of(golden, outputs, shapes)
    sizes = _sizes_of(golden, shapes)
    config = Unimo2Config.from_release(read_json(config_file, ConfigError) | sizes, source=str(config_file))
    if config.grounding_method != "topk":
        raise ConfigError(f"{config_file}: grounding_method is {config.grounding_method!r}, a recording is of 'topk'")
    parts = [part for part in PARTS if part in CORE or any(part in output.parts for output in outputs.values())]
    parts += [part for part in ("vit", "text") if part in parts_of((), streams)]
    used = [name for stream in streams for name in INPUTS[stream]]
    _check(golden_file, golden, outputs, streams, config, captioning)
    checkpoint = read_release(folder, Options(config=config), parts)
    with paddle.device.device_guard("cpu"), paddle.no_grad():  # a GPU may round products to TF32
        with paddle.LazyGuard():
            model = Unimo2(config, checkpoint.heads, streams)
        fill(model, finite(checkpoint.tensors))
        model.eval()
        comparisons = _compare(model, golden, outputs, streams, captioning)
    lines = {
        "not loaded, no recorded output needs them": [
            part for part in PARTS if part not in parts and holds(shapes, name_table(config, [part]))
        ],
        "inputs that no recorded output needs": [n for n in golden if n.startswith("in_") and n not in used],
    }
    facts = [f"{fact}: {', '.join(names)}" for fact, names in lines.items() if names]
    return [*loaded(checkpoint), *facts], comparisons


def _pass_of(golden: Golden, outputs: Mapping[str, Output], shapes: Shapes) -> tuple[tuple[str, ...], bool]:
    """Streams of the recorded pass, and whether it was captioning.

    Outputs that every pass has leave the streams open: then they are those that both folder and file have inputs for.
    """
    mask = golden.get("in_tmask")
    if mask is not None and mask.ndim == 3 and mask.shape[1] > 1:
        return STREAMS, True
    recorded = {stream for output in outputs.values() for stream in output.streams}
    held = {"image": "vit.cls_token_embeddings" in shapes, "text": "text.word_embedding" in shapes}
    given = recorded or {s for s in STREAMS if held[s] and all(name in golden for name in INPUTS[s])}
    return tuple(s for s in STREAMS if s in given) or STREAMS, False


def _sizes_of(golden: Golden, shapes: Shapes) -> dict[str, int]:
    """Sizes that the release takes from its command line, by config key: codes, labels, chosen codes."""
    sizes = {}
    for key, name, axis in (("num_codebook", "vq_emb", 0), ("num_labels", "cls_out_w", 1)):
        if len(shapes.get(name, ())) == 2:
            sizes[key] = shapes[name][axis]
    recorded = [golden[name].shape[1] for name in ("out_idx", "out_g") if name in golden and golden[name].ndim > 1]
    if recorded:
        sizes["topk_value"] = min(recorded[0], sizes.get("num_codebook", recorded[0]))
    return sizes


def _check(
    path: Path,
    golden: Golden,
    outputs: Mapping[str, Output],
    streams: tuple[str, ...],
    config: Unimo2Config,
    captioning: bool,
) -> None:
    """Raise one DataError about every array that does not fit the pass."""
    expected = {name: size for stream in streams for name, size in INPUTS[stream].items()}
    expected |= {name: output.size for name, output in outputs.items()}
    sizes = {"H": config.hidden_size, "C": config.num_labels, "K": config.topk_value}
    sizes |= {"V": config.text_vocab_size, "T": config.text_max_position_embeddings}
    if "text" in streams:
        sizes["Q"] = golden["in_src"].shape[1] if captioning and "in_src" in golden else 1
    if "image" in streams and "in_img" in golden and golden["in_img"].ndim == 4:
        side, patch = golden["in_img"].shape[1], config.resolution
        sizes["P"] = ((side + 2 * ((patch - 1) // 2) - patch) // patch + 1) ** 2
    check(path, golden, expected, sizes, {"in_src": "V", "in_pos": "T"}, ("in_tmask", "in_imask"))
    if "image" in streams and not golden["in_imask"].all():
        raise DataError(f"{path}: in_imask hides patches; UNIMO-2 sees all of an image")


def _compare(
    model: Unimo2, golden: Golden, outputs: Mapping[str, Output], streams: tuple[str, ...], captioning: bool
) -> list[Comparison]:
    """Run the recorded pass and compare its outputs on valid positions."""
    encoded, valid = encode_pass(model, golden, streams, captioning)
    batch = len(valid)
    comparisons = []
    for name, output in outputs.items():
        got, recorded = output.compute(model, encoded).numpy(), golden[name]
        if name == "out_idx":
            missing = [len(set(row) - set(ours)) for row, ours in zip(recorded.tolist(), got.tolist(), strict=True)]
            comparisons.append(Comparison(name, float(max(missing)), recorded.size))
            continue
        if name == "out_g" and "out_idx" in golden:
            got = _in_order(got, _grounded(encoded).chosen.numpy(), golden["out_idx"])
        where = np.ones([1], bool) if got.ndim == 0 else np.ones([batch], bool)
        if "S" in output.size:
            where = valid
        elif "text" in output.streams:
            where = valid[:, 0]
        comparisons.append(compare(name, np.atleast_1d(got), np.atleast_1d(recorded), where, "in_tmask"))
    return comparisons


def encode_pass(
    model: Unimo2, golden: Golden, streams: tuple[str, ...], captioning: bool
) -> tuple[Encoded, np.ndarray]:
    """The states of the pass over golden inputs, and where the text is no pad, [B, S] ([B, 1] without text)."""
    text = pixels = mask = None
    batch = len(golden[next(iter(INPUTS[streams[0]]))])
    valid = np.ones([batch, 1], bool)
    if "image" in streams:
        pixels = Pixels(floats(golden["in_img"].transpose(0, 3, 1, 2)))
    if "text" in streams:
        given = golden["in_tmask"]
        valid = (np.diagonal(given, axis1=1, axis2=2) if captioning else given[:, 0]) > 0  # (B, S)
        mask = floats(given) if captioning else None
        text = Text(ids(golden["in_src"]), ids(golden["in_pos"]), paddle.to_tensor(valid))
    return model(text, pixels, caption_mask=mask), valid


def _in_order(states: np.ndarray, chosen: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    """Our codes' states [B, K, H] in the recorded order of the codes, wherever the same ones were chosen."""
    order = [
        [ours.index(code) if code in ours else k for k, code in enumerate(row)]
        for row, ours in zip(recorded.tolist(), chosen.tolist(), strict=True)
    ]
    return np.take_along_axis(states, np.array(order)[..., None], axis=1)
