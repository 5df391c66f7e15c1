"""Region features from disk to padded float32 Paddle batches: our store beside the base64 lines of the UNIMO release.

    python tests/benchmarks/features.py

2,000 images of 10 to 100 boxes with 2048 features and 1601 class probabilities, in random order, batches of 32. Both
sides give the same fields: features with the image slot, box locations, mask, class probabilities. The release reads
every file into memory at its start; the peer here is spared that: it knows the offset of each line beforehand, which
is not timed, and reads only that line. Files are in the page cache. Takes about 3 GiB in the temporary folder.
"""

import base64
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import paddle
from side_by_side import Target, alternate, print_machine, ratio, verdict
from tqdm import tqdm

from unimo.readers.feature_store import FeatureStore, RegionRecord, StoreWriter
from unimo.readers.region_batches import collate_regions, widen
from unimo.readers.tensors import as_regions, on_device

IMAGES, BOXES, DIM, CLASSES, BATCH = 2000, (10, 100), 2048, 1601, 32
Tensors = dict[str, paddle.Tensor]


def synthetic(number: int) -> RegionRecord:
    """ReLU-like features and a softmax over classes, in float32 as a detector gives them."""
    rng = np.random.default_rng(number)
    n = int(rng.integers(BOXES[0], BOXES[1] + 1))
    features = np.maximum(rng.standard_normal((n, DIM), np.float32), 0)
    probs = np.exp(3 * rng.standard_normal((n, CLASSES), np.float32))
    probs /= probs.sum(axis=1, keepdims=True)
    low, size = rng.random((n, 2), np.float32) * 300, 1 + rng.random((n, 2), np.float32) * 200
    boxes = np.concatenate([low, low + size], axis=1)
    return RegionRecord(str(number), 640, 512, features, boxes, probs.argmax(axis=1), probs.max(axis=1), probs)


def write(folder: Path) -> tuple[int, int]:
    """Both forms of the same images; bytes of ours and of the release's."""
    store, lines, offsets = folder / "store", folder / "features.tsv", []
    extractor = {"name": "synthetic", "version": "1"}
    names = [str(i) for i in range(CLASSES)]
    with (
        StoreWriter(store, feature_dim=DIM, class_names=names, extractor=extractor) as writer,
        open(lines, "wb") as tsv,
    ):
        for number in tqdm(range(IMAGES), desc="writing both forms", unit="image"):
            r = synthetic(number)
            writer.add(r)
            offsets.append(tsv.tell())
            head = "\t".join(map(str, (r.image_id, r.width, r.height, len(r.features)))).encode()
            arrays = (r.boxes, r.features, r.class_probs)
            tsv.write(b"\t".join([head, *(base64.b64encode(a.tobytes()) for a in arrays)]) + b"\n")
        np.save(folder / "offsets.npy", np.array([*offsets, tsv.tell()]))
    return sum(p.stat().st_size for p in store.iterdir()), lines.stat().st_size


def order() -> list[np.ndarray]:
    """The same random batches for both sides; the last one is smaller."""
    numbers = np.random.default_rng(0).permutation(IMAGES)
    return [numbers[i : i + BATCH] for i in range(0, IMAGES, BATCH)]


class Ours:
    """The store, as training reads it: float16 until the batch is whole."""

    def __init__(self, folder: Path):
        self.store = FeatureStore(folder / "store")

    def batch(self, numbers: np.ndarray) -> Tensors:
        records = [self.store.read(str(i)) for i in numbers]
        regions = as_regions(collate_regions(records))
        probs = np.zeros((*regions.mask.shape, CLASSES), np.float32)  # training takes those of masked regions only
        for row, r in zip(probs, records, strict=True):
            row[1 : 1 + len(r.class_probs)] = widen(r.class_probs)
        return vars(regions) | {"class_probs": on_device(probs)}


class Release:
    """The release's parsing of a line (reader/retrieval_reader.py) and its padding (reader/batching.py)."""

    def __init__(self, folder: Path):
        self.file, self.offsets = open(folder / "features.tsv", "rb"), np.load(folder / "offsets.npy")

    def read(self, number: int) -> dict[str, np.ndarray]:
        self.file.seek(self.offsets[number])
        line = self.file.read(self.offsets[number + 1] - self.offsets[number])
        _, width, height, n, *encoded = line.rstrip(b"\n").split(b"\t")
        w, h, n = int(width), int(height), int(n)
        boxes, features, probs = (
            np.frombuffer(base64.b64decode(text), np.float32).reshape(n, k)
            for text, k in zip(encoded, (4, DIM, CLASSES), strict=True)
        )
        area = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 2] - boxes[:, 0]) / (w * h)
        locations = np.concatenate([boxes / np.array([w, h, w, h], np.float32), area[:, None]], axis=1)
        return {
            "features": np.concatenate([features.mean(axis=0, keepdims=True), features]),
            "boxes": np.concatenate([np.array([[0, 0, 1, 1, 1]], np.float32), locations]),
            "class_probs": probs,
        }

    def batch(self, numbers: np.ndarray) -> Tensors:
        images = [self.read(i) for i in numbers]
        slots = max(len(image["boxes"]) for image in images)
        padded = {k: np.zeros((len(images), slots, v.shape[1]), np.float32) for k, v in images[0].items()}
        mask = np.zeros((len(images), slots), np.float32)
        for row, image in enumerate(images):
            n = len(image["boxes"])
            mask[row, :n] = 1
            for name, array in image.items():
                padded[name][row, n - len(array) : n] = array  # class probabilities have no image slot
        return {name: on_device(array) for name, array in (padded | {"mask": mask}).items()}


BARE = """
import json, pathlib, paddle
status = pathlib.Path("/proc/self/status").read_text()
print(json.dumps({"anonymous_mib": int(status.split("RssAnon:")[1].split()[0]) / 1024}))
"""


def anonymous_mib() -> float:
    """Memory of this process that no file stands behind (what a memory map does not count into)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def worker(side: str, folder: Path) -> None:
    """One pass over all images; prints images/s by the clock and by CPU time, the most anonymous memory with a batch in
    hand, and two check sums."""
    reader = {"ours": Ours, "release": Release}[side](folder)
    sums, memory = np.zeros(2), 0.0
    started, cpu_started = time.perf_counter(), time.process_time()
    for numbers in order():
        batch = reader.batch(numbers)
        memory = max(memory, anonymous_mib())
        sums += [batch["mask"].sum().item(), batch["boxes"].sum().item()]
        del batch  # one batch is alive at a time, on both sides
    rates = {
        "images_per_s": IMAGES / (time.perf_counter() - started),
        "images_per_cpu_s": IMAGES / (time.process_time() - cpu_started),
    }
    print(json.dumps(rates | {"anonymous_mib": memory, "slots": sums[0], "box_sum": sums[1]}))


def check_equal(folder: Path) -> None:
    """Both sides must give the same batch, but for float16's rounding."""
    ours, theirs = (side(folder).batch(order()[0]) for side in (Ours, Release))
    for name in theirs:
        assert ours[name].dtype == theirs[name].dtype == paddle.float32, name
        np.testing.assert_allclose(ours[name].numpy(), theirs[name].numpy(), rtol=1e-3, atol=1e-4, err_msg=name)


def main() -> int:
    print_machine(threads=1, versions={"paddle": paddle.__version__, "numpy": np.__version__})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, theirs = write(folder)
        check_equal(folder)
        print(f"bytes: ours {ours}, release {theirs}")
        workers = {side: [sys.executable, __file__, side, name] for side in ("ours", "release")}
        figures = alternate(workers | {"bare": [sys.executable, "-c", BARE]})
    most = max(figures["ours"]["anonymous_mib"])
    print(f"most anonymous memory of ours in any round: {most:.0f} MiB")
    print(f"images per CPU second, ours / release: {ratio(figures, 'images_per_cpu_s', 'ours', 'release'):.2f}")
    extra = median(figures["ours"]["anonymous_mib"]) - median(figures["bare"]["anonymous_mib"])
    return verdict(
        [
            Target("bytes, ours / release", ours / theirs, 0.4, at_least=False),
            Target("images per second, ours / release", ratio(figures, "images_per_s", "ours", "release"), 3),
            Target("anonymous memory above a bare import of paddle, MiB", extra, 100 * 1e6 / 2**20, at_least=False),
        ]
    )


if __name__ == "__main__":
    sys.exit(worker(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main())
