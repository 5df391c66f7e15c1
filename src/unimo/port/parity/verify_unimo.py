"""Does a ported checkpoint give the outputs that were recorded from the original? `unimo port verify`.

A golden file is an npz of inputs `in_*` and recorded outputs `out_*`. It may hold any of OUTPUTS and then needs only
the inputs of their passes. Sizes come from the arrays and the config, heads and label count from the checkpoint folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import Tensor

from unimo.errors import ConfigError
from unimo.models.streams import given
from unimo.models.unimo import Encoded, Regions, Tags, Text, Unimo, UnimoConfig
from unimo.port.interchange import Options, build
from unimo.port.names.release_names import holds
from unimo.port.names.unimo_names import HEAD_PARTS, heads_of, name_table, parts_of
from unimo.port.parity.golden import Comparison, Golden, Sizes, check, compare, floats, ids, read_golden
from unimo.port.release import loaded, read_release, shapes_in
from unimo.storage.json_files import read_json

# Inputs and their sizes: B examples, N image slots of width D, O tags, S text tokens. Masks are 0/1, [query, key].
INPUTS: dict[str, Sizes] = {
    "in_src_ids": ("B", "S", 1),
    "in_pos_ids": ("B", "S", 1),
    "in_image": ("B", "N", "D"),
    "in_loc": ("B", "N", 5),
    "in_obj_ids": ("B", "O", 1),
    "in_obj_pos": ("B", "O", 1),
    "in_m_l": ("B", "S", "S"),
    "in_m_vl": ("B", "N+S", "N+S"),
    "in_m_vol": ("B", "N+O+S", "N+O+S"),
}
TABLE_OF = {"in_src_ids": "V", "in_obj_ids": "V", "in_pos_ids": "P", "in_obj_pos": "P"}  # ids index tables of V, P rows
# Passes through the encoder and the inputs of each; the mask of a pass is `in_m_` and its name.
PASSES = {
    "l": ("in_src_ids", "in_pos_ids", "in_m_l"),
    "vl": ("in_image", "in_loc", "in_src_ids", "in_pos_ids", "in_m_vl"),
    "vol": ("in_image", "in_loc", "in_obj_ids", "in_obj_pos", "in_src_ids", "in_pos_ids", "in_m_vol"),
}


@dataclass(frozen=True)
class Output:
    """A recorded output: its pass, its sizes (H hidden, C labels, V vocabulary), the head parts that make it."""

    run: str
    size: Sizes
    parts: tuple[str, ...]
    compute: Callable[[Unimo, Encoded], Tensor]

    def valid(self, image: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Where it is compared. image [B, N], text [B, S] bool -> [B, N], [B, S], or [B] for a pooled output.

        A pooled output counts where every position that it is pooled from is valid: the image slot of an example
        without regions is masked out, and what the encoder leaves there is rounding noise of the -1e4 bias.
        """
        if "S" in self.size:
            return text
        if "N" in self.size:
            return image
        pooled_from = {"pool_text": text[:, 0], "pool_image": image[:, :1].all(1)}
        return np.logical_and.reduce([pooled_from[part] for part in self.parts if part in pooled_from])


OUTPUTS = {
    "out_l_seq": Output("l", ("B", "S", "H"), (), lambda m, e: given(e.text)),
    "out_l_pooled": Output("l", ("B", "H"), ("pool_text",), lambda m, e: m.pooled_text(e)),
    "out_cls_logits": Output("l", ("B", "C"), ("pool_text", "classify"), lambda m, e: m.classify(m.pooled_text(e))),
    "out_vl_text": Output("vl", ("B", "S", "H"), ("image",), lambda m, e: given(e.text)),
    "out_vl_image": Output("vl", ("B", "N", "H"), ("image",), lambda m, e: given(e.regions)),
    "out_vl_pooled_text": Output("vl", ("B", "H"), ("image", "pool_text"), lambda m, e: m.pooled_text(e)),
    "out_vl_pooled_image": Output("vl", ("B", "H"), ("image", "pool_image"), lambda m, e: m.pooled_image(e)),
    "out_match_score": Output(
        "vl", ("B", 1), ("image", "pool_text", "pool_image", "match"), lambda m, e: m.match_score(e)
    ),
    "out_vol_text": Output("vol", ("B", "S", "H"), ("image",), lambda m, e: given(e.text)),
    "out_vol_image": Output("vol", ("B", "N", "H"), ("image",), lambda m, e: given(e.regions)),
    "out_lm_logits": Output("vol", ("B", "S", "V"), ("image", "lm"), lambda m, e: m.lm_logits(given(e.text))),
}


def verify_unimo(folder: Path, config_file: Path, golden_file: Path) -> tuple[list[str], list[Comparison]]:
    """Load a release's folder, run it on the golden inputs, compare every recorded output.

    Parts that no recorded output needs may be wholly absent; one that is there in half is an error.

    Returns:
        What a person should know of the folder, one fact a line, and the comparisons.

    Raises:
        ConfigError, CheckpointError, DataError: the config, folder or golden file is unusable.
    """
    golden = read_golden(golden_file, OUTPUTS)
    outputs = {name: OUTPUTS[name] for name in OUTPUTS if name in golden}
    config = UnimoConfig.from_release(read_json(config_file, ConfigError), source=str(config_file))
    shapes = shapes_in(folder)
    held, labels = heads_of(shapes)
    count = golden["out_cls_logits"].shape[-1:] if "out_cls_logits" in golden else labels[:1]
    if count:
        config = config.model_copy(update={"num_labels": count[0]})
    used = {name for output in outputs.values() for name in PASSES[output.run]}
    expected = {name: size for name, size in INPUTS.items() if name in used}
    expected |= {name: output.size for name, output in outputs.items()}
    sizes = {"H": config.hidden_size, "D": config.image_embedding_size, "C": config.num_labels}
    sizes |= {"V": config.vocab_size, "P": config.max_position_embeddings}
    check(golden_file, golden, expected, sizes, TABLE_OF, ("in_m_l", "in_m_vl", "in_m_vol"))
    needed = {"text", "encoder", *(part for output in outputs.values() for part in output.parts)}
    heads = [head for head, of in HEAD_PARTS.items() if head in held or needed & {*of}]
    parts = [part for part in parts_of(heads) if part in needed or holds(shapes, name_table(config, [part]))]
    checkpoint = read_release(folder, Options(config=config), parts)
    with paddle.device.device_guard("cpu"), paddle.no_grad():  # a GPU may round products to TF32
        model, _ = build(checkpoint)
        assert isinstance(model, Unimo)  # by its sizes
        comparisons = [c for run in PASSES for c in _compare(model, golden, outputs, run)]
    lines = {
        "not in the checkpoint, starting at random": [part for part in parts_of(checkpoint.heads) if part not in parts],
        "inputs that no recorded output needs": [name for name in golden if name not in outputs and name not in used],
    }
    facts = [f"{fact}: {', '.join(names)}" for fact, names in lines.items() if names]
    return [*loaded(checkpoint), *facts], comparisons


def _compare(model: Unimo, golden: Golden, outputs: Mapping[str, Output], run: str) -> list[Comparison]:
    """Run one pass, if any output needs it, and compare its outputs."""
    outputs = {name: output for name, output in outputs.items() if output.run == run}
    if not outputs:
        return []
    encoded, image, text = encode_pass(model, golden, run)
    return [
        compare(name, output.compute(model, encoded).numpy(), golden[name], output.valid(image, text), f"in_m_{run}")
        for name, output in outputs.items()
    ]


def encode_pass(model: Unimo, golden: Golden, run: str) -> tuple[Encoded, np.ndarray, np.ndarray]:
    """The states of one pass over golden inputs, and where image slots [B, N] and text [B, S] are no pads."""
    mask = golden[f"in_m_{run}"]
    sees_itself = np.diagonal(mask, axis1=1, axis2=2) > 0  # [B, all positions]; a padded position sees nothing
    slots, words = (golden[n].shape[1] if n in PASSES[run] else 0 for n in ("in_image", "in_src_ids"))
    image, text = sees_itself[:, :slots], sees_itself[:, -words:]
    sentences = Text(ids(golden["in_src_ids"]), ids(golden["in_pos_ids"]), paddle.to_tensor(text))
    regions, tags = None, None
    if slots:
        regions = Regions(floats(golden["in_image"]), floats(golden["in_loc"]), paddle.to_tensor(image))
    if "in_obj_ids" in PASSES[run]:
        words_seen = paddle.to_tensor(sees_itself[:, slots:-words])
        tags = Tags(ids(golden["in_obj_ids"]), ids(golden["in_obj_pos"]), words_seen)
    return model(sentences, regions, tags, floats(mask)), image, text
