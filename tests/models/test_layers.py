"""The CPU's training operators against Paddle's own: values and gradients, ragged sizes; what dropout promises."""

import itertools

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn
from paddle.distributed.fleet.utils import recompute

from unimo.models import cpu_training
from unimo.models.heads import MaskedLMHead
from unimo.models.layers import KeyValue, PostNormBlock, attention_bias, seq2seq_mask

EXACT = {"rtol": 0, "atol": 1e-12}  # float64
FLOAT = {"rtol": 1e-5, "atol": 1e-5}
sizes = settings(deadline=None, max_examples=15)


def leaf(*shape, seed=0, dtype="float64", scale=1.0):
    values = np.random.default_rng([seed, *shape]).standard_normal(shape) * scale
    return paddle.to_tensor(values, dtype=dtype, stop_gradient=False)


def value_and_gradients(function, *inputs):
    """Outputs and the gradients of a fixed random projection of them with respect to every input."""
    output = function(*inputs)
    gradients = paddle.grad(output, inputs, grad_outputs=leaf(*output.shape, seed=9, dtype=output.dtype))
    return [t.numpy() for t in (output, *gradients)]


def assert_same(fast, plain, inputs, tolerance=EXACT):
    for ours, reference in zip(value_and_gradients(fast, *inputs), value_and_gradients(plain, *inputs), strict=True):
        np.testing.assert_allclose(ours, reference, **tolerance)


def plain_attention(qkv, bias, num_heads, mask=None):
    b, s, h3 = qkv.shape
    q, k, v = qkv.reshape([b, s, 3, num_heads, -1]).transpose([2, 0, 3, 1, 4]).unbind(0)
    weights = F.softmax(paddle.matmul(q, k, transpose_y=True) / q.shape[-1] ** 0.5 + bias)
    weights = weights if mask is None else weights * mask
    return paddle.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([b, s, h3 // 3])


@sizes
@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 9), st.integers(1, 9))
def test_linear(b, s, i, o):
    assert_same(cpu_training.linear, F.linear, [leaf(b, s, i), leaf(i, o), leaf(o)])
    table = leaf(o, i)
    assert_same(
        lambda x, w, c: cpu_training.linear(x, w, c, transposed=True),
        lambda x, w, c: paddle.matmul(x, w, transpose_y=True) + c,
        [leaf(s, i), table, leaf(o)],
    )


def test_linear_of_an_input_without_gradient():
    x, weight, bias = leaf(3, 4).detach(), leaf(4, 5), leaf(5)
    cpu_training.linear(x, weight, bias).sum().backward()
    assert x.grad is None
    np.testing.assert_allclose(weight.grad.numpy(), x.numpy().sum(0)[:, None].repeat(5, 1), **EXACT)


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("asked", [["shift"], ["qkv"], ["shift", "qkv"], ["shift", "inner bias", "norm"]])
def test_a_gradient_inside_of_a_pass_is_for_what_it_asks(asked, recomputed):
    """`paddle.grad` in training, as adversarial perturbations need it: that of Paddle's own operators, and no other."""
    paddle.seed(3)
    block = PostNormBlock(8, 2, 0.0, 0.0, 1e-5)
    x, shift = paddle.randn([2, 3, 8]), leaf(2, 3, 8, dtype="float32")
    tensors = {"shift": shift, "qkv": block.attention.qkv.weight, "norm": block.feed_forward_norm.weight}
    tensors["inner bias"] = block.feed_forward.inner.bias
    bias, found = paddle.zeros([2, 1, 1, 3]), []

    def run(x: paddle.Tensor) -> paddle.Tensor:
        return block(x, bias)[0]

    for trains in (True, False):
        block.train() if trains else block.eval()
        y = recompute(run, x + shift, use_reentrant=False) if recomputed and trains else run(x + shift)
        found.append(paddle.grad((y * y * paddle.arange(8.0)).sum(), [tensors[name] for name in asked]))
    for ours, plain in zip(*found):
        np.testing.assert_allclose(ours.numpy(), plain.numpy(), rtol=1e-4, atol=1e-4)
    assert all(p.grad is None for p in block.parameters()), "nothing is left behind"


@pytest.mark.parametrize("frozen", [f for f in itertools.product([False, True], repeat=3) if not all(f)])
@pytest.mark.parametrize("operator", ["linear", "layer_norm"])
def test_frozen_inputs_get_no_gradient_and_the_others_the_same(operator, frozen):
    paddle.seed(0)
    shapes = {"linear": ([3, 4], [4, 5], [5]), "layer_norm": ([3, 4], [4], [4])}[operator]
    values = [paddle.randn(shape) for shape in shapes]
    wanted = []
    for asked in (False, False, False), frozen:
        inputs = [value.clone().detach() for value in values]
        for tensor, stop in zip(inputs, asked):
            tensor.stop_gradient = stop
        y = cpu_training.linear(*inputs) if operator == "linear" else cpu_training.layer_norm(*inputs, 1e-5)
        (y * y).sum().backward()
        wanted.append([t.grad for t in inputs])
    for stop, whole, got in zip(frozen, *wanted):
        assert got is None if stop else np.array_equal(whole.numpy(), got.numpy())


@sizes
@given(st.integers(1, 50), st.sampled_from([1e-3, 1.0, 30.0, 1e3]))
def test_gelu(n, scale):
    assert_same(cpu_training.gelu, F.gelu, [leaf(n, scale=scale)])


def test_gelu_in_float32_over_its_whole_range():
    """Within 2 units in the last place of max(1, |x|) of the float64 value, and so within 4 of Paddle's: float32
    kernels of erf are that good near 1 on every processor tried, and the product with x carries it on."""
    x = np.concatenate([np.linspace(-12, 12, 100_001), [-1e4, 1e4, 0.0]]).astype("float32")
    unit = np.finfo("float32").eps * np.maximum(1, np.abs(x))

    def value_and_slope(gelu, dtype):
        given = paddle.to_tensor(x.astype(dtype), stop_gradient=False)
        value = gelu(given)
        return value.numpy(), paddle.grad(value, given)[0].numpy()

    ours, exact = (value_and_slope(cpu_training.gelu, dtype) for dtype in ("float32", "float64"))
    paddles = value_and_slope(F.gelu, "float32")
    for got, wanted, other in zip(ours, exact, paddles, strict=True):
        assert (np.abs(got - wanted) <= 2 * unit).all()
        assert (np.abs(got - other) <= 4 * unit).all()


@sizes
@given(st.integers(1, 4), st.integers(1, 7), st.integers(2, 40), st.sampled_from([1e-2, 1.0, 100.0]))
def test_layer_norm(b, s, h, scale):
    epsilon = 2**-17  # exact in float32, in which Paddle's kernel takes it
    assert_same(
        lambda x, w, c: cpu_training.layer_norm(x, w, c, epsilon),
        lambda x, w, c: F.layer_norm(x, h, w, c, epsilon),
        [leaf(b, s, h, scale=scale), leaf(h, seed=1), leaf(h, seed=2)],
        {"rtol": 1e-10, "atol": 1e-10},
    )


@sizes
@given(st.integers(1, 3), st.integers(1, 9), st.sampled_from([1, 2, 3]), st.integers(1, 5), st.booleans())
def test_attention(b, s, heads, d, keys_only):
    mask = paddle.to_tensor(np.random.default_rng(s).integers(0, 2, [b, s] if keys_only else [b, s, s]))
    bias = attention_bias(mask).astype("float64")
    assert_same(
        lambda qkv: cpu_training.attention(qkv, bias, heads, 0.0),
        lambda qkv: plain_attention(qkv, bias, heads),
        [leaf(b, s, 3 * heads * d)],
    )


def test_attention_drops_weights_by_the_seeded_mask():
    qkv, bias = leaf(2, 7, 3 * 4 * 5), paddle.zeros([2, 1, 1, 7], "float64")
    paddle.seed(3)
    keep, factor = cpu_training.dropout_mask([2, 4, 7, 7], 0.3)

    def fast(qkv):
        paddle.seed(3)
        return cpu_training.attention(qkv, bias, 4, 0.3)

    assert_same(fast, lambda qkv: plain_attention(qkv, bias, 4, keep.astype("float64") * factor), [qkv])


@sizes
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.floats(0.01, 0.99), st.integers(0, 99))
def test_dropout_multiplies_values_and_gradients_by_the_seeded_mask(shape, p, seed):
    x = leaf(*shape)
    paddle.seed(seed)
    keep, factor = cpu_training.dropout_mask(shape, p)

    def fast(x):
        paddle.seed(seed)
        return cpu_training.dropout(x, p)

    assert_same(fast, lambda x: x * keep.astype("float64") * factor, [x])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_share_and_the_mean(p):
    paddle.seed(0)
    n = 1_000_000
    y = cpu_training.dropout(paddle.ones([n]), p).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - round(p * 2**16) / 2**16))}
    error = (p * (1 - p) / n) ** 0.5
    assert abs((y == 0).mean() - p) < 5 * error
    kept = (y != 0).reshape(-1, 4)  # the four numbers of one 64-bit draw are independent
    for i, j in itertools.combinations(range(4), 2):
        assert abs((kept[:, i] & kept[:, j]).mean() - (1 - p) ** 2) < 10 * error


def test_dropout_follows_the_saved_generator_state():
    state = paddle.get_rng_state()
    first = cpu_training.dropout_mask([33], 0.5)[0].numpy()
    second = cpu_training.dropout_mask([33], 0.5)[0].numpy()
    paddle.set_rng_state(state)
    np.testing.assert_array_equal(cpu_training.dropout_mask([33], 0.5)[0].numpy(), first)
    assert (first != second).any()
    np.testing.assert_array_equal(cpu_training.dropout(paddle.ones([3]), 0.0).numpy(), 1)


def block(dropout=0.0):
    with paddle.utils.unique_name.guard():
        paddle.seed(1)
        return PostNormBlock(24, 3, dropout, dropout, 1e-5)


def gradients(layer, x, bias, run=None):
    """Output and gradients of a block as numpy arrays; `run` calls it."""
    x = x.clone().detach()
    x.stop_gradient = False
    y = (run or layer)(x, bias)
    y = y[0] if isinstance(y, tuple) else y
    (y * leaf(*y.shape, seed=5, dtype="float32")).sum().backward()
    found = {"output": y.numpy(), "input": x.grad.numpy()} | {n: p.grad.numpy() for n, p in layer.named_parameters()}
    layer.clear_gradients()
    return found


@pytest.mark.parametrize("b, s, causal", [(1, 1, False), (3, 17, False), (2, 33, True)])
def test_block_in_training_equals_the_block_in_evaluation(b, s, causal):
    lengths = paddle.to_tensor(np.random.default_rng(0).integers(1, s + 1, b))
    mask = seq2seq_mask(lengths // 2, lengths, s) if causal else (paddle.arange(s) < lengths.unsqueeze(1))
    layer, x, bias = block(), leaf(b, s, 24, dtype="float32"), attention_bias(mask.astype("float32"))
    layer.eval()
    plain = gradients(layer, x, bias)
    layer.train()
    fast = gradients(layer, x, bias)
    assert plain.keys() == fast.keys()
    for name in plain:
        np.testing.assert_allclose(fast[name], plain[name], err_msg=name, **FLOAT)


def test_block_gives_its_keys_and_values_in_evaluation_only():
    layer, x, bias = block(), leaf(2, 5, 24, dtype="float32"), paddle.zeros([2, 1, 1, 5])
    assert layer(x, bias)[1] is None
    layer.eval()
    kept = layer(x, bias)[1]
    assert isinstance(kept, KeyValue) and kept.keys.shape == [2, 3, 5, 8]


def test_recompute_repeats_dropout_and_gradients():
    layer, x, bias = block(dropout=0.2), leaf(2, 9, 24, dtype="float32"), paddle.zeros([2, 1, 1, 9])
    paddle.seed(7)
    plain = gradients(layer, x, bias)
    paddle.seed(7)
    again = gradients(layer, x, bias, lambda x, bias: recompute(lambda *a: layer(*a)[0], x, bias, use_reentrant=False))
    for name in plain:
        np.testing.assert_array_equal(again[name], plain[name], err_msg=name)


def test_backward_changes_nothing_that_it_was_given():
    """Twice through one graph gives the same gradients."""
    layer, x = block(dropout=0.2), leaf(2, 9, 24, dtype="float32")
    y, _ = layer(x, paddle.zeros([2, 1, 1, 9]))
    upstream = leaf(*y.shape, seed=5, dtype="float32")
    before = upstream.numpy().copy()
    first = paddle.grad(y, [x, *layer.parameters()], upstream, retain_graph=True)
    second = paddle.grad(y, [x, *layer.parameters()], upstream)
    np.testing.assert_array_equal(upstream.numpy(), before)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_masked_lm_head_in_training_equals_evaluation():
    head, table = MaskedLMHead(12, 31, 1e-5), leaf(31, 12, dtype="float32")
    head.bias.set_value(leaf(31, seed=4, dtype="float32"))
    states = leaf(5, 12, seed=3, dtype="float32")
    head.eval()
    plain = value_and_gradients(lambda s, t, *_: head(s, t), states, table, *head.parameters())
    head.train()
    fast = value_and_gradients(lambda s, t, *_: head(s, t), states, table, *head.parameters())
    for ours, reference in zip(fast, plain, strict=True):
        np.testing.assert_allclose(ours, reference, **FLOAT)


def test_a_block_exports_as_a_static_graph(tmp_path):
    class Exported(nn.Layer):
        def __init__(self):
            super().__init__()
            self.block = block(dropout=0.1)

        def forward(self, x, mask):
            return self.block(x, attention_bias(mask))[0]

    layer = Exported()
    layer.eval()
    spec = [paddle.static.InputSpec([None, None, 24]), paddle.static.InputSpec([None, None])]
    paddle.jit.save(layer, str(tmp_path / "block"), input_spec=spec)
    loaded = paddle.jit.load(str(tmp_path / "block"))
    for b, s in ((2, 7), (3, 4)):
        x, mask = leaf(b, s, 24, dtype="float32"), paddle.ones([b, s])
        np.testing.assert_allclose(loaded(x, mask).numpy(), layer(x, mask).numpy(), **FLOAT)
