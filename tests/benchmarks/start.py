"""Start of commands: CPU seconds of whole commands (user and system, with all processes they start) beside 8caa402's.

    python tests/benchmarks/start.py [--rounds 5]

A tiny pre-training (2 layers x 32, 40 pairs and their texts, the release's vocabulary of 50,265) is run to its first
step: the whole process counts, with the checkpoint after that step and the exit. What it takes above `import paddle` is
held to a target; the other commands are shown. `-` is a command that 8caa402 did not have. One thread, page cache warm,
both sides in turn. Takes about 6 CPU minutes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import yaml
from PIL import Image
from side_by_side import ROUNDS, Target, alternate, earlier_tree, print_machine, verdict

ROOT, BEFORE = Path(__file__).parents[2], "8caa402"
PADDLE, PRETRAIN, MOST = "import paddle", "pretrain, 1 step", 2.0
UNIMO, STAGES = [Path(sys.executable).with_name("unimo")], [sys.executable, "-m", "data_prep"]
PICTURES, FEATURES, CLASSES = 40, 16, 9


def commands(world: Path, out: Path) -> dict[str, list]:
    """Name -> the command; `out` is a new folder, and what a command needs of another's output is made by it before."""
    data = ["--pairs", world / "pairs.jsonl", "--regions", world / "regions"]
    return {
        PADDLE: [sys.executable, "-c", "import paddle"],
        PRETRAIN: [*UNIMO, "pretrain", world / "pretrain.yaml", "--output", out / "run"],
        "finetune, 1 step": [*UNIMO, "finetune", "retrieval", world / "finetune.yaml"]
        + ["--model", out / "run", "--output", out / "tuned"],
        "evaluate": [*UNIMO, "evaluate", "retrieval", out / "run", *data, "--output", out / "result"],
        "port convert": [*UNIMO, "port", "convert", out / "run", out / "paddlenlp", "--to", "paddlenlp"],
        "report table": [*UNIMO, "report", "table", out / "result"],
        "zoo list": [*UNIMO, "zoo", "list"],
        "--help": [*UNIMO, "--help"],
        "pretrain --help": [*UNIMO, "pretrain", "--help"],
        "finetune --help": [*UNIMO, "finetune", "--help"],
        "evaluate --help": [*UNIMO, "evaluate", "--help"],
        "pretrain, no recipe": [*UNIMO, "pretrain", world / "none.yaml", "--output", out / "none"],
        "data_prep --help": [*STAGES, "--help"],
        "data_prep regions inspect": [*STAGES, "regions", "inspect", world / "regions", "--output", out / "page.html"],
    }


def write_world(folder: Path) -> None:
    """Pairs, texts, a feature store and two recipes, tiny."""
    from unimo.readers.annotations import write_jsonl
    from unimo.readers.feature_store import RegionRecord, StoreWriter

    rng, pairs = np.random.default_rng(0), []
    names = ["background", *(f"thing {i}" for i in range(1, CLASSES))]
    extractor = {"name": "made", "version": "1"}
    folder.mkdir()
    with StoreWriter(folder / "regions", feature_dim=FEATURES, class_names=names, extractor=extractor) as store:
        for number in range(PICTURES):
            corners = np.sort(rng.uniform(0, 30, (4, 2, 2)), axis=1).reshape(4, 4)
            features, probs = rng.normal(size=(4, FEATURES)), np.full((4, CLASSES), 1 / CLASSES)
            arrays = features.astype("float16"), corners.astype("float32"), np.ones(4, np.int64)
            store.add(
                RegionRecord(str(number), 30, 30, *arrays, np.ones(4, np.float32), class_probs=probs.astype("float16"))
            )
            split = ("train", "train", "train", "dev", "test")[number % 5]
            captions = [f"thing {number} on a table", f"a picture of thing {number}"]
            Image.new("RGB", (30, 30)).save(folder / f"{number}.png")
            named = {"image_id": str(number), "image": f"{number}.png", "captions": captions}
            pairs.append(named | {"split": split, "source": "made"})
    write_jsonl(folder / "pairs.jsonl", pairs)
    texts = [{"id": str(i), "text": f"thing {i} was seen near a tree", "source": "made"} for i in range(PICTURES)]
    write_jsonl(folder / "texts.jsonl", texts)
    files = {"pairs": str(folder / "pairs.jsonl"), "regions": str(folder / "regions")}
    engine = {"steps": 1, "learning_rate": 1e-3, "log_every": 1}
    sizes = {"vocab_size": 50265, "image_embedding_size": FEATURES, "image_class_size": CLASSES}
    sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 66}
    pretrain = {
        "model": sizes,
        "tokenizer": "model_files/dict",
        "data": files | {"texts": str(folder / "texts.jsonl")},
        "streams": {"text": 1, "pair": 1},
        "batch_positions": {"text": 256, "pair": 1024},
        "max_tokens": 24,
        "weights": {"mlm": 1.0, "seq2seq": 1.0, "region_feature": 0.1, "region_class": 1.0, "cmcl": 1.0},
        "engine": engine,
    }
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(pretrain))
    tuning = files | {"negatives": 2, "captions_per_batch": 8, "max_tokens": 24, "engine": engine}
    (folder / "finetune.yaml").write_text(yaml.safe_dump(tuning))


def cpu_seconds(command: list, tree: Path) -> tuple[float, int]:
    """Of a command and all that it started, run from the root of a tree, and its exit code."""
    env = os.environ | {"PYTHONPATH": f"{tree / 'src'}:{tree}"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(part) for part in command], cwd=tree, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.returncode


def work(tree: Path, world: Path) -> dict[str, float]:
    """All commands of a tree once, those that it has."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: cpu_seconds(command, tree) for name, command in commands(world, Path(folder)).items()}
    expected = {name: 2 if name == "pretrain, no recipe" else 0 for name in found}
    return {name: seconds for name, (seconds, code) in found.items() if code == expected[name]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--work", nargs=2, type=Path, metavar=("TREE", "WORLD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        print(json.dumps(work(*arguments.work)))
        return 0
    print_machine(1, {"paddlepaddle": version("paddlepaddle")})
    with tempfile.TemporaryDirectory() as folder:
        before, world = earlier_tree(BEFORE, Path(folder) / "before"), Path(folder) / "world"
        write_world(world)
        sides = {"now": ROOT, BEFORE: before}
        for name, tree in sides.items():  # compiles modules and fills the page cache
            lacking = {PADDLE, PRETRAIN} - work(tree, world).keys()
            if lacking:
                sys.exit(f"{name}: {', '.join(sorted(lacking))} ended with an error")
        workers = {name: [sys.executable, __file__, "--work", tree, world] for name, tree in sides.items()}
        figures = alternate(workers, rounds=arguments.rounds)
    medians = {side: {name: median(values) for name, values in found.items()} for side, found in figures.items()}
    print(f"\n{'CPU seconds, medians':<28}{'now':>8}{BEFORE:>10}")
    for name in commands(world, world):
        shown = [f"{medians[side][name]:.2f}" if name in medians[side] else "-" for side in sides]
        print(f"{name:<28}{shown[0]:>8}{shown[1]:>10}")
    above = {side: median(np.subtract(f[PRETRAIN], f[PADDLE]).tolist()) for side, f in figures.items()}
    print("first step minus import paddle: " + ", ".join(f"{side} {seconds:.2f}" for side, seconds in above.items()))
    what = "CPU seconds of a pretraining to its first step above `import paddle`"
    return verdict([Target(what, above["now"], MOST, at_least=False)])


if __name__ == "__main__":
    sys.exit(main())
