"""Feature stores of a few random records, in several shards."""

from pathlib import Path

import numpy as np

from unimo.readers.feature_store import RegionRecord, StoreWriter

DIM, NAMES, EXTRACTOR = 6, ["cat", "dog", "cow"], {"name": "hand", "version": "1"}


def record(image_id: str, n: int, seed: int = 0, probs: bool = True) -> RegionRecord:
    rng = np.random.default_rng([seed, n])
    return RegionRecord(
        image_id,
        width=640,
        height=480,
        features=rng.standard_normal((n, DIM)),
        boxes=rng.integers(0, 400, (n, 4)),
        classes=rng.integers(0, 3, n),
        scores=rng.random(n),
        class_probs=rng.random((n, 3)) if probs else None,
    )


def writer(path: Path, **changes) -> StoreWriter:
    given = {"feature_dim": DIM, "class_names": NAMES, "extractor": EXTRACTOR, "shard_bytes": 400} | changes
    return StoreWriter(path, **given)


def write(path: Path, *records: RegionRecord) -> Path:
    with writer(path) as store:
        for r in records:
            store.add(r)
    return path


RECORDS = [record(f"image {i}", n, seed=i) for i, n in enumerate([3, 0, 7, 1, 5, 2, 9, 4])]


def contents(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in path.iterdir()}
