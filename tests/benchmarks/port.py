"""Converting and loading UNIMO-base beside paddle.save and paddle.load of the same weights.

    python tests/benchmarks/port.py        about two minutes, 3 GB of disk in the folder for temporary files

Conversion: the release's folder of one file a variable -> a model folder, with every check, the vocabulary and the
syncs that make it survive a power cut. Loading: a model folder into a model, against
`set_state_dict(paddle.load(...))`, and against paddle.load alone, which makes tensors and no model; beside it what the
comparison of checksums takes of reading the whole folder (description, vocabulary, weights). Both sides find
their files in the page cache, and writers find nothing in the place of what they write: overwriting would hand
paddle.save the pages of its old file, and a conversion none, which keeps the old folder until the new one is whole.
"""

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import paddle
from side_by_side import Target, alternate, print_machine, ratio, verdict

from unimo.config import ROOT, load
from unimo.engine.checkpoint import load_model, torn
from unimo.engine.model_folder import read_model
from unimo.models.systems import skeleton
from unimo.models.unimo import UnimoConfig
from unimo.port.convert import convert
from unimo.port.interchange import Checkpoint, Options
from unimo.port.release import write_release
from unimo.port.weights import values_of

HEADS = ("pool", "lm")
BARE = """
import json, pathlib, paddle
status = pathlib.Path("/proc/self/status").read_text()
print(json.dumps({"peak_mib": int(status.split("VmHWM:")[1].split()[0]) / 1024}))
"""


def peak_mib() -> float:
    """Most resident memory of this process so far, mapped files included; getrusage counts the parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def worker(job: str, folder: Path) -> None:
    """Do one job; prints its wall and CPU seconds and the peak memory of the process."""
    config = load(UnimoConfig, ROOT / "model_configs" / "models" / "unimo_base.yaml")
    model = None if job in ("convert", "read", "check") else skeleton("unimo", config, HEADS)
    if job in ("save", "ours"):
        load_model(folder / "model", model)
    shutil.rmtree(folder / "converted", ignore_errors=True)
    (folder / "saved.pdparams").unlink(missing_ok=True)
    started, cpu_started = time.perf_counter(), time.process_time()
    if job == "convert":
        convert(folder / "release", folder / "converted", options=Options(), tokenizer=ROOT / "model_files" / "dict")
    elif job == "save":
        paddle.save(model.state_dict(), str(folder / "saved.pdparams"))
    elif job == "ours":
        load_model(folder / "model", model)
    elif job == "read":
        read_model(folder / "model")
    elif job == "check":
        assert torn(folder / "model") is None
    elif job == "paddle_load":
        paddle.load(str(folder / "model.pdparams"))
    elif job == "paddle_model":
        missing, unexpected = model.set_state_dict(paddle.load(str(folder / "model.pdparams")))
        assert not missing and not unexpected
    seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
    print(json.dumps(seconds | {"peak_mib": peak_mib()}))


def main() -> int:
    print_machine(threads=1, versions={"paddle": paddle.__version__})
    config = load(UnimoConfig, ROOT / "model_configs" / "models" / "unimo_base.yaml")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = skeleton("unimo", config, HEADS)
        for parameter in model.parameters():
            parameter.initialize()
        tensors = values_of(model)
        write_release(folder / "release", Checkpoint("unimo", config, HEADS, tensors))
        paddle.save(model.state_dict(), str(folder / "model.pdparams"))
        weights = sum(4 * p.size for p in model.parameters()) / 2**20
        del model
        convert(folder / "release", folder / "model", tokenizer=ROOT / "model_files" / "dict")
        jobs = {job: [sys.executable, __file__, job, name] for job in ("convert", "save", "ours", "read", "check")}
        jobs |= {job: [sys.executable, __file__, job, name] for job in ("paddle_model", "paddle_load")}
        jobs |= {"bare": [sys.executable, "-c", BARE]}
        figures = alternate(jobs)
    memory = (max(figures["convert"]["peak_mib"]) - min(figures["bare"]["peak_mib"])) / weights
    print(f"weights: {weights:.0f} MiB")
    return verdict(
        [
            Target("converting / paddle.save, seconds", ratio(figures, "seconds", "convert", "save"), 1.5, False),
            Target("peak memory above a bare import of paddle / weights", memory, 1.3, False),
            Target("loading a model / the same by paddle", ratio(figures, "seconds", "ours", "paddle_model"), 1, False),
            Target("comparing checksums / reading the folder", ratio(figures, "seconds", "check", "read"), 0.05, False),
            Target("loading a model / paddle.load alone", ratio(figures, "seconds", "ours", "paddle_load"), 1, False),
        ]
    )


if __name__ == "__main__":
    sys.exit(worker(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main())
