"""Reading rewrites.jsonl: CPU time and memory a caption beside the reader of an earlier commit.

    python tests/benchmarks/read_rewrites.py        about two CPU minutes, 100 MB in the folder for temporary files

20,000 captions with 25 negatives each, as `rewrite build` writes them for the drawings of this repository, in the page
cache. The earlier reader (commit 8caa402) is taken from this repository's history. It collected garbage over all that
was read so far and kept every record; ours keeps the lines and parses each when it is asked for, which is printed, too.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from side_by_side import Target, alternate, earlier_tree, print_machine, ratio, verdict

ROOT = Path(__file__).parents[2]
BEFORE, CAPTIONS, CANDIDATES = "8caa402", 20_000, 25


def write(folder: Path) -> None:
    """The rewrites, and the pairs that they belong to."""
    sys.path.insert(0, str(ROOT))  # data_prep/ is run from the clone
    from data_prep.demo.contents import SHIPPED
    from data_prep.rewrite.build import Amounts, apply
    from data_prep.rewrite.graphs import Parser
    from data_prep.rewrite.index import Index
    from data_prep.rewrite.wordnet import WordNet
    from unimo.readers.annotations import Pair, write_jsonl

    drawings = [json.loads(line)["captions"][0] for line in (SHIPPED / "pairs.jsonl").read_text("utf-8").splitlines()]
    fixed = {"image": "none", "split": "train", "source": "bench"}
    pairs = [Pair(image_id=str(i), captions=[text], **fixed) for i, text in enumerate(drawings)]
    index = Index.fit(pairs, Parser().graphs(drawings, folder / "graphs.jsonl"))
    made = [r.model_dump() for r in apply(pairs, index, WordNet(), Amounts(0, 8, CANDIDATES), 0, {}, {})]

    def copies() -> Iterator[tuple[str, dict]]:
        return ((f"picture {i}", made[i % len(made)]) for i in range(CAPTIONS))

    named = (r | {"caption_id": f"{i}#0", "image_id": i, "negatives": r["negatives"][:CANDIDATES]} for i, r in copies())
    write_jsonl(folder / "rewrites.jsonl", named)
    write_jsonl(folder / "pairs.jsonl", (fixed | {"image_id": i, "captions": [r["caption"]]} for i, r in copies()))


def worker(folder: Path) -> None:
    """CPU microseconds and memory a caption of the reader on PYTHONPATH, and of a second look at each record."""
    from unimo.readers.annotations import Pair, read_rewrites

    pairs = [Pair(**json.loads(line)) for line in (folder / "pairs.jsonl").read_bytes().splitlines()]
    before, start = resident(), time.process_time()
    rewrites = read_rewrites(folder / "rewrites.jsonl", pairs)
    read, kept = time.process_time() - start, resident() - before
    start = time.process_time()
    candidates = sum(len(rewrites[key].negatives) for key in rewrites)
    asked = time.process_time() - start
    us = 1e6 / len(rewrites)
    figures = {"us": read * us, "kb": kept / len(rewrites), "asked_us": asked * us, "candidates": candidates}
    print(json.dumps(figures))


def resident() -> float:
    """KiB of this process in memory."""
    return float(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


def main() -> int:
    print_machine(1, {"captions": str(CAPTIONS), "candidates": str(CANDIDATES)})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        call = [sys.executable, __file__, "--worker", name]
        trees = {"before": earlier_tree(BEFORE, folder / "before"), "now": ROOT}
        ways = {way: ["env", f"PYTHONPATH={tree / 'src'}", *call] for way, tree in trees.items()}
        figures = alternate(ways)
    before, now = figures["before"], figures["now"]
    assert before["candidates"] == now["candidates"], "both read the same"
    for what, key in (("CPU us a caption", "us"), ("KiB kept a caption", "kb")):
        print(f"{what}: {median(before[key]):,.1f} before, {median(now[key]):,.1f} now")
    print(f"CPU us to parse a caption when it is asked for: {median(now['asked_us']):.0f}")
    return verdict(
        [
            Target("CPU time, before / now", ratio(figures, "us", "before", "now"), 5),
            Target("memory kept, before / now", ratio(figures, "kb", "before", "now"), 5),
        ]
    )


if __name__ == "__main__":
    sys.exit(worker(Path(sys.argv[2])) if sys.argv[1:2] == ["--worker"] else main())
