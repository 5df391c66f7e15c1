"""Pair scores of UNIMO's retrieval over pictures of 10 to 100 regions, beside the release's way, which pads them all.

    python tests/benchmarks/evaluation_boxes.py [LAYERS]        about eight CPU minutes

A random UNIMO of base size (12 layers unless given), 20 captions of Flickr30k-like lengths (9 to 22 tokens with [CLS]
and [SEP], 15 on average, four of each length) with 12 pictures of 10 to 100 regions (drawn evenly, 50.5 on average) and
the image slot, float32, one thread: CPU seconds of the 240 pairs, in fresh processes by turns. The peer does as the
release: pictures padded to 100 regions, 128 pairs a pass, caption by caption, each pair through embedding and all
layers; its batches are padded before the clock starts. `score_matrix` is measured in dygraph, which `--runtime auto`
takes for so few pairs, and in the inference engine, whose tracing is printed apart and which pays for every new shape.
All must rank alike, pictures for each caption and captions for each picture, and differ by less than 1e-4 of the range
of the scores.
"""

import json
import os
import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

LENGTHS, EACH = (9, 12, 14, 17, 22), 4  # tokens: close to five quantiles of a gamma distribution of mean 15
PICTURES, REGIONS, SEED = 12, (10, 100), 316
BATCH, ROUNDS = 128, 3  # BATCH: pairs, test_batch_size of the release's script


def items() -> tuple[list[tuple[np.ndarray, ...]], list[tuple[np.ndarray, ...]]]:
    """Captions (ids, positions) and pictures (features, boxes), without padding; [1, ...] each."""
    rng = np.random.default_rng(SEED)
    slots = rng.integers(REGIONS[0], REGIONS[1] + 1, PICTURES) + 1  # the image slot
    texts = [(rng.integers(4, 50265, [1, n]), np.arange(2, 2 + n)[None]) for n in LENGTHS * EACH]
    size = lambda n, width: rng.standard_normal([1, n, width], dtype=np.float32)  # noqa: E731
    return texts, [(size(n, 2048), np.abs(size(n, 5))) for n in slots]


def padded(arrays: list[tuple[np.ndarray, ...]], size: int) -> tuple[Any, ...]:
    """Items as tensors of one batch of `size` positions, and their mask. [n, size, ...]"""
    import paddle

    mask = np.stack([np.arange(size) < part[0].shape[1] for part in arrays]).astype(np.float32)
    wide = lambda x: np.pad(x, [(0, 0), (0, size - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])  # noqa: E731
    columns = [np.concatenate([wide(x) for x in column]) for column in zip(*arrays, strict=True)]
    return tuple(map(paddle.to_tensor, (*columns, mask)))


def worker(side: str, layers: int, folder: Path) -> None:
    """Prints the CPU seconds of all pairs, those of tracing, and the peak memory in GiB; writes the scores."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.evaluate.scoring import score_matrix
    from unimo.models.streams import Regions, Text
    from unimo.models.unimo import Unimo, UnimoConfig

    paddle.seed(0)
    model = Unimo(UnimoConfig(num_hidden_layers=layers), ("pool", "match"))
    model.eval()
    captions, pictures = items()
    rows, columns = (side.ravel() for side in np.indices([len(captions), PICTURES]))
    texts, seen = ([padded([one], one[0].shape[1]) for one in arrays] for arrays in (captions, pictures))
    texts, seen = [Text(*one) for one in texts], [Regions(*one) for one in seen]
    batches = [
        (
            padded(texts_of, max(ids.shape[1] for ids, _ in texts_of)),
            padded([pictures[column] for column in columns[part]], REGIONS[1] + 1),
        )
        for part in np.split(np.arange(len(rows)), range(BATCH, len(rows), BATCH))
        if (texts_of := [captions[row] for row in rows[part]]) and side == "release"
    ]

    @paddle.no_grad()
    def release() -> np.ndarray:
        found = [model.match_score(model(Text(*text), Regions(*regions))).numpy() for text, regions in batches]
        return np.concatenate(found).reshape(len(captions), PICTURES)

    with paddle.no_grad():
        model(texts[0], seen[0])  # the first product of a process starts threads and takes memory
    ended: list[float] = []
    told: dict[str, Any] = {"progress": lambda pairs: ended.append(time.process_time())}
    told |= {"runtime": "inference"} if side == "inference" else {}
    start = time.process_time()
    scores = release() if side == "release" else score_matrix(model, texts, seen, **told)
    seconds = time.process_time() - start
    traced = ended[0] - start if side == "inference" else 0.0  # with the first block
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB, of all that the process did
    print(json.dumps({"seconds": seconds - traced, "tracing": traced, "peak": peak}))
    np.save(folder / f"{side}.npy", scores)


def main(layers: int) -> int:
    from side_by_side import Target, alternate, print_machine, ratio, verdict

    from unimo.hardware import use_fast_gemm

    use_fast_gemm()
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # Paddle's, about a missing ccache
    print_machine(threads=1, versions={"paddle": version("paddlepaddle"), "layers": str(layers)})
    tokens, slots = (np.array([part[0].shape[1] for part in arrays]) for arrays in items())
    own, padded_to = (tokens[:, None] + slots).mean(), tokens.mean() + REGIONS[1] + 1
    print(
        f"{tokens.mean():.1f} tokens, {slots.mean() - 1:.1f} regions ({slots.min() - 1} to {slots.max() - 1}); "
        f"positions of a pair {own:.1f} without pads, {padded_to:.1f} padded: {own / padded_to:.2f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            side: [sys.executable, __file__, side, str(layers), folder] for side in ("release", "dygraph", "inference")
        }
        found = alternate(workers, rounds=ROUNDS)
        scores = {side: np.load(Path(folder) / f"{side}.npy") for side in workers}
    for side, figures in found.items():
        seconds, tracing, peak = (median(figures[key]) for key in ("seconds", "tracing", "peak"))
        print(f"{side:9s} {seconds:.1f} CPU s, tracing {tracing:.1f}, peak {peak:.1f} GiB")
    print(f"CPU time, inference / release: {ratio(found, 'seconds', 'inference', 'release'):.2f}")
    targets = [
        Target("CPU time, dygraph / release", ratio(found, "seconds", "dygraph", "release"), 1 / 1.5, at_least=False)
    ]
    for side in ("dygraph", "inference"):
        apart = np.abs(scores["release"] - scores[side]).max() / np.ptp(scores["release"])
        alike = [np.array_equal(*(np.argsort(scores[way], axis) for way in ("release", side))) for axis in (0, 1)]
        targets += [
            Target(f"difference, {side}", apart, 1e-4, at_least=False),
            Target(f"captions and pictures ranked alike, {side}", float(all(alike)), 1),
        ]
    return verdict(targets)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) == 2 else 12))
    worker(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
