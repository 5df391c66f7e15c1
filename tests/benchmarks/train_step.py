"""CPU speed of a UNIMO training step: length buckets, padding, and Hugging Face's BERT on the same sequences.

    python tests/benchmarks/train_step.py

Pairs of 10 to 100 regions (and the image slot) and 10 to 34 text tokens through 4 layers: forward pass, backward pass
and AdamW step of a match loss, float32, dropout 0.1, vocabulary of 50,265, one thread, CPU seconds. Both sides see the
same pairs: an even sample of the batches that our reader makes of 2,048 pairs, about 16 pairs each. `padded` is 16
random pairs a batch, padded to 101 regions and 100 tokens as the release pads them; `random` is the same 16 padded to
the batch's longest. BERT (sdpa attention, fused AdamW) takes region projections and word vectors as `inputs_embeds`.
The pre-training step with all its objectives is measured by `pretrain_step.py`.

Ends with the time of each operator beside Paddle's own and torch's (`operators.py`): which of them cost the rest.
Takes about 7 CPU minutes.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

PEER = ("torch==2.13.0", "transformers==5.23.0", "numpy==2.2.6")
PAIRS, MEASURED, BATCH, LAYERS, VOCABULARY, FEATURES = 2048, 96, 16, 4, 50265, 2048
REGIONS, TOKENS, PADDED = (10, 100), (10, 34), (101, 100)
ROUNDS = 3
Lengths = list[list[int]]  # one batch: regions (with the image slot) and tokens of each pair


def plan() -> dict[str, list[Lengths]]:
    """Lengths of the pairs of each batch, bucketed by our reader and in random order."""
    from unimo.readers.batching import plan_epoch

    rng = np.random.default_rng(0)
    lengths = np.stack([rng.integers(low, high + 1, PAIRS) for low, high in (REGIONS, TOKENS)], axis=1)
    lengths[:, 0] += 1
    batches = plan_epoch(lengths, budget=1792, rng=rng)  # of this budget, batches hold 16 pairs on average
    batches.sort(key=lambda batch: lengths[batch].max(axis=0).sum())
    every = round(len(batches) * BATCH / MEASURED)
    chosen = batches[every // 2 :: every]
    pairs = rng.permutation(np.concatenate(chosen))
    shuffled = [pairs[i : i + BATCH] for i in range(0, len(pairs), BATCH)]
    return {name: [lengths[b].tolist() for b in kind] for name, kind in (("bucketed", chosen), ("random", shuffled))}


def arrays(batch: Lengths, padded: bool) -> dict[str, np.ndarray]:
    """One batch; masks are 1 on real positions."""
    n, (regions, tokens) = len(batch), PADDED if padded else np.max(batch, axis=0)
    rng = np.random.default_rng(np.array(batch).ravel())
    return {
        "ids": rng.integers(4, VOCABULARY, [n, tokens]),
        "positions": np.tile(np.arange(2, 2 + tokens), [n, 1]),
        "text_mask": (np.arange(tokens) < np.array(batch)[:, 1:]).astype("float32"),
        "features": rng.standard_normal([n, regions, FEATURES], "float32"),
        "boxes": rng.random([n, regions, 5], "float32"),
        "region_mask": (np.arange(regions) < np.array(batch)[:, :1]).astype("float32"),
        "labels": rng.integers(0, 2, [n, 1]).astype("float32"),
    }


def our_model(hidden: int) -> tuple[Callable, Callable]:
    """Our model's loss of a batch, and the update after its backward pass."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle
    import paddle.nn.functional as F

    from unimo.engine.adamw import AdamW
    from unimo.models.unimo import Regions, Text, Unimo, UnimoConfig

    paddle.seed(0)
    size = {"hidden_size": hidden, "num_hidden_layers": LAYERS, "num_attention_heads": hidden // 64}
    model = Unimo(UnimoConfig(vocab_size=VOCABULARY, **size), heads=("pool", "match"))
    model.train()
    optimizer = AdamW(1e-4, parameters=model.parameters())

    def loss(batch: dict[str, np.ndarray]) -> paddle.Tensor:
        t = {name: paddle.to_tensor(value) for name, value in batch.items()}
        text = Text(t["ids"], t["positions"], t["text_mask"])
        encoded = model(text=text, regions=Regions(t["features"], t["boxes"], t["region_mask"]))
        return F.binary_cross_entropy_with_logits(model.match_score(encoded), t["labels"])

    def update() -> None:
        optimizer.step()
        optimizer.clear_grad()

    return loss, update


def bert_model(hidden: int) -> tuple[Callable, Callable]:
    """The same for Hugging Face's BERT under our two region projections and a match layer."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = {"hidden_size": hidden, "num_hidden_layers": LAYERS, "num_attention_heads": hidden // 64}
    config = BertConfig(
        vocab_size=VOCABULARY, intermediate_size=4 * hidden, attn_implementation="sdpa", hidden_act="gelu", **size
    )
    model = torch.nn.ModuleDict(
        {
            "bert": BertModel(config),
            "image": torch.nn.Linear(FEATURES, hidden),
            "box": torch.nn.Linear(5, hidden),
            "match": torch.nn.Linear(hidden, 1),
        }
    )
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def loss(batch: dict[str, np.ndarray]) -> torch.Tensor:
        t = {name: torch.from_numpy(value) for name, value in batch.items()}
        regions = model["image"](t["features"]) + model["box"](t["boxes"])
        words = model["bert"].embeddings.word_embeddings(t["ids"])
        output = model["bert"](
            inputs_embeds=torch.cat([regions, words], dim=1),
            attention_mask=torch.cat([t["region_mask"], t["text_mask"]], dim=1),
        )
        scores = model["match"](output.pooler_output)
        return torch.nn.functional.binary_cross_entropy_with_logits(scores, t["labels"])

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return loss, update


def work(side: str, hidden: int, batching: str, batches: list[Lengths]) -> dict[str, float]:
    """Steps over all batches after two to warm up: CPU seconds, and the most memory that the process held."""
    loss, update = {"unimo": our_model, "bert": bert_model}[side](hidden)
    filled = [arrays(batch, batching == "padded") for batch in batches]
    seconds = np.zeros(3)
    for number, batch in enumerate(filled[:2] + filled):
        marks = [time.process_time()]
        value = loss(batch)
        marks.append(time.process_time())
        value.backward()
        marks.append(time.process_time())
        update()
        marks.append(time.process_time())
        seconds += np.diff(marks) * (number >= 2)
    if not np.isfinite(value.item()):
        sys.exit(f"the last loss is {value.item()}")
    positions = sum(batch["text_mask"].size + batch["region_mask"].size for batch in filled)
    found = dict(zip(("forward_ms", "backward_ms", "update_ms"), 1000 * seconds / len(filled), strict=True))
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pairs = sum(map(len, batches))
    return {"pairs_per_cpu_s": pairs / seconds.sum(), "pad_share": 1 - np.sum(sum(batches, [])) / positions} | found


def main() -> int:
    sys.path.append(str(Path(__file__).parents[1] / "parity" / "libraries"))
    import operators
    from environments import environment
    from side_by_side import Target, alternate, print_machine, ratio, verdict, wide_amd

    from unimo.hardware import use_fast_gemm

    use_fast_gemm()
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # Paddle's, about a missing ccache
    peer, ours = environment(PEER), sys.executable
    print_machine(threads=1, versions={"paddle": version("paddlepaddle"), "peer": " ".join(PEER)})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        file.write_text(json.dumps(plan()))

        def worker(side: str, hidden: int, batching: str) -> list[str | Path]:
            return [peer if side == "bert" else ours, __file__, side, str(hidden), batching, file]

        small = alternate(
            {
                "unimo bucketed": worker("unimo", 256, "bucketed"),
                "unimo padded": worker("unimo", 256, "padded"),
                "bert random": worker("bert", 256, "random"),
                "bert bucketed": worker("bert", 256, "bucketed"),
            },
            rounds=ROUNDS,
        )
        base = alternate(
            {
                "unimo bucketed": worker("unimo", 768, "bucketed"),
                "bert bucketed": worker("bert", 768, "bucketed"),
            },
            rounds=ROUNDS,
        )
    for hidden, figures in ((256, small), (768, base)):
        for name, found in figures.items():
            print(f"{hidden} x {LAYERS}  {name:15s}" + "".join(f"  {k} {median(v):.3g}" for k, v in found.items()))
    for hidden in (256, 768):
        operators.print_table(hidden, peer)
    rate, equal = "pairs_per_cpu_s", 1.5 if wide_amd() else 1.0
    print(f"unimo / bert at 256 x 4, identical batches: {ratio(small, rate, 'unimo bucketed', 'bert bucketed'):.3g}")
    return verdict(
        [
            Target("256 x 4, our buckets / our padding", ratio(small, rate, "unimo bucketed", "unimo padded"), 2.2),
            Target("256 x 4, our buckets / BERT, random", ratio(small, rate, "unimo bucketed", "bert random"), 1.0),
            Target(
                "768 x 4, identical batches, ours / BERT", ratio(base, rate, "unimo bucketed", "bert bucketed"), equal
            ),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    side, hidden, batching, file = sys.argv[1:]
    batches = json.loads(Path(file).read_text())["bucketed" if batching == "bucketed" else "random"]
    print(json.dumps(work(side, int(hidden), batching, batches)))
