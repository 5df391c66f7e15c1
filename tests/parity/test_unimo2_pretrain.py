"""UNIMO-2's pre-training losses, chosen codes and gradients."""

from collections.abc import Callable, Mapping

import numpy as np
import paddle
from paddle import Tensor

from parity.recordings import ROOT, TOLERANCE, arrays, each_recording
from unimo.engine.distributed import World
from unimo.models.streams import Pixels, Text
from unimo.models.unimo2 import Encoded, Unimo2, Unimo2Config
from unimo.port.files.variables import list_variables, open_variable
from unimo.port.names.unimo2_names import name_table, parts_of, sizes_in
from unimo.port.weights import fill, gather, of_array, scatter, shapes_of
from unimo.pretrain.grounding import masked_code_loss
from unimo.pretrain.info_nce import info_nce
from unimo.pretrain.language import word_prediction_loss
from unimo.pretrain.matching import contrast_loss, matching_loss
from unimo.storage.json_files import read_json

FOLDER = "unimo2_pretrain"
HEADS = ("pool", "match", "cmcl", "lm", "code")
# What each case is of that is not the release's default
OPTIONS = {
    "io_pair_proj": {"with_grounding_projection": True, "with_cmcl_projection": True},
    "io_pair_proj_share": {
        "with_grounding_projection": True,
        "with_cmcl_projection": True,
        "cmcl_share_parameters": True,
    },
    "io_pair_normal": {"grounding_method": "normal"},
    "io_pair_gpos": {"with_grounding_pos": True},
}
Arrays = Mapping[str, np.ndarray]


def model_of(case: str, **changed: object) -> tuple[Unimo2, dict]:
    """The model of a recording with the release's weights, and the names of its variables."""
    files = list_variables(ROOT / FOLDER / "checkpoint")[0]
    stored = {name: open_variable(file) for name, file in files.items()}
    values = read_json(ROOT / FOLDER / "config.json") | OPTIONS.get(case, {}) | changed
    config = Unimo2Config.from_release(values, source=case)
    assert sizes_in({name: v.shape for name, v in stored.items()})["num_codebook"] == config.num_codebook
    model, table = Unimo2(config, HEADS), name_table(config, parts_of(HEADS))
    fill(model, gather(table, stored, shapes_of(model)))
    return model, table


def passed(model: Unimo2, golden: Arrays) -> Encoded:
    text, pixels, masked = None, None, None
    if "in_src" in golden:
        text = Text(*(paddle.to_tensor(golden[name].squeeze(2)) for name in ("in_src", "in_pos")), words(golden))
    if "in_img" in golden:
        pixels = Pixels(paddle.to_tensor(golden["in_img"].transpose(0, 3, 1, 2)))
    if "in_gmask" in golden:
        masked = mask_of_codes(golden)
    return model(text, pixels, masked_codes=masked)


def words(golden: Arrays) -> Tensor:
    return paddle.to_tensor(golden["in_tmask"].squeeze(1))


def mask_of_codes(golden: Arrays) -> Tensor:
    return paddle.to_tensor(golden["in_gmask"].reshape(golden["out_idx"].shape))


def losses_of(model: Unimo2, golden: Arrays) -> dict[str, Callable[[Encoded], Tensor]]:
    """Each recorded loss by the project's objectives: the release's mean of what they sum."""
    projected, flags = model.config.with_cmcl_projection, {}
    found: dict[str, Callable[[Encoded], Tensor]] = {"vq": lambda e: model.dictionary_losses(e).mean()}
    if "in_src" in golden:
        paired = golden["in_is_multimodal"].squeeze(1)
        with_text, width = golden["in_with_text"].squeeze(1), golden["in_src"].shape[1]
        positions, labels = golden["in_mask_pos"].squeeze(1), golden["in_mask_label"].squeeze(1)
        rows = positions // width
        counted = golden["in_lm_flag"].squeeze(1) * with_text[rows] > 0
        where, what = paddle.to_tensor(positions[counted]), paddle.to_tensor(labels[counted])
        found["mlm"] = lambda e: word_prediction_loss(model, e.text, where, what) / int(counted.sum())
        weights = np.where(paired[rows] > 0, 0.5, 1.0)  # the release broadcasts them, so that their mean counts
        found["mlm_w"] = lambda e: found["mlm"](e) * float(weights.mean())
    if "in_labels" in golden:
        labels = paddle.to_tensor(golden["in_labels"].squeeze(1))
        paired_rows = paddle.to_tensor(np.flatnonzero(paired))
        flags = paddle.to_tensor((golden["in_labels"].squeeze(1) * paired).astype(np.float32))

        def match(e: Encoded, fusion: str) -> Tensor:
            model.config = model.config.model_copy(update={"fusion_method": fusion})
            some = Encoded(None, None, e.image[paired_rows], None, e.text[paired_rows], None, None)
            return matching_loss(model, some, labels[paired_rows]) / len(paired_rows)

        def over_two(e: Encoded) -> Tensor:
            image, text = model.contrast_features(e)
            their_text, their_image, their_labels, theirs = (paddle.to_tensor(golden[f"other_{k}"]) for k in range(4))
            image, text = paddle.concat([image, their_image]), paddle.concat([text, their_text])
            if projected:
                image, text = (paddle.nn.functional.normalize(x, axis=-1) for x in (image, text))
            both = paddle.concat([flags, (their_labels.astype("float32") * theirs).squeeze(1)])
            return info_nce(image / model.contrast_temperature(), text, both, World()) / len(both)

        across = "both" if projected else "neither"
        within = "both" if projected else "image"
        found["itm_sum"], found["itm_mul"] = lambda e: match(e, "sum"), lambda e: match(e, "mul")
        found["cmcl_in"] = lambda e: contrast_loss(model, e, flags, within, World()) / len(flags)
        found["cmcl_x1"] = lambda e: contrast_loss(model, e, flags, across, World()) / len(flags)
        found["cmcl_x2"] = over_two
    if "in_gmask" in golden:
        masked = mask_of_codes(golden)
        found["mask_g"] = lambda e: masked_code_loss(model, e, masked) / float(masked.sum())
    return found


@each_recording(FOLDER)
def test_recording(recording):
    golden = arrays(recording)
    model, table = model_of(recording.stem)
    encoded = passed(model, golden)
    assert (np.sort(encoded.grounding.chosen.numpy()) == np.sort(golden["out_idx"])).all()
    if "out_v" in golden:
        assert np.abs(encoded.image.numpy() - golden["out_v"]).max() <= TOLERANCE
    if "out_l" in golden:
        seen = golden["in_tmask"].squeeze(1) > 0
        assert np.abs(encoded.text.numpy() - golden["out_l"])[seen].max() <= TOLERANCE
    if "out_score" in golden:
        assert np.abs(model.contrast_score(encoded).numpy() - golden["out_score"]).max() <= TOLERANCE
    computed = losses_of(model, golden)
    recorded = {name.removeprefix("loss_") for name in golden if name.startswith("loss_")}
    assert recorded and not recorded - computed.keys()
    for name in sorted(recorded):
        loss = computed[name](passed(model, golden))
        assert abs(float(loss) - golden[f"loss_{name}"]) <= TOLERANCE * max(1, abs(golden[f"loss_{name}"])), name
        wanted = {key.split("/")[1]: array for key, array in golden.items() if key.startswith(f"grad_{name}/")}
        if not wanted:
            continue
        model.clear_gradients()
        loss.backward()
        ours = {key: p.grad.numpy() for key, p in model.named_parameters() if p.grad is not None}
        names = {key: theirs for key, theirs in table.items() if key in ours}
        got = {key: part.read() for key, part in scatter(names, {k: of_array(ours[k]) for k in names}).items()}
        assert not wanted.keys() - got.keys(), name
        wrong = {key: np.abs(got[key] - wanted[key]).max() / np.abs(wanted[key]).max() for key in wanted}
        assert max(wrong.values()) <= TOLERANCE, (name, {k: v for k, v in wrong.items() if v > TOLERANCE})
