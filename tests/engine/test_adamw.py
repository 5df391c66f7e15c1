"""The chunked update against Paddle's kernel."""

import numpy as np
import paddle
import pytest

from unimo.engine import adamw


def train(optimizer_class: type) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights and state after five updates of one parameter above a chunk, one below, one without decay."""
    rng = np.random.default_rng(0)
    with paddle.utils.unique_name.guard():
        parameters = {
            name: paddle.create_parameter(shape, "float32", name=name)
            for name, shape in {"large": [adamw.CHUNK // 100 + 1, 101], "medium": [300, 301], "bias": [70_001]}.items()
        }
        optimizer = optimizer_class(
            parameters=list(parameters.values()),
            beta2=0.98,
            epsilon=1e-6,
            weight_decay=0.1,
            apply_decay_param_fun=lambda name: name != "bias",
        )
        for p in parameters.values():
            p.set_value(rng.standard_normal(p.shape, "float32"))
        for rate, scale in ((0.0, 1.0), (1e-2, 1e-6), (1e-2, 1.0), (3e-3, 0.0), (1e-3, 100.0)):
            for p in parameters.values():
                p.grad = paddle.to_tensor(rng.standard_normal(p.shape, "float32") * np.float32(scale))
            optimizer.set_lr(rate)
            optimizer.step()
            optimizer.clear_grad()
    state = {k: v.numpy() for k, v in optimizer.state_dict().items() if isinstance(v, paddle.Tensor)}
    return {name: p.numpy() for name, p in parameters.items()}, state


@pytest.mark.parametrize("kernel_is_fast", [False, True])
def test_updates_and_state_equal_paddles(monkeypatch, kernel_is_fast):
    monkeypatch.setattr(adamw, "KERNEL_IS_FAST", kernel_is_fast)
    for ours, paddles in zip(train(adamw.AdamW), train(paddle.optimizer.AdamW), strict=True):
        assert ours.keys() == paddles.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], paddles[name], rtol=1e-5, atol=1e-6, err_msg=name)
