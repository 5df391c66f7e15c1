"""Exclusions, clipping and the update rule against numpy."""

import numpy as np
import paddle
import pytest
from tiny_task import TinyModel

from unimo.engine.distributed import World
from unimo.engine.optimizer import Optimizer, decays
from unimo.engine.settings import EngineConfig
from unimo.errors import NonFiniteError
from unimo.models.unimo import HEADS, Unimo, UnimoConfig

SCALER = paddle.amp.GradScaler(enable=False)


def test_weight_decay_spares_layer_norms_and_biases_of_unimo():
    config = UnimoConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=11)
    names = [name for name, _ in Unimo(config, HEADS).named_parameters()]
    decayed = {name for name in names if decays(name)}
    assert {"word_embedding.weight", "position_embedding.weight", "layers.0.attention.qkv.weight"} <= decayed
    assert {"text_norm.weight", "layers.0.feed_forward_norm.weight", "lm.norm.weight", "lm.bias"} <= set(
        names
    ) - decayed
    for name in names:
        assert decays(name) == (not ("norm" in name or name.endswith("bias"))), name


def make(**values) -> tuple[TinyModel, Optimizer]:
    paddle.seed(0)
    model = TinyModel(0.0)
    return model, Optimizer(model, EngineConfig(steps=10, learning_rate=0.1, **values), World())


def set_gradients(optimizer: Optimizer, scale: float) -> None:
    for i, p in enumerate(optimizer.parameters.values()):
        p.grad = paddle.full_like(p, scale * (i + 1))


def test_an_update_that_a_scaler_skips_is_told():
    class Skipping:
        def step(self, optimizer) -> None:
            pass

        def update(self) -> None:
            pass

    model, optimizer = make()
    before = model.embed.weight.numpy()
    for scaler, updated in ((SCALER, True), (Skipping(), False), (SCALER, True)):
        set_gradients(optimizer, 1.0)
        assert optimizer.step(0.1, scaler) == updated
        assert np.array_equal(model.embed.weight.numpy(), before) != updated
        before = model.embed.weight.numpy()


def test_a_state_is_whole_before_the_first_update():
    """A loss scaler may skip the first updates, and a checkpoint be asked for meanwhile."""
    _, saved = make()
    arrays = dict(zip(saved.shapes(), saved.state(), strict=True))
    assert {name: list(array.shape) for name, array in arrays.items()} == saved.shapes()
    results = []
    for start in (None, arrays):
        model, optimizer = make()
        if start:
            optimizer.restore(iter(start.values()))
        for _ in range(2):
            set_gradients(optimizer, 1.0)
            optimizer.step(0.1, SCALER)
        results.append(model.embed.weight.numpy())
    assert np.array_equal(*results)


def test_steps_are_adamw_after_global_norm_clipping():
    """Two updates at different rates against the formulas, float64."""
    model, optimizer = make(weight_decay=0.5, clip_norm=1.0)
    weights = {n: p.numpy().astype("f8") for n, p in optimizer.parameters.items()}
    m, v = {n: 0.0 for n in weights}, {n: 0.0 for n in weights}
    for t, (rate, scale) in enumerate([(0.1, 3.0), (0.05, 1e-3)], start=1):
        set_gradients(optimizer, scale)
        gradients = {n: p.grad.numpy().astype("f8") for n, p in optimizer.parameters.items()}
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        optimizer.step(rate, SCALER)
        assert optimizer.clip.norm == pytest.approx(norm, rel=1e-6)
        for n, g in gradients.items():
            g = g / max(1.0, norm)
            m[n], v[n] = 0.9 * m[n] + 0.1 * g, 0.98 * v[n] + 0.02 * g**2
            adam = (m[n] / (1 - 0.9**t)) / (np.sqrt(v[n] / (1 - 0.98**t)) + 1e-6)
            weights[n] = weights[n] - rate * adam - rate * 0.5 * decays(n) * weights[n]
            np.testing.assert_allclose(optimizer.parameters[n].numpy(), weights[n], atol=2e-6, err_msg=n)


def test_an_untouched_parameter_gets_a_zero_gradient():
    """Its moments decay and it moves on: the same whether its gradient was never made or is zero."""
    outcomes = []
    for make_zero in (False, True):
        model, optimizer = make()
        set_gradients(optimizer, 1.0)
        optimizer.step(0.1, SCALER)
        set_gradients(optimizer, 1.0)
        head = model.regions.weight
        head.grad = paddle.zeros_like(head) if make_zero else None
        before = head.numpy().copy()
        optimizer.step(0.1, SCALER)
        assert np.abs(head.numpy() - before).max() > 1e-3
        outcomes.append(head.numpy())
    np.testing.assert_array_equal(*outcomes)


def test_a_non_finite_gradient_changes_nothing():
    model, optimizer = make()
    set_gradients(optimizer, 1.0)
    model.words.bias.grad = paddle.full_like(model.words.bias, float("inf"))
    before = {n: p.numpy().copy() for n, p in optimizer.parameters.items()}
    with pytest.raises(NonFiniteError, match="gradient norm is inf"):
        optimizer.step(0.1, SCALER)
    for n, p in optimizer.parameters.items():
        np.testing.assert_array_equal(p.numpy(), before[n])


def test_the_norm_is_right_for_large_tables():
    """Paddle's public norm and dot are off by a tenth at this size on CPU."""
    model = paddle.nn.Embedding(20_000, 800)
    optimizer = Optimizer(model, EngineConfig(steps=1, learning_rate=0.1), World())
    gradient = np.random.default_rng(0).standard_normal((20_000, 800), dtype=np.float32) * np.float32(1e-3)
    optimizer.clip([(model.weight, paddle.to_tensor(gradient))])
    assert optimizer.clip.norm == pytest.approx(np.sqrt((gradient.astype("f8") ** 2).sum()), rel=1e-6)


def test_state_goes_by_parameter_name_into_a_model_with_other_automatic_names():
    model, optimizer = make()
    for scale in (1.0, 2.0):
        set_gradients(optimizer, scale)
        optimizer.step(0.1, SCALER)
    state = dict(zip(optimizer.shapes(), optimizer.state(), strict=True))
    assert set(state) >= {"embed.weight.moment1", "regions.bias.beta2_pow_acc"}

    _, other = make()  # in this process Paddle calls its parameters linear_<n>, with other n
    assert {p.name for p in model.parameters()}.isdisjoint(p.name for p in other.parameters.values())
    other.restore(iter(state.values()))
    for name, p in other.parameters.items():
        p.set_value(optimizer.parameters[name])
    for each in (optimizer, other):
        set_gradients(each, 3.0)
        each.step(0.1, SCALER)
    for name, p in other.parameters.items():
        np.testing.assert_array_equal(p.numpy(), optimizer.parameters[name].numpy())
    assert all(np.array_equal(a, b) for a, b in zip(optimizer.state(), other.state(), strict=True))


def test_epsilon_of_fluid_slows_the_first_updates():
    """A gradient of the size of epsilon: the step over the rate by Fluid 1.8's formula and by Paddle's."""
    for choice, expected in (("fluid-1.8", {1: 0.124, 2: 0.166, 50: 0.444, 200: 0.498}), ("paddle", {1: 0.5, 50: 0.5})):
        _, optimizer = make(weight_decay=0.0, clip_norm=1e3, compat={"adam_epsilon": choice})
        parameter = next(iter(optimizer.parameters.values()))
        for update in range(1, max(expected) + 1):
            for p in optimizer.parameters.values():
                p.grad = paddle.full_like(p, 1e-6)
            before = parameter.numpy().astype("f8")
            optimizer.step(1e-2, SCALER)
            if update in expected:
                moved = (before - parameter.numpy()) / 1e-2
                np.testing.assert_allclose(moved, expected[update], atol=2e-3, err_msg=f"{choice}, update {update}")


def test_epsilon_of_fluid_after_a_restore():
    """A restored optimiser goes on with the beta power it left: two halves are one whole."""
    whole = make(compat={"adam_epsilon": "fluid-1.8"})
    halves = [make(compat={"adam_epsilon": "fluid-1.8"}) for _ in range(2)]
    for _, optimizer in (whole, halves[0]):
        for _ in range(6 if optimizer is whole[1] else 3):
            set_gradients(optimizer, 1e-6)
            optimizer.step(0.1, SCALER)
    halves[1][0].set_state_dict(halves[0][0].state_dict())
    halves[1][1].restore(iter([np.array(array) for array in halves[0][1].state()]))
    for _ in range(3):
        set_gradients(halves[1][1], 1e-6)
        halves[1][1].step(0.1, SCALER)
    for p, q in zip(whole[0].parameters(), halves[1][0].parameters()):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
