"""CPU seconds and memory of UNIMO's pre-training step, as the base recipe has it, beside the same step at 8caa402.

    python tests/benchmarks/pretrain_step.py

An update of `engine.trainer` from making the batch to AdamW: masked streams, companions, rewrites, negatives, retrieved
pictures and texts of model_configs/pretrain/unimo_base.yaml, 768 wide with 4 layers, 8,192 positions a batch, dropout
0.1, float32, one thread, vocabulary of 50,265. Pictures and captions are random (`made_pairs.py`). Each side runs its
own code with the kernels that it asks MKL for, on the same batches; that and the losses of a first step without dropout
are compared.

The share of the products' limit is what the matrix products of the step, those of pads too, would take at the rate of
one of 2048 x 2048 x 2048 in the same process, divided by what the step takes. Takes about 8 CPU minutes.
"""

import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
import zlib
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

BEFORE, LAYERS, BUDGET, STEPS, ROUNDS = "8caa402", 4, 8192, 3, 2
CLASSES, RETRIEVED, GOAL = 1601, 2, 0.6


def recipe_of(world: Path) -> dict[str, Any]:
    """The base recipe on the pairs of a folder, without the keys that 8caa402 does not know."""
    from unimo.config import ROOT, read

    base = read(ROOT / "model_configs" / "pretrain" / "unimo_base.yaml")
    kept = {key: base[key] for key in ("max_tokens", "max_regions", "masking", "contrast", "weights")}
    engine = {key: base["engine"][key] for key in ("learning_rate", "weight_decay", "beta2", "epsilon")}
    files = {"pairs": "pairs.jsonl", "rewrites": "rewrites.jsonl", "regions": "regions"}
    return kept | {
        "model": base["model"] | {"num_hidden_layers": LAYERS},
        "tokenizer": str(ROOT / base["tokenizer"]),
        "data": {name: str(world / file) for name, file in files.items()},
        "streams": {"pair": 1},
        "batch_positions": {"pair": BUDGET},
        "engine": engine | {"steps": 1000},
    }


def trainer_of(world: Path, dropout: str) -> tuple[Any, list[str]]:
    """The trainer of whichever tree this process imports, and a list to which the ids of its pairs are added."""
    from unimo.config import load
    from unimo.engine.distributed import Watchdog, World
    from unimo.engine.trainer import Trainer
    from unimo.pretrain import run
    from unimo.pretrain.recipe import PretrainRecipe
    from unimo.readers.batching import Batch, Stream
    from unimo.readers.tokenizer import load_tokenizer

    if importlib.util.find_spec("unimo.pretrain.objectives"):  # 8caa402
        from unimo.pretrain.objectives import Pretraining

        build_sources, task_of, more = run.build_sources, Pretraining, []
    else:
        from unimo.pretrain.unimo import UnimoPretraining, build_sources

        task_of, more = UnimoPretraining, [lambda: False, None]  # nobody asks to stop, nothing is written
    rates = [f"model.{name}={dropout}" for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")]
    recipe, processes, ids = load(PretrainRecipe, world / "recipe.yaml", rates), World(), []
    tokenizer = load_tokenizer(recipe.tokenizer)
    stream = Stream(build_sources(recipe, tokenizer)["pair"], BUDGET, recipe.engine.seed)

    def batches() -> list[Batch]:
        batch = stream.next()
        ids.extend(batch.ids)
        return [batch]

    task = task_of(run.build_model(recipe, tokenizer), recipe.weights, recipe.contrast.temperature)
    data, watchdog = SimpleNamespace(next=batches), Watchdog(processes, recipe.engine.hang_timeout)
    trainer = Trainer(task, data, recipe.engine, processes, watchdog, {}, None, *more)
    trainer.model = task  # as `resume` leaves it in one process
    return trainer, ids


def work(world: Path, dropout: str, steps: int) -> dict[str, float]:
    """One step to warm up and `steps` measured ones; without any, the losses of the first."""
    from products import count_products, product_rate

    from unimo.hardware import keep_freed_memory, use_fast_gemm

    use_fast_gemm()
    keep_freed_memory()
    trainer, ids = trainer_of(world, dropout)
    losses = trainer.update(0)
    warm, counted = len(ids), []
    count_products(trainer.task.model, counted)
    started = time.process_time()
    for step in range(1, 1 + steps):
        trainer.update(step)
    seconds = time.process_time() - started
    found = {"ids": zlib.crc32(" ".join(ids).encode()), "pairs": len(ids) - warm}
    found |= {"mkl_type": int(os.environ.get("MKL_DEBUG_CPU_TYPE", -1))}
    found |= {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if not steps:
        return found | {f"loss {name}": loss for name, loss in losses.items()}
    limit, rate = product_rate(), sum(counted) / seconds
    found |= {"s_a_pair": seconds / found["pairs"], "gf_a_pair": sum(counted) / found["pairs"]}
    return found | {"gf_s": rate, "limit_gf_s": limit, "share": rate / limit}


def main() -> int:
    import yaml
    from made_pairs import write_pairs
    from side_by_side import Target, alternate, earlier_tree, print_machine, ratio, verdict, wide_amd

    from unimo.config import ROOT
    from unimo.hardware import use_fast_gemm

    use_fast_gemm()
    print_machine(threads=1, versions={"paddle": version("paddlepaddle")})
    os.environ.pop("MKL_DEBUG_CPU_TYPE", None)  # each tree makes its own
    with tempfile.TemporaryDirectory() as name:
        world, trees = Path(name), {"now": ROOT, BEFORE: earlier_tree(BEFORE, Path(name) / "before")}
        write_pairs(world, CLASSES, RETRIEVED)
        (world / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(world)))
        call = [sys.executable, __file__, name]
        ways = {side: ["env", f"PYTHONPATH={tree / 'src'}:{tree}", *call] for side, tree in trees.items()}
        still = alternate({side: [*way, "0", "0"] for side, way in ways.items()}, rounds=1)
        figures = alternate({side: [*way, "0.1", str(STEPS)] for side, way in ways.items()}, rounds=ROUNDS)
    for key in ("s_a_pair", "gf_a_pair", "gf_s", "limit_gf_s", "share", "peak_mib"):
        print(f"{key:<12}" + "".join(f"{side} {median(found[key]):<12.4g}" for side, found in figures.items()))
    print(f"share of the products' limit: {median(figures['now']['share']):.0%} (goal {GOAL:.0%}, no target)")
    same = all(len({*kind["now"]["ids"], *kind[BEFORE]["ids"]}) == 1 for kind in (still, figures))
    losses = {name for side in still.values() for name in side if name.startswith("loss")}
    differs = max(abs(ratio(still, name, "now", BEFORE) - 1) for name in losses)
    faster = 1 / ratio(figures, "s_a_pair", "now", BEFORE)
    return verdict(
        [
            Target("pre-training step, CPU seconds before / now", faster, 2.0 if wide_amd() else 1.2),
            Target("its batches are the same", same, 1),
            Target(f"largest difference of its {len(losses)} losses without dropout", differs, 1e-5, False),
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(work(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
    else:
        sys.exit(main())
