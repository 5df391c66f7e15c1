"""Pictures and captions that the benchmarks of pre-training share: random regions, and random words of our README."""

from pathlib import Path

import numpy as np

from unimo.config import ROOT
from unimo.readers.annotations import write_jsonl
from unimo.readers.feature_store import RegionRecord, StoreWriter

FEATURES, PICTURES = 2048, 400


def write_pairs(folder: Path, classes: int = 0, retrieved: int = 0) -> None:
    """A feature store `regions`, `pairs.jsonl` with five captions a picture and `rewrites.jsonl`, in a folder.

    Pictures have 10 to 100 regions, 36 on average, captions 6 to 30 words.

    Args:
        classes: of which each region has probabilities; 0 for a store without them.
        retrieved: similar pictures and similar texts of each caption.
    """
    rng = np.random.default_rng(0)
    words = (ROOT / "README.md").read_text(encoding="utf-8").lower().split()
    words = sorted({word for word in words if word.isalpha()})

    def caption() -> str:
        return " ".join(rng.choice(words, rng.integers(6, 31)))

    pairs, rewrites = [], []
    names = ["background", *(f"thing {i}" for i in range(1, max(2, classes)))]
    extractor = {"name": "random", "version": "1"}
    with StoreWriter(folder / "regions", feature_dim=FEATURES, class_names=names, extractor=extractor) as store:
        for number in range(PICTURES):
            n = int(np.clip(rng.normal(36, 16), 10, 100))
            boxes = np.sort(rng.random((n, 2, 2)), axis=1).reshape(n, 4).astype(np.float32) * 100
            arrays = (rng.standard_normal((n, FEATURES)), boxes, np.ones(n, np.int64), np.ones(n))
            probs = rng.dirichlet(np.ones(classes), n) if classes else None
            store.add(RegionRecord(str(number), 100, 100, *arrays, class_probs=probs))
            own = {"image_id": str(number), "captions": [caption() for _ in range(5)]}
            pairs.append(own | {"image": "none.jpg", "split": "train", "source": "random"})
            for k, text in enumerate(own["captions"]):
                negatives = [{"text": caption(), "kind": kind} for kind in ("object", "tfidf") for _ in range(4)]
                made = {"caption_id": f"{number}#{k}", "image_id": str(number), "caption": text, "graph": {}}
                made |= {"positives": [{"text": caption(), "engine": "random"}], "negatives": negatives}
                made |= {"similar_images": rng.choice(PICTURES, retrieved, replace=False).astype(str).tolist()}
                rewrites.append(made | {"similar_texts": [caption() for _ in range(retrieved)]})
    (folder / "none.jpg").touch()  # earlier readers of pairs ask for it
    write_jsonl(folder / "pairs.jsonl", pairs)
    write_jsonl(folder / "rewrites.jsonl", rewrites)
