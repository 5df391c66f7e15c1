"""Pictures to batches of pixels beside torch's DataLoader with torchvision: pictures a CPU second.

    pip install torch torchvision    # the peer, best in an environment of its own: PEER=its/bin/python
    OMP_NUM_THREADS=1 python tests/benchmarks/pixels.py [--count 2000] [--side 224]

2,000 JPEGs of about 640 x 480 (noise over gradients, quality 90), batches of 32 in random order. The peer opens files
by Pillow, resizes with antialiasing and normalises, as its examples do. Both compute in one thread of one process.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

PEER = """
import json, resource, sys, time
from pathlib import Path
import torch, torchvision
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms.v2 import functional as _
torch.set_num_threads(1)
folder, side, varied = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "varied"
resize = [T.RandomResizedCrop(side, (.5, 1)), T.RandomHorizontalFlip()] if varied else [T.Resize((side, side))]
prepare = T.Compose([*resize, T.ToTensor(), T.Normalize([.5] * 3, [.5] * 3)])
class Set(torch.utils.data.Dataset):
    files = sorted(folder.glob("*.jpg"))
    def __len__(self): return len(self.files)
    def __getitem__(self, i): return prepare(Image.open(self.files[i]).convert("RGB"))
for batch in torch.utils.data.DataLoader(Set(), 32, shuffle=True): break
start, seen = time.process_time(), 0
for batch in torch.utils.data.DataLoader(Set(), 32, shuffle=True): seen += len(batch)
print(json.dumps(seen / (time.process_time() - start)))
"""


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = (int(x) for x in rng.integers([600, 440], [680, 520]))
        x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
        picture = np.stack([x, y, 200 - x], axis=2) + rng.normal(0, 20, (height, width, 1))
        cv2.imwrite(str(folder / f"{number:05}.jpg"), np.clip(picture, 0, 255), [cv2.IMWRITE_JPEG_QUALITY, 90])


def ours(folder: Path, side: int, kind: str, shards: Path | None, preparation: str) -> float:
    """Pictures a CPU second."""
    from unimo.readers.picture_shards import PictureShards
    from unimo.readers.pixels import Augmentation, FolderPictures, PixelImages

    cv2.setNumThreads(1)
    files = {path.stem: path for path in sorted(folder.glob("*.jpg"))}
    source = PictureShards(shards) if shards else FolderPictures(files)
    vary = Augmentation(crop=0.5, flip=0.5) if kind == "varied" else None
    images, ids = PixelImages(source, side, 16, preparation, vary), list(files)
    random.Random(0).shuffle(ids)
    images.collate(ids[:32])
    start = time.process_time()
    for first in range(0, len(ids), 32):
        part = ids[first : first + 32]
        images.collate(part, [np.random.default_rng([0, first, k]) for k in range(len(part))])
    return len(ids) / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from unimo.readers.picture_shards import PictureShardWriter

    with tempfile.TemporaryDirectory() as made:
        folder, shards = Path(made, "files"), Path(made, "shards")
        folder.mkdir()
        draw(folder, options.count)
        with PictureShardWriter(shards, {}) as writer:
            for path in sorted(folder.glob("*.jpg")):
                writer.add(path.stem, "jpg", path.read_bytes(), (0, 0), {})
        for kind in ("plain", "varied"):
            rates: dict[str, list[float]] = {"peer": [], "upright": [], "upright, shards": [], "release": []}
            for _ in range(options.rounds):
                command = [os.environ.get("PEER", sys.executable), "-c", PEER, str(folder), str(options.side), kind]
                environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
                done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                rates["peer"].append(json.loads(done.stdout))
                rates["upright"].append(ours(folder, options.side, kind, None, "upright"))
                rates["upright, shards"].append(ours(folder, options.side, kind, shards, "upright"))
                rates["release"].append(ours(folder, options.side, kind, None, "release"))
            peer = float(np.median(rates["peer"]))
            for name, found in rates.items():
                rate = float(np.median(found))
                print(
                    f"{kind:7} {name:16} {rate:7.1f} pictures a CPU second, {rate / peer:5.2f} of the peer", flush=True
                )


if __name__ == "__main__":
    main()
