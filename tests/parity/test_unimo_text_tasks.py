"""UNIMO's tasks on texts: classes and numbers (logits, loss, gradients, optimiser steps)."""

import numpy as np
import paddle
import pytest

from parity.recordings import arrays, each_recording
from parity.replayed_classes import check_fluids_first_update, check_two_updates, engine_of, replayed
from unimo.evaluate.understanding import class_logits

FOLDER = "unimo_text_tasks"


@each_recording(FOLDER)
def test_recording(recording):
    golden = arrays(recording)
    if "out_probs" not in golden and recording.stem != "io_regression":
        pytest.fail(f"nothing replays {recording}")
    task, batch = replayed("unimo", FOLDER, golden, engine_of(golden))
    logits = class_logits(task.model, batch.inputs)
    assert np.abs(logits.numpy() - golden["out_logits"]).max() <= 1e-5
    if "out_probs" in golden:
        assert np.abs(paddle.nn.functional.softmax(logits).numpy() - golden["out_probs"]).max() <= 1e-5

    def loss_of(task):
        return task(batch)["classify"] / task.items(batch)["classify"]

    assert float(loss_of(task)) == pytest.approx(float(golden["out_loss"]), abs=1e-5)
    check_two_updates("unimo", task, loss_of, golden)
    fresh, _ = replayed("unimo", FOLDER, golden, engine_of(golden))
    check_fluids_first_update("unimo", fresh, loss_of, golden)
