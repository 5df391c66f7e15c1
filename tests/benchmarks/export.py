"""CPU speed of exported parts in Paddle's inference engine with oneDNN, beside the model in dygraph.

    python tests/benchmarks/export.py [LAYERS]

A random base model (12 layers unless given), float32, on one thread and on all cores; the dygraph side has the MKL
setting that the command `unimo` makes. `text_encoder`: 8 texts of 128 tokens. `match_score`: 8 pairs of the image slot,
36 regions and 32 tokens. `decode_step`: one token for 8 texts after 100 cached positions. Rounds alternate between the
sides, in fresh processes; a round's figure is the least time of a call: CPU time on one thread, by the clock on
several, which wants an otherwise idle machine. Takes about 2 GiB in the temporary folder and ten minutes.
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

PARTS = {
    "text_encoder": {"batch": 8, "tokens": 128},
    "match_score": {"batch": 8, "tokens": 32, "regions": 37},
    "decode_step": {"batch": 8, "cached": 100, "new": 1},
}
SECONDS, ROUNDS = 5, 3  # time of the calls measured in a round


def write(folder: Path, layers: int) -> None:
    """A random model and its export."""
    import paddle

    from unimo.engine.model_folder import write_model
    from unimo.export.inference_graphs import export
    from unimo.models.unimo import Unimo, UnimoConfig
    from unimo.readers.tokenizer import SPECIALS, load_tokenizer

    (folder / "vocabulary").mkdir()
    (folder / "vocabulary" / "vocab.txt").write_text("\n".join(SPECIALS))
    paddle.seed(0)
    model = Unimo(UnimoConfig(num_hidden_layers=layers), ("pool", "match", "lm"))
    write_model(folder / "model", model, load_tokenizer(folder / "vocabulary"))
    for line in export(folder / "model", folder / "export", list(PARTS)):
        print(line, flush=True)


def measure(call: Callable[[], object]) -> float:
    """The least milliseconds of a call, after one that warms up."""
    clock = time.process_time if os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter
    call()
    found, end = [], clock() + SECONDS
    while clock() < end:
        started = clock()
        call()
        found.append(clock() - started)
    return 1000 * min(found)


def worker(side: str, folder: Path) -> None:
    """Every part on one side; prints milliseconds by part."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.engine.model_folder import read_model
    from unimo.export import inference_graphs, runner, unimo_parts

    model, _ = read_model(folder / "model")
    model.eval()
    figures = {}
    for name, lengths in PARTS.items():
        arrays = inference_graphs.random_inputs(unimo_parts.PARTS[name], model.config, lengths, seed=0)
        given = {key: paddle.to_tensor(np.ones_like(a) if key.endswith("mask") else a) for key, a in arrays.items()}
        if side == "dygraph":
            run = paddle.no_grad()(lambda given, name=name: unimo_parts.PARTS[name].compute(model, given))
        else:
            run = runner.open_part(folder / "export", name)
        figures[name] = measure(lambda run=run, given=given: run(given))
    print(json.dumps(figures))


def main(layers: int) -> int:
    from side_by_side import Target, alternate, print_machine, verdict

    from unimo.hardware import use_fast_gemm

    use_fast_gemm()
    targets = []
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), layers)
        workers = {side: [sys.executable, __file__, side, name] for side in ("dygraph", "oneDNN")}
        for threads in dict.fromkeys((1, os.cpu_count())):
            print_machine(threads=threads, versions={"paddle": version("paddlepaddle"), "layers": str(layers)})
            figures = alternate(workers, threads, ROUNDS)
            for part in PARTS:
                slow, fast = figures["dygraph"][part], figures["oneDNN"][part]
                least = f"{min(slow):.4g} / {min(fast):.4g} ms = {min(slow) / min(fast):.3g}"
                print(f"{part:13s} {threads} thread(s), least: dygraph / oneDNN {least}")
                what = f"{part}, {threads} thread(s), dygraph / oneDNN"
                targets.append(Target(what, median(slow) / median(fast), 1.3))
    return verdict(targets)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        worker(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 12))
