"""Recordings of the releases' programs for classes and numbers: our task with their weights, the recorded batch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from parity.recordings import ROOT, arrays
from parity.replayed_retrieval import under
from unimo.engine.distributed import World
from unimo.engine.optimizer import Optimizer
from unimo.engine.settings import EngineConfig
from unimo.evaluate.understanding import class_logits
from unimo.finetune.classify import ClassifyRecipe, ClassifyTask
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.port.files.variables import list_variables, open_variable
from unimo.port.names import unimo2_names, unimo_names
from unimo.port.weights import fill, gather, of_array, scatter, shapes_of
from unimo.readers.batching import Batch
from unimo.storage.json_files import read_json

Arrays = Mapping[str, np.ndarray]
SYSTEMS: dict[str, tuple[Any, Any, Any]] = {
    "unimo": (Unimo, UnimoConfig, unimo_names),
    "unimo-2": (Unimo2, Unimo2Config, unimo2_names),
}


def replayed(
    system: str,
    folder: str,
    golden: Arrays,
    engine: EngineConfig,
    sizes: Mapping[str, Any] = {},
    labels: int | None = None,
    **changed: Any,
) -> tuple[ClassifyTask, Batch]:
    """The task of a recording with the release's weights, and its batch.

    Args:
        sizes: keys of the folder's config that differ. labels: how many, where no recorded probability tells;
            without either, the recording is of a number. changed: keys of the recipe.
    """
    network, config, names = SYSTEMS[system]
    number = "out_probs" not in golden and labels is None
    labels = 1 if number else labels or golden["out_probs"].shape[-1]
    recipe = ClassifyRecipe(
        family="classify",
        examples="the recording",
        target="number" if number else "class",
        labels=[] if number else [f"label {k}" for k in range(labels)],
        engine=engine,
        **changed,
    )
    heads = ("pool", recipe.head)
    values = read_json(ROOT / folder / "config.json") | dict(sizes)
    streams = {"streams": ["text"]} if system == "unimo-2" else {}
    model = network(
        config.from_release(values, source=folder).model_copy(update={"num_labels": labels}), heads, **streams
    )
    getattr(model, recipe.head).dropout = 0.0  # as everywhere in the recordings
    stored = {name: open_variable(file) for name, file in list_variables(ROOT / folder / "checkpoint")[0].items()}
    lay(system, model, stored)
    ids, positions = (golden[name].squeeze(2) for name in ("in_src", "in_pos"))
    inputs: dict[str, Any] = {
        "text": {"ids": ids, "positions": positions, "mask": golden["in_tmask"].reshape(ids.shape)},
        "targets": golden["in_labels"][:, 0].astype(np.float32 if number else np.int64),
    }
    if "in_image" in golden:
        mask = golden["in_vmask"].squeeze(2)
        inputs["regions"] = {"features": golden["in_image"], "boxes": golden["in_loc"], "mask": mask}
    return ClassifyTask(model, recipe), Batch("classify", [str(k) for k in range(len(ids))], inputs)


def lay(system: str, model: nn.Layer, stored: Mapping[str, Any]) -> None:
    """Set the parameters that the variables make; a program of texts has none for pictures."""
    table = {ours: theirs for ours, theirs in table_of(system, model).items() if stored.keys() >= {*theirs}}
    assert {ours.split(".")[0] for ours in table} >= {"pool_text", *set(model.heads) - {"pool"}}
    fill(model, gather(table, stored, {ours: shapes_of(model)[ours] for ours in table}))


def table_of(system: str, model: nn.Layer) -> dict[str, tuple[str, ...]]:
    """Our parameters -> the release's variables, of this model."""
    names = SYSTEMS[system][2]
    streams = (("text",),) if system == "unimo-2" else ()
    table = names.name_table(model.config, names.parts_of(model.heads, *streams))
    return {ours: theirs for ours, theirs in table.items() if ours in model.state_dict()}


def as_variables(system: str, model: nn.Layer, ours: Arrays) -> dict[str, np.ndarray]:
    """Arrays of our parameters' shapes under the names of the release's variables."""
    table = {name: theirs for name, theirs in table_of(system, model).items() if name in ours}
    return {name: part.read() for name, part in scatter(table, {n: of_array(ours[n]) for n in table}).items()}


def weights(system: str, model: nn.Layer) -> Arrays:
    """The model's parameters as the release's variables."""
    return as_variables(system, model, {name: p.numpy() for name, p in model.named_parameters()})


def gradients(system: str, model: nn.Layer) -> Arrays:
    """Their gradients, alike."""
    found = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return as_variables(system, model, found)


def close(found: Arrays, wanted: Arrays, tolerance: Any) -> None:
    """All that was recorded is found, to what `tolerance(wanted)` allows."""
    assert wanted and not wanted.keys() - found.keys()
    wrong = {name: float(np.abs(found[name] - wanted[name]).max()) for name in wanted}
    wrong = {name: difference for name, difference in wrong.items() if difference > tolerance(wanted[name])}
    assert not wrong


def engine_of(golden: Arrays, **changed: Any) -> EngineConfig:
    """Two updates of the recorded optimiser at a constant rate."""
    rates = {key: float(golden[f"par_{key}"]) for key in ("beta1", "beta2")}
    given = {"weight_decay": float(golden["par_wd"]), "epsilon": float(golden["par_eps"]), "schedule": "constant"}
    return EngineConfig(steps=2, learning_rate=float(golden["par_lr"]), **given, **rates, **changed)


def check_two_updates(system: str, task: Any, loss_of: Any, golden: Arrays) -> None:
    """Losses, gradients, their norm, and the weights after each of two updates are the recorded ones."""
    engine = task.recipe.engine
    optimizer, scaler = Optimizer(task.model, engine, World()), paddle.amp.GradScaler(enable=False)
    for number in (1, 2):
        loss = loss_of(task)
        assert abs(float(loss) - golden[f"step{number}_loss"]) <= 1e-5 * max(1, abs(golden[f"step{number}_loss"]))
        loss.backward()
        if number == 1:
            close(gradients(system, task.model), under(golden, "grad/"), lambda wanted: 1e-5 * abs(wanted).max())
        optimizer.step(engine.learning_rate, scaler)
        if number == 1:
            norm = golden["out_grad_global_norm"]
            assert abs(optimizer.clip.norm - norm) <= 1e-5 * norm
        close(weights(system, task.model), under(golden, f"step{number}/"), lambda wanted: 2e-6)


def check_fluids_first_update(system: str, task: Any, loss_of: Any, golden: Arrays) -> None:
    """The weights after one update with Adam as Fluid 1.8 has it, which adds epsilon elsewhere."""
    engine = EngineConfig(**task.recipe.engine.model_dump() | {"compat": {"adam_epsilon": "fluid-1.8"}})
    optimizer = Optimizer(task.model, engine, World())
    loss_of(task).backward()
    optimizer.step(engine.learning_rate, paddle.amp.GradScaler(enable=False))
    close(weights(system, task.model), under(golden, "step1_fluid18/"), lambda wanted: 2e-6)


def check_mnli(recording: Path, folder: str, **sizes: Any) -> None:
    """UNIMO-2's logits, probabilities, loss and gradients on texts are the recorded ones, to 1e-5 of the largest."""
    golden = arrays(recording)
    engine = EngineConfig(steps=1, learning_rate=1.0)
    task, batch = replayed("unimo-2", folder, golden, engine, sizes)
    logits = class_logits(task.model, batch.inputs)
    assert np.abs(F.softmax(logits).numpy() - golden["out_probs"]).max() <= 1e-5
    if "out_logits" in golden:
        assert np.abs(logits.numpy() - golden["out_logits"]).max() <= 1e-5 * max(1, abs(golden["out_logits"]).max())
    loss = task(batch)["classify"] / task.items(batch)["classify"]
    assert abs(float(loss) - golden["out_loss"]) <= 1e-5
    loss.backward()
    close(gradients("unimo-2", task.model), under(golden, "grad/"), lambda wanted: 1e-5 * abs(wanted).max())
