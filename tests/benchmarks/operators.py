"""CPU milliseconds of a training step's operators, forward and backward: Paddle's own, ours, torch's.

Called by train_step.py, which makes torch's environment. Sizes are those of a step of 16 pairs padded to 72 regions and
24 tokens, 4 layers, attention and hidden dropout 0.1, vocabulary of 50,265.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

B, REGIONS, TOKENS, LAYERS, VOCABULARY, FEATURES, P = 16, 72, 24, 4, 50265, 2048, 0.1
S = REGIONS + TOKENS
CALLS = {  # in one step
    "qkv projection": LAYERS,
    "attention": LAYERS,
    "output projection": LAYERS,
    "inner projection": LAYERS,
    "gelu": LAYERS,
    "outer projection": LAYERS,
    "dropout": 2 * LAYERS + 1,
    "layer norm": 2 * LAYERS + 1,
    "image projection": 1,
    "word vectors": 1,
    "adamw": 1,
}


def shapes(h: int) -> list[list[int]]:
    """Weights that AdamW updates; biases and norms do not count."""
    return [[VOCABULARY, h], [FEATURES, h]] + LAYERS * [[h, 3 * h], [h, h], [h, 4 * h], [4 * h, h]]


def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCABULARY, [B, TOKENS])


def paddle_cases(h: int, own: bool) -> dict[str, Callable[[], Any]]:
    """One forward and backward pass each; `own` takes Paddle's operators where we have another one."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle
    import paddle.nn.functional as F

    from unimo.engine.adamw import AdamW
    from unimo.models import cpu_training, layers

    paddle.seed(0)
    if own:
        layers._trains_on_cpu = lambda x, training: False

    def passes(function: Callable, *shape: int, gradient: bool = True) -> Callable[[], Any]:
        x = paddle.randn(shape)
        x.stop_gradient = not gradient
        inputs = [x] * gradient + (function.parameters() if isinstance(function, paddle.nn.Layer) else [])
        upstream = paddle.randn(function(x).shape)
        return lambda: paddle.grad(function(x), inputs, upstream)

    def attention(qkv: paddle.Tensor) -> paddle.Tensor:
        if not own:
            return cpu_training.attention(qkv, bias, h // 64, P)
        q, k, v = qkv.reshape([B, S, 3, h // 64, 64]).transpose([2, 0, 3, 1, 4]).unbind(0)
        weights = F.dropout(F.softmax(paddle.matmul(q * 64**-0.5, k, transpose_y=True) + bias), P)
        return paddle.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([B, S, h])

    bias = paddle.zeros([B, 1, 1, S])
    table = paddle.nn.Embedding(VOCABULARY, h)
    words = paddle.to_tensor(ids())
    upstream = paddle.randn([B, TOKENS, h])
    parameters = [paddle.create_parameter(shape, "float32") for shape in shapes(h)]
    adamw = (paddle.optimizer.AdamW if own else AdamW)(1e-4, parameters=parameters)
    for parameter in parameters:
        parameter.grad = paddle.randn(parameter.shape)
    return {
        "qkv projection": passes(layers.Linear(h, 3 * h), B, S, h),
        "attention": passes(attention, B, S, 3 * h),
        "output projection": passes(layers.Linear(h, h), B, S, h),
        "inner projection": passes(layers.Linear(h, 4 * h), B, S, h),
        "gelu": passes(lambda x: layers.gelu(x, True), B, S, 4 * h),
        "outer projection": passes(layers.Linear(4 * h, h), B, S, 4 * h),
        "dropout": passes(lambda x: layers.dropout(x, P, True), B, S, h),
        "layer norm": passes(layers.LayerNorm(h, 1e-5), B, S, h),
        "image projection": passes(layers.Linear(FEATURES, h), B, REGIONS, FEATURES, gradient=False),
        "word vectors": lambda: paddle.grad(table(words), table.parameters(), upstream),
        "adamw": adamw.step,
    }


def torch_cases(h: int) -> dict[str, Callable[[], Any]]:
    """The same as Hugging Face's BERT has it: three projections for query, key and value."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)

    def passes(function: Callable, *shape: int, gradient: bool = True) -> Callable[[], Any]:
        x = torch.randn(shape, requires_grad=gradient)
        inputs = [x] * gradient + (list(function.parameters()) if isinstance(function, nn.Module) else [])
        upstream = torch.randn(function(x).shape)
        return lambda: torch.autograd.grad(function(x), inputs, upstream)

    def attention(qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.view(B, S, h // 64, 64).transpose(1, 2) for t in qkv.unbind(0))
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=P)
        return context.transpose(1, 2).reshape(B, S, h)

    class Projections(nn.ModuleList):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([projection(x) for projection in self])

    bias = torch.zeros([B, 1, S, S])
    table = nn.Embedding(VOCABULARY, h)
    words = torch.from_numpy(ids())
    upstream = torch.randn([B, TOKENS, h])
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes(h)]
    adamw = torch.optim.AdamW(parameters, 1e-4, fused=True)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape)
    return {
        "qkv projection": passes(Projections(nn.Linear(h, h) for _ in range(3)), B, S, h),
        "attention": passes(attention, 3, B, S, h),
        "output projection": passes(nn.Linear(h, h), B, S, h),
        "inner projection": passes(nn.Linear(h, 4 * h), B, S, h),
        "gelu": passes(nn.GELU(), B, S, 4 * h),
        "outer projection": passes(nn.Linear(4 * h, h), B, S, 4 * h),
        "dropout": passes(nn.Dropout(P), B, S, h),
        "layer norm": passes(nn.LayerNorm(h), B, S, h),
        "image projection": passes(nn.Linear(FEATURES, h), B, REGIONS, FEATURES, gradient=False),
        "word vectors": lambda: torch.autograd.grad(table(words), table.weight, upstream),
        "adamw": adamw.step,
    }


def work(side: str, h: int, warm_up: int = 3, repeats: int = 7) -> dict[str, float]:
    """Median CPU milliseconds of each operator; the first calls have to get their memory from the kernel."""
    found = {}
    for name, call in (torch_cases(h) if side == "torch" else paddle_cases(h, own=side == "paddle")).items():
        times = []
        for _ in range(warm_up + repeats):
            start = time.process_time()
            call()
            times.append(1000 * (time.process_time() - start))
        found[name] = median(times[warm_up:])
    return found


def print_table(h: int, peer: Path) -> None:
    """Alternate the three in processes and print medians; the last column is what a step loses to torch there."""
    from side_by_side import alternate

    pythons = {"paddle": sys.executable, "ours": sys.executable, "torch": peer}
    figures = alternate({side: [python, __file__, side, str(h)] for side, python in pythons.items()}, rounds=2)
    print(f"\noperators at hidden size {h}, CPU ms forward + backward; rest = (ours - torch) x calls a step")
    print(f"{'':18s} {'calls':>6s} {'paddle':>9s} {'ours':>9s} {'torch':>9s} {'rest':>9s}")
    totals = dict.fromkeys(pythons, 0.0)
    for name, calls in CALLS.items():
        times = {side: median(found[name]) for side, found in figures.items()}
        totals = {side: totals[side] + calls * times[side] for side in totals}
        row = (*times.values(), calls * (times["ours"] - times["torch"]))
        print(f"{name:18s} {calls:6d} " + " ".join(f"{value:9.2f}" for value in row))
    row = (*totals.values(), totals["ours"] - totals["torch"])
    print(f"{'all calls':18s} {'':6s} " + " ".join(f"{value:9.1f}" for value in row) + "\n", flush=True)


if __name__ == "__main__":
    side, h = sys.argv[1:]
    print(json.dumps(work(side, int(h))))
