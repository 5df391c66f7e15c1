"""Pair scores of UNIMO-2's retrieval: towers once an item, beside a whole forward pass for each pair as in the release.

    python tests/benchmarks/evaluation_unimo2.py [LAYERS]        about two CPU minutes

A random UNIMO-2 of base width (4 layers of each stack unless given; 196 patches, 100 of 2,048 codes), 6 captions of 16
tokens with 6 pictures, no pads, float32, one thread: CPU seconds of the 36 pairs, in fresh processes by turns. The two
must rank alike and differ by less than 1e-4 of the range of the scores.
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

TOKENS, ITEMS, BATCH, ROUNDS = 16, 6, 12, 3


def worker(side: str, layers: int, folder: Path) -> None:
    """Prints the CPU seconds of all pairs; writes the scores."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.evaluate.scoring import score_matrix
    from unimo.models.streams import Pixels, Text
    from unimo.models.unimo2 import CONTRAST_WEIGHT, Unimo2, Unimo2Config

    paddle.seed(0)
    stacks = {f"{name}num_hidden_layers": layers for name in ("", "text_", "vit_")}
    model = Unimo2(Unimo2Config(**stacks, initializer_range=0.05), ("pool", "match", "cmcl"))
    model.eval()
    rng = np.random.default_rng(0)
    ids, positions = rng.integers(4, 50265, [ITEMS, TOKENS]), np.arange(2, 2 + TOKENS)[None]
    seen = rng.standard_normal([ITEMS, 3, 224, 224]).astype("float32")

    @paddle.no_grad()
    def whole() -> np.ndarray:
        """Every pair through all three stacks, as the release's evaluation runs them."""
        rows, columns = (side.ravel() for side in np.indices([ITEMS, ITEMS]))
        found = []
        for part in np.array_split(np.arange(len(rows)), len(rows) // BATCH):
            tiled = np.tile(positions, [len(part), 1])
            text = Text(*map(paddle.to_tensor, (ids[rows[part]], tiled, np.ones(tiled.shape, "float32"))))
            encoded = model(text, Pixels(paddle.to_tensor(seen[columns[part]])))
            score = model.match_logits(encoded)[:, 1] + CONTRAST_WEIGHT * model.contrast_score(encoded).squeeze(1)
            found.append(score.numpy())
        return np.concatenate(found).reshape(ITEMS, ITEMS)

    mask = paddle.ones([1, TOKENS])
    texts = [Text(paddle.to_tensor(one[None]), paddle.to_tensor(positions), mask) for one in ids]
    pictures = [Pixels(paddle.to_tensor(one[None])) for one in seen]
    run = {"whole": whole, "ours": lambda: score_matrix(model, texts, pictures, batch_positions=BATCH * 313)}[side]
    model(texts[0], pictures[0])  # the first product of a process starts threads and takes memory
    start = time.process_time()
    scores = run()
    print(json.dumps({"seconds": time.process_time() - start}))
    np.save(folder / f"{side}.npy", scores)


def main(layers: int) -> int:
    from side_by_side import Target, alternate, print_machine, ratio, verdict

    from unimo.hardware import use_fast_gemm

    use_fast_gemm()
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # Paddle's, about a missing ccache
    print_machine(threads=1, versions={"paddle": version("paddlepaddle")})
    with tempfile.TemporaryDirectory() as folder:
        workers = {side: [sys.executable, __file__, side, str(layers), folder] for side in ("whole", "ours")}
        found = alternate(workers, rounds=ROUNDS)
        scores = {side: np.load(Path(folder) / f"{side}.npy") for side in workers}
    for side, figures in found.items():
        print(f"{side:6s} {median(figures['seconds']):.1f} CPU s for {ITEMS * ITEMS} pairs")
    apart = np.abs(scores["whole"] - scores["ours"]).max() / np.ptp(scores["whole"])
    alike = all(
        (np.argsort(scores["whole"], axis=axis) == np.argsort(scores["ours"], axis=axis)).all() for axis in (0, 1)
    )
    print(f"largest difference {apart:.1e} of the range of the scores, {'the same' if alike else 'ANOTHER'} ranking")
    share = ratio(found, "seconds", "ours", "whole")
    return verdict(
        [
            Target("CPU time, ours / a whole pass a pair", share, 1 / 1.6, at_least=False),
            Target("difference", apart, 1e-4, at_least=False),
            Target("queries ranked alike", float(alike), 1),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) == 2 else 4))
    worker(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
