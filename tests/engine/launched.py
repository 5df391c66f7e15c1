"""Runs under launch.sh, and what they leave in their folders."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def launch(
    words: Sequence[str], run: Path, environment: Mapping[str, str] = {}, prefix: Sequence[str] = ()
) -> subprocess.Popen:
    """Start launch.sh with these words and `--output RUN`; its output goes to the file `out` of what is returned,
    because a pipe would be held open by what it leaves behind."""
    command = [*prefix, "bash", str(ROOT / "run_scripts/launch.sh"), words[0], "--output", str(run), *words[1:]]
    run.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{run}.{len(list(run.parent.iterdir()))}.out", "w") as out:
        process = subprocess.Popen(
            command, env=os.environ | {"OMP_NUM_THREADS": "1", **environment}, stdout=out, stderr=out, cwd=run.parent
        )
    process.out = Path(out.name)
    return process


def workers(run: Path) -> list[int]:
    """Process ids of the workers of a run, by their command lines."""
    found = subprocess.run(["pgrep", "-f", f"^python -u .*--output {run}( |$)"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def files(folder: Path) -> dict[str, bytes]:
    """Weights, moments and what else a checkpoint folder has in tensors."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}


def state(run: Path) -> dict:
    return json.loads((run / "state.json").read_text())


def log(run: Path) -> list[dict]:
    """The whole lines of the log, without times."""
    text = (run / "log.jsonl").read_text() if (run / "log.jsonl").exists() else ""
    return [json.loads(line, object_hook=_without_times) for line in text.split("\n")[:-1]]


def _without_times(record: dict) -> dict:
    return {k: v for k, v in record.items() if k not in ("seconds", "items_per_s")}
