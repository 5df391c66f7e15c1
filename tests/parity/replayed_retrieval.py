"""Recordings of UNIMO-2's retrieval program: the project's task with the release's weights, and the recorded batch."""

from collections.abc import Mapping

import numpy as np

from parity.recordings import ROOT
from unimo.engine.settings import EngineConfig
from unimo.finetune.retrieval import RetrievalRecipe, RetrievalTask
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.port.files.variables import list_variables, open_variable
from unimo.port.names.unimo2_names import name_table, parts_of
from unimo.port.weights import fill, gather, of_array, scatter, shapes_of
from unimo.readers.batching import Batch
from unimo.storage.json_files import read_json

HEADS = ("pool", "match")
Arrays = Mapping[str, np.ndarray]


def replayed(folder: str, golden: Arrays, engine: EngineConfig, **changed: object) -> tuple[RetrievalTask, Batch]:
    """The task of a recording, and its batch. `changed`: keys of the config that differ from the folder's."""
    files = list_variables(ROOT / folder / "checkpoint")[0]
    values = read_json(ROOT / folder / "config.json") | changed
    model = Unimo2(Unimo2Config.from_release(values, source=folder), HEADS)
    table = name_table(model.config, parts_of(HEADS))
    fill(model, gather(table, {name: open_variable(file) for name, file in files.items()}, shapes_of(model)))
    recipe = RetrievalRecipe(
        pairs="the recording",
        negatives=10,
        margin=float(golden.get("par_margin", 0.2)),
        scale=float(golden.get("par_scale", 1.0)),
        sigmoid=bool(golden.get("par_sigmoid", False)),
        engine=engine,
    )
    ids, positions = (golden[name].squeeze(2) for name in ("in_src", "in_pos"))
    inputs = {
        "text": {"ids": ids, "positions": positions, "mask": golden["in_tmask"].squeeze(1)},
        "pixels": {"images": np.ascontiguousarray(golden["in_image_unique"].transpose(0, 3, 1, 2))},
        "text_rows": np.arange(len(ids)),
        "image_rows": golden["in_image_index"],
    }
    return RetrievalTask(model, recipe), Batch("retrieval", [str(k) for k in range(len(ids) // 21)], inputs)


def as_variables(model: Unimo2, ours: Arrays) -> dict[str, np.ndarray]:
    """Arrays of our parameters' shapes under the names of the release's variables."""
    table = {k: theirs for k, theirs in name_table(model.config, parts_of(HEADS)).items() if k in ours}
    return {name: part.read() for name, part in scatter(table, {k: of_array(ours[k]) for k in table}).items()}


def under(golden: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """What is recorded of each variable."""
    return {name.removeprefix(prefix): array for name, array in golden.items() if name.startswith(prefix)}


def check_loss(folder: str, golden: Arrays, **changed: object) -> None:
    """Scores, loss and gradients are the recorded ones, to 1e-5 of the largest."""
    task, batch = replayed(folder, golden, EngineConfig(steps=1, learning_rate=1.0), **changed)
    assert np.abs(task.scores(batch).numpy() - golden["out_score"]).max() <= 1e-5 * max(
        1, abs(golden["out_score"]).max()
    )
    loss = task(batch)["circle"] / task.items(batch)["circle"]
    assert abs(float(loss) - golden["out_loss"]) <= 1e-5 * max(1, abs(golden["out_loss"]))
    loss.backward()
    found = as_variables(
        task.model, {k: p.grad.numpy() for k, p in task.model.named_parameters() if p.grad is not None}
    )
    wanted = under(golden, "grad/")
    assert wanted and not wanted.keys() - found.keys()
    wrong = {name: np.abs(found[name] - array).max() / np.abs(array).max() for name, array in wanted.items()}
    assert max(wrong.values()) <= 1e-5, {name: error for name, error in wrong.items() if error > 1e-5}
