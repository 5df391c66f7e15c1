"""The contrast in blocks beside open_clip's ClipLoss: CPU seconds of loss and gradients, and the most memory.

    pip install torch    # the peer, best in an environment of its own: PEER=its/bin/python
    OMP_NUM_THREADS=1 python tests/benchmarks/contrast.py [--sizes 1024 4096 16384]

Both get the same unit vectors of 256 numbers and a scale of 100. The peer's loss is open_clip's, written out: two
cross-entropies of the logits and of their transpose. Each measurement is a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

WIDTH, SCALE, ROUNDS = 256, 100.0, 3


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    left = rng.standard_normal((n, WIDTH)).astype(np.float32)
    right = left + 2 * rng.standard_normal((n, WIDTH)).astype(np.float32)
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (left, right))


def ours(n: int):
    import paddle

    from unimo.engine.distributed import World
    from unimo.hardware import use_fast_gemm
    from unimo.pretrain.info_nce import info_nce

    use_fast_gemm()
    left, right = (paddle.to_tensor(x, stop_gradient=False) for x in rows(n))
    scale, weights = paddle.to_tensor([SCALE], stop_gradient=False), paddle.full([n], 1 / n)

    def step() -> tuple[float, np.ndarray]:
        for x in (left, right, scale):
            x.clear_gradient()
        loss = info_nce(left * scale, right, weights, World())
        loss.backward()
        return float(loss), left.grad.numpy()

    return step


def theirs(n: int):
    import torch

    torch.set_num_threads(1)
    left, right = (torch.tensor(x, requires_grad=True) for x in rows(n))
    scale, own = torch.tensor(SCALE, requires_grad=True), torch.arange(n)

    def step() -> tuple[float, np.ndarray]:
        for x in (left, right, scale):
            x.grad = None
        images, texts = scale * left @ right.T, scale * right @ left.T  # as ClipLoss.get_logits makes them
        loss = (torch.nn.functional.cross_entropy(images, own) + torch.nn.functional.cross_entropy(texts, own)) / 2
        loss.backward()
        return loss.item(), left.grad.numpy()

    return step


def measure(side: str, n: int) -> None:
    step = {"ours": ours, "theirs": theirs}[side](n)
    step() if n < 8192 else None
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(ROUNDS if n < 8192 else 1):
        began = time.process_time()
        loss, gradient = step()
        seconds.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"seconds": sorted(seconds)[len(seconds) // 2], "peak_mb": peak / 1024, "start_mb": start / 1024}
    print(json.dumps(found | {"loss": loss, "gradient": gradient.tolist()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--side", choices=["ours", "theirs"])
    options = parser.parse_args()
    if options.side:
        return measure(options.side, options.sizes[0])
    print("  rows    ours s   peer s  ratio   ours MB  peer MB  difference of loss, gradient")
    for n in options.sizes:
        both = []
        for side in ("ours", "theirs"):
            python = sys.executable if side == "ours" else os.environ.get("PEER", sys.executable)
            command = [python, __file__, "--side", side, "--sizes", str(n)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            both.append(json.loads(done.stdout.splitlines()[-1]))
        a, b = both
        gradient = np.abs(np.subtract(a["gradient"], b["gradient"])).max() / np.abs(b["gradient"]).max()
        print(
            f"{n:6}  {a['seconds']:8.3f} {b['seconds']:8.3f} {a['seconds'] / b['seconds']:6.2f}  "
            f"{a['peak_mb']:8.0f} {b['peak_mb']:8.0f}  {abs(a['loss'] - b['loss']):.1e} {gradient:.1e}"
        )


if __name__ == "__main__":
    main()
