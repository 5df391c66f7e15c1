"""How many drawings that the demo set and the bulk set both have are known by hash and thumbnail, and by features.

    python tests/benchmarks/same_drawings.py data/demo data/bulk [--regions DEMO_STORE BULK_STORE]

Of the drawings in this repository it is known which file of openclipart-png they were cut and scaled from, and the bulk
set, made without --apart-from, has most of these files. A "pair" is any drawing of one set with any of the other.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from data_prep.demo.apart import read
from data_prep.demo.contents import SHIPPED
from data_prep.near_duplicates import alike, same_drawing
from unimo.readers.feature_store import FeatureStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs=2, type=Path)
    parser.add_argument("--regions", nargs=2, type=Path, help="feature stores of both; cosines of mean features")
    arguments = parser.parse_args()
    demo, bulk = (read([folder]) for folder in arguments.sets)
    origins = {r["image_id"]: _bulk_id(r["from"]) for r in map(json.loads, open(SHIPPED / "pairs.jsonl"))}
    copies = {(a, b) for a, b in origins.items() if a in demo.ids and b in bulk.ids}
    print(f"{len(demo.ids):,} and {len(bulk.ids):,} pictures, {len(copies)} of them known copies")
    for name, close, a, b in (
        ("alike", alike, demo.looks, bulk.looks),
        ("same_drawing", same_drawing, demo.drawings, bulk.drawings),
    ):
        _tell(name, copies, _found(close, demo.ids, a, bulk.ids, b))
    if arguments.regions:
        stores = [FeatureStore(path) for path in arguments.regions]
        one, other = (_directions(store) for store in stores)
        cosines = one @ other.T
        for least in (0.8, 0.9, 0.95):
            places = np.argwhere(cosines > least)
            _tell(f"cosine > {least}", copies, {(stores[0].ids[i], stores[1].ids[j]) for i, j in places})


def _bulk_id(file: str) -> str:
    return "clipart-" + re.sub(r"[^\w-]+", "-", file.removesuffix(".png"))


def _found(close: Callable, ids: Iterable[str], rows: np.ndarray, others: list[str], theirs: np.ndarray) -> set:
    return {(image_id, others[j]) for image_id, row in zip(ids, rows) for j in close(theirs, row)}


def _directions(store: FeatureStore) -> np.ndarray:
    means = np.stack([store.read(image_id).features.astype(np.float32).mean(0) for image_id in store.ids])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def _tell(name: str, copies: set, found: set) -> None:
    others = len({b for _, b in found} - {b for _, b in copies})
    print(f"{name:>14}: {len(copies & found)} copies; {others} pictures of the second set that are in no known copy")


if __name__ == "__main__":
    main()
