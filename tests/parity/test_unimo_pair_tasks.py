"""UNIMO's tasks on pairs: retrieval with circle loss (scores, loss, gradients, optimiser steps), SNLI-VE with VILLA."""

from collections.abc import Mapping

import numpy as np
import paddle
import pytest
from paddle.nn.functional import softmax

from parity.recordings import ROOT, arrays, each_recording, each_replayed, exchanges
from parity.replayed_classes import (
    check_fluids_first_update,
    check_two_updates,
    engine_of,
    lay,
    replayed,
    table_of,
)
from unimo.evaluate.understanding import class_logits
from unimo.finetune.retrieval import RetrievalRecipe, RetrievalTask
from unimo.models.unimo import UnimoConfig
from unimo.port.files.variables import list_variables, open_variable
from unimo.port.interchange import Options, build
from unimo.port.names.unimo_names import parts_of
from unimo.port.release import read_release
from unimo.readers.batching import Batch
from unimo.storage.json_files import read_json

FOLDER = "unimo_pair_tasks"
HEADS = ("pool", "match")
NOISES = {"text": "text", "regions": "image"}
Arrays = Mapping[str, np.ndarray]


def retrieval(golden: Arrays) -> tuple[RetrievalTask, Batch]:
    """The task of a recording with the release's weights and optimiser, and its batch."""
    config = UnimoConfig.from_release(read_json(ROOT / FOLDER / "config.json"), source=FOLDER)
    model, lacking = build(read_release(ROOT / FOLDER / "checkpoint", Options(config=config), parts_of(HEADS)), HEADS)
    assert not lacking
    groups, width = golden["out_score"].shape
    recipe = RetrievalRecipe(
        pairs="the recording",
        negatives=(width - 1) // 2,
        margin=float(golden["par_margin"]),
        scale=float(golden["par_scale"]),
        sigmoid=bool(golden["par_use_sigmoid"]),
        engine=engine_of(golden),
    )
    return RetrievalTask(model, recipe), batch_of(golden, groups)


def batch_of(golden: Arrays, groups: int) -> Batch:
    rows = np.arange(groups * golden["out_score"].shape[1])
    ids, positions, seen = (golden[name].squeeze(2) for name in ("in_src", "in_pos", "in_tmask"))
    inputs = {
        "text": {"ids": ids, "positions": positions, "mask": seen},
        "regions": {"features": golden["in_image"], "boxes": golden["in_loc"], "mask": golden["in_vmask"].squeeze(2)},
        "text_rows": rows,
        "image_rows": rows,
    }
    return Batch("retrieval", [str(group) for group in range(groups)], inputs)


@each_recording(FOLDER)
def test_recording(recording):
    golden = arrays(recording)
    if "in_noise_text" in golden:
        check_entailment(golden)
        return
    task, batch = retrieval(golden)
    assert np.abs(task.scores(batch).numpy() - golden["out_score"]).max() <= 1e-5

    def loss_of(task):
        return task(batch)["circle"] / task.items(batch)["circle"]

    assert abs(float(loss_of(task)) - golden["out_loss"]) <= 1e-5 * max(1, abs(golden["out_loss"]))
    check_two_updates("unimo", task, loss_of, golden)
    check_fluids_first_update("unimo", retrieval(golden)[0], loss_of, golden)


def check_entailment(golden: Arrays) -> None:
    """SNLI-VE: the adversarial loss from the recorded noise, its gradients, and the updates."""
    keys = {"steps": "adv_step", "rate": "adv_lr", "max_norm": "adv_max_norm", "magnitude": "adv_init_mag"}
    adversary = {ours: golden[f"par_{theirs}"].item() for ours, theirs in keys.items()}
    given = {"head": "entail", "adversary": adversary}
    task, batch = replayed("unimo", FOLDER, golden, engine_of(golden), **given)
    noise = {name: paddle.to_tensor(golden[f"in_noise_{theirs}"]) for name, theirs in NOISES.items()}
    probabilities = softmax(class_logits(task.model, batch.inputs)).numpy()
    assert np.abs(probabilities - golden["out_probs"]).max() <= 1e-5

    def loss_of(task):
        return task.attacked(batch.inputs, paddle.to_tensor(batch.inputs["targets"]), noise)

    assert float(loss_of(task)) == pytest.approx(float(golden["out_loss"]), rel=1e-5)
    check_two_updates("unimo", task, loss_of, golden)
    fresh, _ = replayed("unimo", FOLDER, golden, engine_of(golden), **given)
    check_fluids_first_update("unimo", fresh, loss_of, golden)


@each_replayed(FOLDER)
def test_exchanged_weights_differ(recording):
    golden = arrays(recording)
    if "in_noise_text" in golden:
        task, batch = replayed("unimo", FOLDER, golden, engine_of(golden), head="entail")
        found = lambda: softmax(class_logits(task.model, batch.inputs)).numpy() - golden["out_probs"]  # noqa: E731
    else:
        task, batch = retrieval(golden)
        found = lambda: task.scores(batch).numpy() - golden["out_score"]  # noqa: E731
    stored = {name: open_variable(file) for name, file in list_variables(ROOT / FOLDER / "checkpoint")[0].items()}
    used = {name for names in table_of("unimo", task.model).values() for name in names}
    unseen = []
    for one, other in exchanges({name: stored[name].shape for name in used}):
        lay("unimo", task.model, stored | {one: stored[other], other: stored[one]})
        with paddle.no_grad():
            if np.abs(found()).max() <= 1e-5:
                unseen.append((one, other))
    assert not unseen
