"""Four updates of UNIMO-2's optimisers, with their schedules."""

import numpy as np
import paddle
import pytest

from parity.recordings import arrays, each_recording
from parity.replayed_classes import close, weights
from parity.replayed_classes import replayed as replayed_classes
from parity.replayed_retrieval import as_variables, replayed, under
from unimo.engine.distributed import World
from unimo.engine.optimizer import Optimizer, decays
from unimo.engine.schedules import learning_rate
from unimo.engine.settings import EngineConfig

RETRIEVAL = EngineConfig(
    steps=4, learning_rate=5e-4, schedule="piecewise", boundaries=(2, 3), weight_decay=0.0, beta2=0.98, epsilon=1e-6
)


@each_recording("unimo2_train_steps")
def test_recording(recording):
    golden = arrays(recording)
    if recording.stem == "io_mnli_decay":
        check_mnlis_updates(golden)
        return
    if recording.stem != "io_retrieval":
        pytest.fail(f"nothing replays {recording}")
    task, batch = replayed("unimo2_train_steps", golden, RETRIEVAL)
    optimizer, scaler = Optimizer(task.model, RETRIEVAL, World()), paddle.amp.GradScaler(enable=False)
    for step in range(4):
        rate = learning_rate(RETRIEVAL, step)
        assert rate == pytest.approx(float(golden["out_lr"][step]), rel=1e-6)
        loss = task(batch)["circle"] / task.items(batch)["circle"]
        assert float(loss) == pytest.approx(float(golden["out_losses"][step]), rel=2e-5)
        loss.backward()
        optimizer.step(rate, scaler)
        if wanted := under(golden, f"after{step + 1}/"):
            found = as_variables(task.model, {name: p.numpy() for name, p in task.model.named_parameters()})
            wrong = {name: np.abs(found[name] - array).max() for name, array in wanted.items()}
            assert max(wrong.values()) <= 5e-6, {name: error for name, error in wrong.items() if error > 5e-6}


def check_mnlis_updates(golden):
    """Four updates at a constant rate. The release's MNLI program decays what Adam has already updated, by a rate of 0
    in every recipe; ours decays before it, so that the recording's rate of .1 is applied here, by our rule of which
    parameters have one."""
    engine = EngineConfig(steps=4, learning_rate=5e-4, schedule="constant", weight_decay=0.0, beta2=0.98, epsilon=1e-6)
    task, batch = replayed_classes("unimo-2", "unimo2_train_steps", golden, engine, labels=3)
    optimizer, scaler = Optimizer(task.model, engine, World()), paddle.amp.GradScaler(enable=False)
    for step in range(4):
        loss = task(batch)["classify"] / task.items(batch)["classify"]
        assert float(loss) == pytest.approx(float(golden["out_losses"][step]), rel=2e-5)
        loss.backward()
        # the dictionary's temperature has no gradient at all in that program, here it is 0
        named = task.model.named_parameters()
        trained = [(name, p) for name, p in named if p.grad is not None and bool(p.grad.any())]
        optimizer.step(engine.learning_rate, scaler)
        for name, parameter in trained:
            if decays(name):
                parameter.set_value(parameter * (1 - 0.1 * engine.learning_rate))
        if wanted := under(golden, f"after{step + 1}/"):
            close(weights("unimo-2", task.model), wanted, lambda _: 5e-6)
