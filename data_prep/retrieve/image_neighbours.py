"""Similar images by their regions: overlap of rare objects and likeness of features, as one inner product.

    likeness(a, b) = w * cos(o_a, o_b) + (1 - w) * cos(v_a, v_b)

o_a holds for each class the best score of the image's regions of that class, if it reaches the threshold, times the
class's rarity ln(1 + images / images with it); v_a is the score-weighted mean of the region features less its mean over
all images. Ours: how the paper combines them is not known.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
from tqdm import tqdm

from unimo.errors import DataError
from unimo.readers.feature_store import FeatureStore
from unimo.storage.atomic import atomic_write

BLOCK = 16  # queries at a time: faiss compares up to 19 one by one, so a result does not depend on the others


def pooled(store: FeatureStore, image_ids: Sequence[str], object_score: float) -> tuple[np.ndarray, np.ndarray]:
    """Best score of each class, [images, classes], and mean features, [images, feature_dim]; both float32."""
    objects = np.zeros((len(image_ids), store.num_classes), np.float32)
    means = np.zeros((len(image_ids), store.feature_dim), np.float32)
    for row, image_id in enumerate(tqdm(image_ids, desc="images", unit="image")):
        record = store.read(image_id)
        chosen = (record.scores >= object_score) & (record.classes > 0)  # class 0 is the background
        np.maximum.at(objects[row], record.classes[chosen], record.scores[chosen])
        if record.scores.sum() > 0:
            means[row] = record.scores @ record.features.astype(np.float32) / record.scores.sum()
    return objects, means


def vectors(objects: np.ndarray, means: np.ndarray, object_weight: float) -> np.ndarray:
    """Rows whose inner products are likenesses. [images, classes + feature_dim] float32"""
    rare = objects * np.log1p(len(objects) / np.maximum(1, (objects > 0).sum(0)))
    rows = [
        object_weight**0.5 * _unit(rare),
        (1 - object_weight) ** 0.5 * _unit(means - means.sum(0) / max(1, len(means))),
    ]
    return np.hstack(rows).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


class ImageIndex:
    """Exact search (faiss) among images, for each of them."""

    def __init__(self, image_ids: Sequence[str], engine: faiss.Index):
        self.image_ids, self.engine = image_ids, engine
        self._row = {image_id: row for row, image_id in enumerate(image_ids)}

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row

    @classmethod
    def fit(cls, image_ids: Sequence[str], rows: np.ndarray) -> "ImageIndex":
        """Index images by their rows [images, size] float32, as `vectors` makes them."""
        engine = faiss.IndexFlatIP(rows.shape[1])
        engine.add(np.ascontiguousarray(rows))
        return cls(image_ids, engine)

    def save(self, folder: Path) -> None:
        """Write ids and vectors."""
        for name, content in (
            ("images.json", json.dumps(self.image_ids).encode()),
            ("images.faiss", faiss.serialize_index(self.engine).tobytes()),
        ):
            with atomic_write(folder / name) as file:
                file.write(content)

    @classmethod
    def load(cls, folder: Path) -> "ImageIndex":
        """What `save` wrote. Raises DataError where it is damaged."""
        try:
            image_ids = json.loads((folder / "images.json").read_bytes())
            engine = faiss.read_index(str(folder / "images.faiss"))
        except (OSError, ValueError, RuntimeError) as error:  # faiss raises RuntimeError
            raise DataError(f"{folder} is damaged ({error}); run `retrieve fit` again") from error
        return cls(image_ids, engine)

    def search(self, image_ids: Sequence[str], count: int) -> dict[str, list[tuple[str, float]]]:
        """For each image up to `count` others with their likeness, best first."""
        found, k = {}, min(count + 1, len(self.image_ids))  # an image finds itself, too
        for first in range(0, len(image_ids), BLOCK):
            block = image_ids[first : first + BLOCK]
            queries = np.stack([self.engine.reconstruct(self._row[image_id]) for image_id in block])
            for image_id, scores, rows in zip(block, *self.engine.search(queries, k)):
                hits = [(self.image_ids[r], round(float(s), 4)) for s, r in zip(scores, rows)]
                others = [hit for hit in hits if hit[0] != image_id]
                found[image_id] = sorted(others, key=lambda hit: (-hit[1], hit[0]))[:count]
        return found
