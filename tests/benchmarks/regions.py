"""Region extractors: pictures per second and memory, with decoding and writing beside the network and one by one.

    python tests/benchmarks/regions.py [--images FILE] [--count N] [--side PIXELS] [EXTRACTOR[=MODEL_DIR] ...]

Every worker opens the extractor, warms up on one picture, and makes a store of N pictures of the list (default: the
drawings of this repository), enlarged to PIXELS a side as JPEG, as photographs of COCO are. The stores of both ways
must be equal. Opening and warming up are not timed; the most resident memory is of the whole process. `butd` without
a MODEL_DIR is a detector of the published size with random weights, whose 300 proposals are anchors.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import paddle
from side_by_side import Target, alternate, print_machine, ratio, verdict

sys.path.insert(0, str(Path(__file__).parents[2]))  # data_prep/ is run from the clone

from PIL import Image

from data_prep.demo.contents import SHIPPED
from data_prep.regions.extractor import Extractor, record_of
from data_prep.regions.registry import make
from data_prep.regions.threads import AHEAD, decoded, writing
from unimo import zoo
from unimo.hardware import keep_freed_memory, share_freed_memory, use_fast_gemm
from unimo.models.faster_rcnn import FasterRCNN, FasterRCNNConfig
from unimo.readers.feature_store import FeatureStore, StoreWriter
from unimo.readers.pictures import read_picture, write_picture

DEFAULT, THREADS = ["opencv-ssd", "resnet50", "grid"], 2


def plain(extract: Extractor, files: dict[str, Path], store: StoreWriter) -> None:
    """Decode, extract, write, one after the other."""
    with store:
        for image_id, file in files.items():
            picture = read_picture(file)
            store.add(record_of(image_id, picture, extract(picture)))


def overlapped(extract: Extractor, files: dict[str, Path], store: StoreWriter) -> None:
    """As `regions extract` does."""
    with writing(store) as behind, closing(decoded(files)) as pictures:
        for image_id, picture in pictures:
            behind.add(record_of(image_id, picture, extract(picture)))


WAYS = {"plain": plain, "overlapped": overlapped}


def worker(way: str, extractor: str, folder: Path) -> None:
    """One store of all pictures; prints pictures per second by the clock and by CPU time, and the most memory."""
    use_fast_gemm()
    keep_freed_memory()
    share_freed_memory()
    name, _, model_dir = extractor.partition("=")
    extract = make(name, {"model_dir": Path(model_dir) if model_dir else None})
    files = {path.stem: path for path in sorted(folder.glob("*.jpg"))}
    extract(read_picture(next(iter(files.values()))))
    fixed = {"feature_dim": extract.feature_dim, "class_names": extract.class_names, "extractor": extract.description}
    with tempfile.TemporaryDirectory() as out:
        started, cpu_started = time.perf_counter(), time.process_time()
        WAYS[way](extract, files, StoreWriter(out, **fixed))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        store = FeatureStore(out)
        check = float(sum(store.read(i).features.astype(np.float64).sum() for i in store.ids))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rates = {"images_per_s": len(files) / seconds, "images_per_cpu_s": len(files) / cpu_seconds}
    print(json.dumps(rates | {"peak_mib": memory, "feature_sum": check}))


def random_detector(folder: Path) -> None:
    """A model folder of the published size; deltas of 0 and small residuals keep boxes and values in bounds."""
    paddle.seed(0)
    model = FasterRCNN(FasterRCNNConfig())
    for name, parameter in model.named_parameters():
        if name.startswith("rpn.deltas") or name.endswith("expand.norm.weight"):
            parameter.set_value(parameter * (0.0 if "deltas" in name else 0.1))
    zoo.save_pretrained(model, folder)


def write_pictures(listed: Path, count: int, side: int, folder: Path) -> None:
    """The first `count` pictures of a list as JPEG, the longer side `side` pixels."""
    lines = listed.read_text(encoding="utf-8").splitlines()[:count]
    for number, line in enumerate(lines):
        picture = read_picture(listed.parent / json.loads(line)["image"])
        scale = side / max(picture.shape[:2])
        size = [max(1, round(n * scale)) for n in picture.shape[1::-1]]
        write_picture(np.asarray(Image.fromarray(picture).resize(size)), folder / f"{number:05d}.jpg")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extractors", nargs="*", default=DEFAULT)
    parser.add_argument("--images", type=Path, default=SHIPPED / "pairs.jsonl", help="pairs.jsonl or images.jsonl")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print_machine(THREADS, {"paddle": paddle.__version__, "opencv": cv2.__version__, "numpy": np.__version__})
    targets = []
    bound = 50 + 2 * AHEAD * 3 * given.side**2 / 2**20  # a picture being decoded is there twice: Pillow's and ours
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(given.images, given.count, given.side, Path(folder))
        for extractor in given.extractors:
            print(extractor)
            if extractor == "butd":
                random_detector(Path(folder) / "detector")
            opened = f"butd={folder}/detector" if extractor == "butd" else extractor
            workers = {way: [sys.executable, __file__, "worker", way, opened, folder] for way in WAYS}
            figures = alternate(workers, THREADS, given.rounds)
            sums = {value for way in WAYS for value in figures[way]["feature_sum"]}
            assert len(sums) == 1, f"{extractor}: the stores differ: {sums}"
            memory = {way: median(figures[way]["peak_mib"]) for way in WAYS}
            gain = ratio(figures, "images_per_s", "overlapped", "plain")
            rate = median(figures["overlapped"]["images_per_s"])
            print(f"{extractor}: {rate:.3g} pictures a second, {memory['overlapped']:.0f} MiB at most")
            targets.append(Target(f"{extractor}: pictures per second, overlapped / plain", gain, 0.95))
            more = memory["overlapped"] - memory["plain"]
            targets.append(Target(f"{extractor}: memory of the overlap, MiB", more, bound, at_least=False))
    return verdict(targets)


if __name__ == "__main__":
    sys.exit(worker(*sys.argv[2:4], Path(sys.argv[4])) if sys.argv[1:2] == ["worker"] else main())
