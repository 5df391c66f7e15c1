"""Networks of region extraction in Paddle's inference engine, beside dygraph and beside commit 8caa402.

    python tests/benchmarks/backbones.py [PRECISION ...]        about four CPU minutes

ResNet-50 over a picture of 224 x 224, and RoI pooling with stage 5 of the published detector over 50 proposals, which
are 14 x 14 cells whatever their size; random weights. One thread, CPU seconds of a picture (of 300 proposals, scaled),
medians; every side runs in fresh processes by turns with the MKL setting that its own tree makes. `opening` is what
tracing takes once a run: the first call less another; `gflops` is the rate of MKL's float32 products of 2048 x 2048.
Without PRECISION, all that the processor has.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

BEFORE, ROUNDS, PICTURES = "8caa402", 3, 10
NETWORKS = ("resnet50", "stage5")
PROPOSALS, SHARE = 50, 50 / 300  # two calls of stage 5
DIFFERENCE = {"float32": 1e-6, "bfloat16": 1e-2}  # of stage 5, of the largest


def seconds(call: Callable[[], np.ndarray], times: int) -> tuple[float, float, np.ndarray]:
    """CPU seconds of the first call and of a later one, and what it gives."""
    taken = []
    for _ in range(1 + times):
        started = time.process_time()
        found = call()
        taken.append(time.process_time() - started)
    return taken[0], median(taken[1:]), found


def worker(side: str, folder: Path) -> None:
    """Prints CPU seconds a picture of both networks; writes what they give."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle
    from products import product_rate

    from unimo.models.vision import ResNet50

    if side == BEFORE:
        from unimo.models.detector import FasterRCNN, FasterRCNNConfig
    else:
        from data_prep.regions.backbone import Backbone
        from unimo.models.faster_rcnn import FasterRCNN, FasterRCNNConfig

    paddle.seed(0)
    resnet, network = ResNet50(), FasterRCNN(FasterRCNNConfig())
    for model in (resnet, network):
        model.eval()
        for name, parameter in model.named_parameters():
            if name.endswith("expand.norm.weight"):
                parameter.set_value(0.1 * parameter)  # else values grow from block to block
    rng = np.random.default_rng(0)
    pixels = paddle.to_tensor(rng.uniform(-120, 150, [1, 3, 224, 224]).astype(np.float32))
    feature_map = paddle.to_tensor(rng.random([1, 1024, 38, 50], np.float32))
    corners = np.sort(rng.random([PROPOSALS, 2, 2], np.float32), axis=1).reshape(-1, 4)
    boxes, more = paddle.to_tensor(corners * np.float32([800, 600, 800, 600])), ()
    read = resnet
    if side in DIFFERENCE:
        read = Backbone(resnet, [1, 3, 224, 224], side)
        more = (Backbone(network.res5, network.pooled_shape, side),)
    with paddle.no_grad():
        first, resnet_s, cells = seconds(lambda: read(pixels).numpy(), PICTURES)
        first5, stage5_s, features = seconds(lambda: network.pool(feature_map, boxes, *more).numpy(), 2)
    np.savez(folder / side, resnet50=cells, stage5=features)
    figures = {"resnet50": resnet_s, "stage5": stage5_s / SHARE, "gflops": product_rate()}
    print(json.dumps(figures | {"opening_resnet50": first - resnet_s, "opening_stage5": first5 - stage5_s}))


def main(precisions: list[str]) -> int:
    from side_by_side import alternate, earlier_tree, print_machine, verdict

    from unimo.config import ROOT
    from unimo.hardware import has_bfloat16, use_fast_gemm

    sides = ["dygraph", *(precisions or ["float32"] + ["bfloat16"] * has_bfloat16())]
    use_fast_gemm()
    print_machine(threads=1, versions={"paddle": version("paddlepaddle")})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trees = dict.fromkeys(sides, ROOT) | {BEFORE: earlier_tree(BEFORE, folder / "before")}
        os.environ.pop("MKL_DEBUG_CPU_TYPE", None)  # each tree makes its own
        paths = {side: f"PYTHONPATH={tree / 'src'}{os.pathsep}{tree}" for side, tree in trees.items()}
        ways = {side: ["env", path, sys.executable, __file__, "worker", side, name] for side, path in paths.items()}
        figures = alternate(ways, rounds=ROUNDS)
        found = {side: dict(np.load(folder / f"{side}.npz")) for side in ways}
    differences = {
        (side, key): float(np.abs(found[side][key] - plain).max() / np.abs(plain).max())
        for side in sides
        for key, plain in found[BEFORE].items()
    }
    return verdict(targets(figures, differences))


def targets(figures: dict[str, dict[str, list[float]]], differences: dict[tuple[str, str], float]) -> list:
    """Prints what each side gains over BEFORE, and gives what is claimed of this processor."""
    from side_by_side import Target, ratio

    from unimo.hardware import has_avx512

    what, made = "{}: pictures a CPU second, {} / {}", []
    bounds = {("resnet50", "float32"): 3.0, ("stage5", "float32"): 1.8} if has_avx512() else {}
    bounds["stage5", "bfloat16"] = 3.0
    for side in [name for name in figures if name != BEFORE]:
        for key in NETWORKS:
            gain, differs = ratio(figures, key, BEFORE, side), differences[side, key]
            opening = median(figures[side][f"opening_{key}"])
            print(f"{key}, {side}: {gain:.2f} of {BEFORE}, difference {differs:.1e}, opening {opening:.2g} s")
            if side == "float32":
                made.append(Target(what.format(key, side, "dygraph"), ratio(figures, key, "dygraph", side), 1))
            if (key, side) in bounds:
                made.append(Target(what.format(key, side, BEFORE), gain, bounds[key, side]))
            if key == "stage5" and side in DIFFERENCE:
                made.append(Target(f"{key}, {side}: difference", differs, DIFFERENCE[side], at_least=False))
    return made


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(worker(given[1], Path(given[2])) if given[:1] == ["worker"] else main(given))
