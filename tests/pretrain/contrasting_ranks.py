"""Run by test_info_nce.py in several processes: each contrasts its rows, and saves loss and gradients."""

import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist

from unimo.engine.distributed import World
from unimo.pretrain.info_nce import info_nce

if __name__ == "__main__":
    *_, flag, output = sys.argv
    assert flag == "--output"
    world, folder = World(), Path(output)
    world.connect(0)
    given = np.load(folder / "rows.npz")
    mine = slice(world.rank * len(given["left"]) // world.size, (world.rank + 1) * len(given["left"]) // world.size)
    left, right = (paddle.to_tensor(given[name][mine], stop_gradient=False) for name in ("left", "right"))
    loss = info_nce(left, right, paddle.to_tensor(given["weights"][mine]), world)
    loss.backward()
    np.savez(folder / f"rank{world.rank}.npz", loss=loss.numpy(), left=left.grad.numpy(), right=right.grad.numpy())
    dist.barrier()
