"""CPU speed of a fine-tuning step on short sentences: our task beside Hugging Face's BERT, padded as its users pad.

    python tests/benchmarks/train_step_classify.py

Sentences as long as CoLA's are in tokens (log-normal, 14 on average, so that padding to 128 makes 89 % pads), two
labels, 32 a batch, 4 layers of 768, vocabulary of 50,265: forward pass, backward pass and AdamW, float32, dropout .1,
one thread, CPU seconds. Both sides see the same sentences in the same batches. `128` is BertForSequenceClassification
with its example script's default, all padded to max_seq_length; `longest` pads to the batch's longest, as ours does.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

PEER = ("torch==2.13.0", "transformers==5.23.0", "numpy==2.2.6")
BATCH, STEPS, ROUNDS, LAYERS, HIDDEN, VOCABULARY, LONGEST = 32, 6, 3, 4, 768, 50265, 128
Arrays = dict[str, np.ndarray]


def batches(width: int | None) -> list[Arrays]:
    """The same for all sides, but for how far they are padded."""
    found = []
    for seed in range(STEPS + 2):
        rng = np.random.default_rng(seed)
        lengths = np.clip(rng.lognormal(2.57, 0.38, BATCH).round().astype(int), 4, 60)
        size = width or lengths.max()
        mask = (np.arange(size) < lengths[:, None]).astype("float32")
        ids = np.where(mask > 0, rng.integers(4, VOCABULARY, [BATCH, LONGEST])[:, :size], 1)
        found.append({"ids": ids, "mask": mask, "targets": rng.integers(0, 2, BATCH)})
    return found


def ours() -> tuple[Callable, Callable]:
    """Our task's loss of a batch, and the update after its backward pass."""
    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    import paddle

    from unimo.engine.adamw import AdamW
    from unimo.engine.settings import EngineConfig
    from unimo.finetune.classify import ClassifyRecipe, ClassifyTask
    from unimo.models.unimo import Unimo, UnimoConfig
    from unimo.readers.batching import Batch

    paddle.seed(0)
    size = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HIDDEN // 64}
    model = Unimo(UnimoConfig(vocab_size=VOCABULARY, **size), ("pool", "classify"))
    engine = EngineConfig(steps=1, learning_rate=1e-4)
    task = ClassifyTask(model, ClassifyRecipe(family="classify", examples="made", labels=("no", "yes"), engine=engine))
    task.train()
    optimizer = AdamW(1e-4, parameters=model.parameters())

    def loss(batch: Arrays) -> paddle.Tensor:
        places = np.where(batch["mask"] > 0, np.arange(2, 2 + batch["ids"].shape[1]), 1)
        text = {"ids": batch["ids"], "positions": places, "mask": batch["mask"]}
        inputs = {"text": text, "targets": batch["targets"]}
        return task(Batch("classify", [""] * BATCH, inputs))["classify"] / BATCH

    def update() -> None:
        optimizer.step()
        optimizer.clear_grad()

    return loss, update


def peer() -> tuple[Callable, Callable]:
    """The same of transformers."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HIDDEN // 64}
    config = BertConfig(
        vocab_size=VOCABULARY, intermediate_size=4 * HIDDEN, attn_implementation="sdpa", num_labels=2, **size
    )
    model = BertForSequenceClassification(config)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def loss(batch: Arrays) -> torch.Tensor:
        t = {name: torch.from_numpy(value) for name, value in batch.items()}
        return model(input_ids=t["ids"], attention_mask=t["mask"], labels=t["targets"]).loss

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return loss, update


def work(side: str) -> dict[str, float]:
    """Sentences a CPU second over all batches after two to warm up, and the share of pads."""
    loss, update = ours() if side.startswith("unimo") else peer()
    made = batches(LONGEST if side.endswith("128") else None)
    for number, batch in enumerate(made):
        if number == 2:
            began = time.process_time()
        value = loss(batch)
        value.backward()
        update()
    seconds = time.process_time() - began
    if not np.isfinite(value.item()):
        sys.exit(f"the last loss is {value.item()}")
    pads = 1 - sum(b["mask"].sum() for b in made[2:]) / sum(b["mask"].size for b in made[2:])
    return {"sentences_per_cpu_s": STEPS * BATCH / seconds, "pad_share": float(pads)}


def main() -> int:
    sys.path.append(str(Path(__file__).parents[1] / "parity" / "libraries"))
    from environments import environment
    from side_by_side import Target, alternate, print_machine, ratio, verdict, wide_amd

    from unimo.hardware import use_fast_gemm

    use_fast_gemm()
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"  # Paddle's, about a missing ccache
    python, own = environment(PEER), sys.executable
    print_machine(threads=1, versions={"paddle": version("paddlepaddle"), "peer": " ".join(PEER)})
    sides = {"unimo longest": own, "bert 128": python, "bert longest": python}
    workers = {name: [which, __file__, name] for name, which in sides.items()}
    found = alternate(workers, rounds=ROUNDS)
    for name, figures in found.items():
        print(f"{HIDDEN} x {LAYERS}  {name:15s}" + "".join(f"  {k} {median(v):.3g}" for k, v in figures.items()))
    rate, equal = "sentences_per_cpu_s", 1.5 if wide_amd() else 1.0
    print(f"unimo / bert, identical padding: {ratio(found, rate, 'unimo longest', 'bert longest'):.3g}")
    habit = ratio(found, rate, "unimo longest", "bert 128")
    return verdict([Target("768 x 4, our padding / BERT padded to 128", habit, equal)])


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    print(json.dumps(work(sys.argv[1])))
