"""Forward and backward pass of CMCL and of retrieval fine-tuning, in calls cut by cost beside the calls of before.

    python tests/benchmarks/pads.py        about ten CPU minutes, 200 MB in the folder for temporary files

Both sides see the same batches with the same kernels, without dropout, on one thread: pictures of 10 to 100 regions (36
on average), captions of 6 to 30 words, the contrast of model_configs/pretrain/unimo_base.yaml under a budget of 8,192
positions, and the 4 x 21 pairings a device of model_configs/finetune/flickr30k_base.yaml. Before, candidates of CMCL
went by the length of their captions in steps of 8 with all pictures padded to the longest, and all pairings of
fine-tuning in one call. Losses must agree to 1e-6.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from made_pairs import FEATURES, write_pairs
from side_by_side import Target, alternate, print_machine, ratio, verdict

from unimo.config import ROOT, load, read
from unimo.hardware import keep_freed_memory, use_fast_gemm

BUDGET, LAYERS = 8192, 4
BATCHES = {256: 6, 768: 2}  # measured, of each width
GRAIN = 8  # tokens


def by_caption_length(
    slots: np.ndarray, tokens: np.ndarray, budget: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The calls of CMCL before: captions by length in steps of GRAIN, pictures all as long as the longest."""
    order = np.argsort(tokens, kind="stable")
    _, first, counts = np.unique(-(-tokens[order] // GRAIN), return_index=True, return_counts=True)
    longest = [tokens[order][f : f + n].max() for f, n in zip(first, counts)]
    return order, np.stack([counts, np.full(len(counts), slots.max()), longest], axis=1)


def one_call(slots: np.ndarray, tokens: np.ndarray, budget: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The one call of fine-tuning before."""
    return np.arange(len(slots)), np.array([[len(slots), slots.max(), tokens.max()]])


def worker(job: str, way: str, hidden: int, folder: Path) -> None:
    """Prints CPU seconds of forward and backward passes, mean loss, share of pads, and the most positions of a call."""
    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.finetune import retrieval
    from unimo.models.unimo import Unimo, UnimoConfig
    from unimo.pretrain import unimo_streams
    from unimo.pretrain.recipe import Contrast, Masking
    from unimo.pretrain.unimo import UnimoPretraining
    from unimo.readers.annotations import read_pairs, read_rewrites
    from unimo.readers.batching import Stream
    from unimo.readers.images import open_regions
    from unimo.readers.tokenizer import load_tokenizer

    if way == "before":
        unimo_streams.group_by_cost, retrieval.group_by_cost = by_caption_length, one_call
    paddle.seed(0)
    tokenizer = load_tokenizer(ROOT / "model_files" / "dict")
    size = {"hidden_size": hidden, "num_hidden_layers": LAYERS, "num_attention_heads": hidden // 64}
    config = UnimoConfig(vocab_size=tokenizer.vocab_size, image_embedding_size=FEATURES, **size)
    model = Unimo(config, heads=("pool", "match"))
    if job == "pretrain":
        recipe = read(ROOT / "model_configs" / "pretrain" / "unimo_base.yaml")
        contrast = Contrast(**recipe["contrast"])
        pairs = read_pairs(folder / "pairs.jsonl")
        rewrites = read_rewrites(folder / "rewrites.jsonl", pairs)
        images = open_regions((str(folder / "regions"),), config, 100)
        arguments = (pairs, rewrites, images, tokenizer, Masking(**recipe["masking"]), contrast, 512, BUDGET)
        stream = Stream(unimo_streams.PairStream(*arguments), BUDGET, seed=1)
        task = UnimoPretraining(model, {"cmcl": 1.0}, contrast.temperature)
        calls_of = lambda inputs: inputs["pairings"]["calls"]  # noqa: E731
    else:
        given = [f"pairs={folder / 'pairs.jsonl'}", f"regions={folder / 'regions'}"]
        settings = load(retrieval.RetrievalRecipe, ROOT / "model_configs" / "finetune" / "flickr30k_base.yaml", given)
        source, task = retrieval.RetrievalStream(settings, config, tokenizer), retrieval.RetrievalTask(model, settings)
        stream = Stream(source, 4, seed=1, multiple=1)
        calls_of = lambda inputs: inputs["calls"]  # noqa: E731
    task.eval()  # no dropout
    seconds, losses, padded, most = 0.0, [], 0, 0
    for number in range(1 + BATCHES[hidden]):
        batch = stream.next()
        calls = calls_of(batch.inputs)
        started = time.process_time()
        ((name, loss),) = task(batch).items()
        loss.backward()
        task.clear_gradients()
        if number:  # the first warms up
            seconds += time.process_time() - started
            losses.append(loss.item() / task.items(batch)[name])
            sizes = calls[:, 0] * calls[:, 1:].sum(axis=1)
            padded, most = padded + int(sizes.sum()), max(most, int(sizes.max()))
    print(json.dumps({"cpu_seconds": seconds, "loss": float(np.mean(losses)), "positions": padded, "most": most}))


def main() -> int:
    import paddle

    print_machine(threads=1, versions={"paddle": paddle.__version__})
    targets = []
    with tempfile.TemporaryDirectory() as name:
        write_pairs(Path(name))
        for job, hidden, bound in (("pretrain", 256, 1.2), ("pretrain", 768, 1.25), ("finetune", 768, 1.7)):
            ways = {way: [sys.executable, __file__, job, way, str(hidden), name] for way in ("before", "calls")}
            figures = alternate(ways, rounds=3)
            (before, now), what = (figures[way] for way in ways), f"{job} {hidden} x {LAYERS}"
            targets.append(
                Target(f"{what}: CPU seconds before / now", 1 / ratio(figures, "cpu_seconds", "calls", "before"), bound)
            )
            differs = abs(now["loss"][0] / before["loss"][0] - 1)
            targets.append(Target(f"{what}: difference of the loss", differs, 1e-6, at_least=False))
            if job == "pretrain":
                targets.append(Target(f"{what}: most positions of a call / budget", now["most"][0] / BUDGET, 1, False))
    return verdict(targets)


if __name__ == "__main__":
    sys.exit(worker(*sys.argv[1:3], int(sys.argv[3]), Path(sys.argv[4])) if len(sys.argv) > 1 else main())
