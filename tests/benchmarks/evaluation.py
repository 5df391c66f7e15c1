"""Match scores of a retrieval evaluation: this tree's runtimes beside `score_matrix` of commit 8caa402.

    python tests/benchmarks/evaluation.py [LAYERS]        about nine CPU minutes, 400 MB in the temporary folder

A random UNIMO of base size (12 layers unless given), 4 captions of 12 tokens with 83 pictures of 36 regions and the
image slot, float32, one thread: pairs a CPU second, without the first pass, and so without tracing and encoding. Every
side runs in fresh processes by turns with the MKL setting that its own tree makes; bfloat16 where the processor has it.
Then a shortlist: 500 captions with 100 pictures at 384 x 2, in full and with 7 pictures a caption (64 of 1,000).
"""

import json
import os
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

BEFORE = "8caa402"
TOKENS, SLOTS, ROUNDS = 12, 37, 2
CAPTIONS, PICTURES = 4, 83  # two passes of 8,192 positions


def random_streams(captions: int, pictures: int, vocabulary: int) -> tuple[list, list]:
    """The same on both trees."""
    import paddle

    from unimo.models.unimo import Regions, Text

    rng = np.random.default_rng(0)
    positions, words, slots = np.arange(2, TOKENS + 2)[None], np.ones([1, TOKENS]), np.ones([1, SLOTS])
    ids = [rng.integers(4, vocabulary, [1, TOKENS]) for _ in range(captions)]
    seen = [(rng.standard_normal([1, SLOTS, 2048]), rng.random([1, SLOTS, 5])) for _ in range(pictures)]
    floats = [[paddle.to_tensor(a, dtype="float32") for a in (words, slots, *arrays)] for arrays in seen]
    texts = [Text(paddle.to_tensor(i), paddle.to_tensor(positions), floats[0][0]) for i in ids]
    return texts, [Regions(features, boxes, mask) for _, mask, features, boxes in floats]


def worker(side: str, layers: int, folder: Path) -> None:
    """Prints pairs a CPU second after the first pass, and the CPU seconds until its end; writes the scores."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.evaluate.scoring import score_matrix
    from unimo.models.unimo import Unimo, UnimoConfig

    paddle.seed(0)
    model = Unimo(UnimoConfig(num_hidden_layers=layers), ("pool", "match"))
    streams, passes = random_streams(CAPTIONS, PICTURES, 50265), []
    options = {"inference": {"runtime": "inference"}}
    options["bfloat16"] = options["inference"] | {"precision": "bfloat16"}
    started = time.process_time()
    scores = score_matrix(
        model, *streams, progress=lambda pairs: passes.append((pairs, time.process_time())), **options.get(side, {})
    )
    np.save(folder / f"{side}.npy", scores)
    pairs = sum(count for count, _ in passes[1:])
    print(json.dumps({"pairs": pairs / (passes[-1][1] - passes[0][1]), "first": passes[0][1] - started}))


def shortlist_worker(pictures: int) -> None:
    """Prints CPU seconds of a matrix of 100 x 500 at 384 x 2, and the share of its pairs that are scored."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.engine.distributed import World
    from unimo.evaluate.scoring import score_matrix
    from unimo.evaluate.shortlist import Shortlist, alone_scores
    from unimo.models.unimo import Unimo, UnimoConfig

    paddle.seed(0)
    size = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "vocab_size": 30000}
    model = Unimo(UnimoConfig(**size), ("pool", "match"))
    streams = random_streams(500, 100, 30000)
    started, chosen = time.process_time(), None
    if pictures:
        chosen = Shortlist.of(alone_scores(model, *streams, World()), pictures).chosen
    alone = time.process_time() - started
    score_matrix(model, *streams, runtime="inference", wanted=chosen)
    seconds = {"seconds": time.process_time() - started, "alone": alone}
    print(json.dumps(seconds | {"share": 1.0 if chosen is None else float(chosen.mean())}))


def main(layers: int) -> int:
    from side_by_side import Target, alternate, earlier_tree, print_machine, ratio, verdict

    from unimo.config import ROOT
    from unimo.hardware import has_bfloat16, use_fast_gemm

    use_fast_gemm()
    print_machine(threads=1, versions={"paddle": version("paddlepaddle"), "layers": str(layers)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = earlier_tree(BEFORE, folder / "before")
        del os.environ["MKL_DEBUG_CPU_TYPE"]  # each tree makes its own
        sides = ["dygraph", "inference"] + ["bfloat16"] * has_bfloat16()
        ways = {side: ["env", f"PYTHONPATH={ROOT / 'src'}", sys.executable, __file__, side] for side in sides}
        ways[BEFORE] = ["env", f"PYTHONPATH={before / 'src'}", sys.executable, __file__, BEFORE]
        figures = alternate({side: [*way, str(layers), name] for side, way in ways.items()}, rounds=ROUNDS)
        scores = {side: np.load(folder / f"{side}.npy") for side in ways}
    for side in sides:
        differs = np.abs(scores[side] - scores[BEFORE]).max()
        print(f"{side}: largest difference of a score {differs:.1e}, range {np.ptp(scores[BEFORE]):.2g}")
    what = "pairs a CPU second, {} / " + BEFORE
    targets = [Target(what.format("inference"), ratio(figures, "pairs", "inference", BEFORE), 2.0)]
    for side in [*sides, BEFORE]:
        print(f"{what.format(side)}: {median(figures[side]['pairs']):.3g}, {ratio(figures, 'pairs', side, BEFORE):.2f}")

    ways = {f"shortlist {k}": [sys.executable, __file__, "shortlist", str(k)] for k in (0, 7)}
    figures = alternate(ways, rounds=1)
    targets.append(
        Target("100 x 500, all / shortlist 7", 1 / ratio(figures, "seconds", "shortlist 7", "shortlist 0"), 4)
    )
    return verdict(targets)


if __name__ == "__main__":
    if sys.argv[1:2] == ["shortlist"]:
        shortlist_worker(int(sys.argv[2]))
    elif len(sys.argv) > 2:
        worker(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
