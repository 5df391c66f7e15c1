"""UNIMO's tasks on pairs: retrieval with circle loss (scores, loss, gradients, optimiser steps), SNLI-VE with VILLA."""

from collections.abc import Mapping

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn.functional import softmax

from parity.recordings import ROOT, arrays, each_recording, each_replayed, exchanges
from parity.replayed_classes import (
    check_fluids_first_update,
    check_two_updates,
    close,
    engine_of,
    lay,
    recorded,
    replayed,
    table_of,
)
from unimo.engine.distributed import World
from unimo.engine.optimizer import Optimizer
from unimo.engine.settings import EngineConfig
from unimo.evaluate.understanding import class_logits
from unimo.finetune.retrieval import RetrievalRecipe, RetrievalTask
from unimo.models.unimo import UnimoConfig
from unimo.port.files.variables import list_variables, open_variable
from unimo.port.interchange import Options, build
from unimo.port.names.unimo_names import name_table, parts_of
from unimo.port.release import read_release
from unimo.port.weights import of_array, scatter
from unimo.readers.batching import Batch
from unimo.storage.json_files import read_json

FOLDER = "unimo_pair_tasks"
HEADS = ("pool", "match")
NOISES = {"text": "text", "regions": "image"}
Arrays = Mapping[str, np.ndarray]


def retrieval(golden: Arrays) -> tuple[RetrievalTask, Batch, EngineConfig]:
    """The task of a recording with the release's weights, its batch and optimiser."""
    config = UnimoConfig.from_release(read_json(ROOT / FOLDER / "config.json"), source=FOLDER)
    model, lacking = build(read_release(ROOT / FOLDER / "checkpoint", Options(config=config), parts_of(HEADS)), HEADS)
    assert not lacking
    rates = {key: float(golden[f"par_{key}"]) for key in ("beta1", "beta2")}
    engine = EngineConfig(
        steps=2,
        learning_rate=float(golden["par_lr"]),
        schedule="constant",
        weight_decay=float(golden["par_wd"]),
        epsilon=float(golden["par_eps"]),
        **rates,
    )
    groups, width = golden["out_score"].shape
    recipe = RetrievalRecipe(
        pairs="the recording",
        negatives=(width - 1) // 2,
        margin=float(golden["par_margin"]),
        scale=float(golden["par_scale"]),
        sigmoid=bool(golden["par_use_sigmoid"]),
        engine=engine,
    )
    return RetrievalTask(model, recipe), batch_of(golden, groups), engine


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


def loss_of(task: RetrievalTask, batch: Batch) -> paddle.Tensor:
    return task(batch)["circle"] / task.items(batch)["circle"]


def as_variables(model: nn.Layer, ours: Arrays) -> dict[str, np.ndarray]:
    """Arrays of our parameters' shapes under the names of the release's variables."""
    table = {name: theirs for name, theirs in name_table(model.config, parts_of(HEADS)).items() if name in ours}
    return {name: part.read() for name, part in scatter(table, {n: of_array(ours[n]) for n in table}).items()}


@each_recording(FOLDER)
def test_recording(recording):
    golden = arrays(recording)
    if "in_noise_text" in golden:
        check_entailment(golden)
        return
    task, batch, engine = retrieval(golden)
    assert np.abs(task.scores(batch).numpy() - golden["out_score"]).max() <= 1e-5
    optimizer, scaler = Optimizer(task.model, engine, World()), paddle.amp.GradScaler(enable=False)
    for number in (1, 2):
        loss = loss_of(task, batch)
        assert abs(float(loss) - golden[f"step{number}_loss"]) <= 1e-5 * max(1, abs(golden[f"step{number}_loss"]))
        loss.backward()
        if number == 1:
            assert abs(float(loss) - golden["out_loss"]) <= 1e-5 * max(1, abs(golden["out_loss"]))
            found = {name: p.grad.numpy() for name, p in task.model.named_parameters() if p.grad is not None}
            close(as_variables(task.model, found), recorded(golden, "grad/"), lambda wanted: 1e-5 * abs(wanted).max())
        optimizer.step(engine.learning_rate, scaler)
        if number == 1:
            norm = golden["out_grad_global_norm"]
            assert abs(optimizer.clip.norm - norm) <= 1e-5 * norm
        close(weights_of(task.model), recorded(golden, f"step{number}/"), lambda wanted: 2e-6)
    close(first_update_of_fluid(golden), recorded(golden, "step1_fluid18/"), lambda wanted: 2e-6)


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


def first_update_of_fluid(golden: Arrays) -> Arrays:
    """Weights after one update with Adam as Fluid 1.8 has it, which adds epsilon elsewhere."""
    task, batch, engine = retrieval(golden)
    engine = EngineConfig(**engine.model_dump() | {"compat": {"adam_epsilon": "fluid-1.8"}})
    optimizer = Optimizer(task.model, engine, World())
    loss_of(task, batch).backward()
    optimizer.step(engine.learning_rate, paddle.amp.GradScaler(enable=False))
    return weights_of(task.model)


def weights_of(model: nn.Layer) -> Arrays:
    return as_variables(model, {name: p.numpy() for name, p in model.named_parameters()})


@each_replayed(FOLDER)
def test_exchanged_weights_differ(recording):
    golden = arrays(recording)
    if "in_noise_text" in golden:
        task, batch = replayed("unimo", FOLDER, golden, engine_of(golden), head="entail")
        found = lambda: softmax(class_logits(task.model, batch.inputs)).numpy() - golden["out_probs"]  # noqa: E731
    else:
        task, batch, _ = retrieval(golden)
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
