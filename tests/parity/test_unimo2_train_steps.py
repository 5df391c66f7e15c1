"""Four updates of UNIMO-2's optimisers, with their schedules."""

import numpy as np
import paddle
import pytest

from parity.recordings import arrays, each_recording
from parity.replayed_retrieval import as_variables, replayed, under
from unimo.engine.distributed import World
from unimo.engine.optimizer import Optimizer
from unimo.engine.schedules import learning_rate
from unimo.engine.settings import EngineConfig

RETRIEVAL = EngineConfig(
    steps=4, learning_rate=5e-4, schedule="piecewise", boundaries=(2, 3), weight_decay=0.0, beta2=0.98, epsilon=1e-6
)


@each_recording("unimo2_train_steps")
def test_recording(recording):
    if recording.stem != "io_retrieval":
        pytest.fail(f"nothing replays {recording}")
    golden = arrays(recording)
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
