"""What is in a feature store: statistics, and a page that draws the boxes of some images over their pictures."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_prep.regions.build import picture_files
from unimo.atomic import atomic_write
from unimo.errors import MissingDependencyError
from unimo.readers.feature_store import FeatureStore, RegionRecord
from unimo.report.pictures import thumbnail

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise MissingDependencyError(f"regions inspect needs jinja2 ({error}): pip install -e '.[report]'") from error

SIDE = 360  # pixels of a shown picture's longer side
BOXES = 12  # drawn of an image, best first; more hide one another
SAMPLE = 2000  # images whose boxes and features are counted, evenly spaced over the store
_TOP = 10  # classes named
_MARGIN = 1.0  # pixels that a box may stick out without being called outside
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#800000")


def inspect(store_path: Path, pairs: Path | None, images: Path | None, out: Path, count: int, seed: int) -> list[str]:
    """Write the page to `out` and return lines for people.

    Raises:
        DataError: no store, a damaged one, or a list of pictures that cannot be read.
    """
    store = FeatureStore(store_path)
    files = picture_files(pairs, images) if pairs or images else {}
    known = [image_id for image_id in store.ids if image_id in files] or store.ids
    shown = random.Random(seed).sample(known, min(count, len(known)))
    facts = statistics(store)
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader, trim_blocks=True)
    html = environment.get_template("inspection.html.jinja").render(
        name=store_path, facts=facts, boxes=BOXES, images=[_drawing(store, i, files.get(i)) for i in shown]
    )
    with atomic_write(out) as file:
        file.write(html.encode())
    return [f"{name}: {value}" for name, value in facts.items()] + [f"{out}: {len(shown)} images drawn"]


def statistics(store: FeatureStore) -> dict[str, str]:
    """Name and text of each; boxes and features are those of SAMPLE images at most."""
    places = np.unique(np.linspace(0, len(store) - 1, min(SAMPLE, len(store))).astype(int)) if len(store) else []
    ids, counts = store.ids, store.counts(store.ids)
    classes: Counter[int] = Counter()
    outside = total = images_outside = 0
    norms: list[np.ndarray] = []
    for place in tqdm(places, desc="inspect", unit="image"):
        record = store.read(ids[place])
        out = is_outside(record)
        outside, total, images_outside = outside + int(out.sum()), total + len(out), images_outside + bool(out.any())
        classes.update(record.classes.tolist())
        norms.append(np.linalg.norm(record.features.astype(np.float32), axis=1))
    facts = {"extractor": ", ".join(f"{key} {value}" for key, value in store.extractor.items())}
    facts["images"] = f"{len(store):,}"
    if not total:
        return facts | {"boxes": "none"}
    top = ", ".join(f"{store.class_names[c]} ({n:,})" for c, n in classes.most_common(_TOP))
    return facts | {
        "boxes an image": f"{counts.min()} to {counts.max()}, median {np.median(counts):g}",
        "sampled": f"{len(places):,} images with {total:,} boxes",
        "boxes outside their image": f"{outside:,} ({outside / total:.1%}), in {images_outside:,} images",
        "feature dimension": str(store.feature_dim),
        "mean norm of features": f"{np.concatenate(norms).mean():.2f}",
        "most frequent classes": top,
        "class probabilities": "yes" if store.header["class_probs"] else "no",
    }


def is_outside(record: RegionRecord) -> np.ndarray:
    """[n] bool: boxes that leave the image by more than a pixel."""
    sides = np.float32([record.width, record.height, record.width, record.height])
    return ((record.boxes < -_MARGIN) | (record.boxes > sides + _MARGIN)).any(axis=1)


def _drawing(store: FeatureStore, image_id: str, file: Path | None) -> dict[str, Any]:
    """What the template draws: the record's own size as canvas, so that a wrong one shows against the picture."""
    record = store.read(image_id)
    scale = SIDE / max(record.width, record.height)
    labels = _labels(store, record)
    boxes = [
        {
            "label": label,
            "colour": _COLOURS[i % len(_COLOURS)],
            "x": round(float(x1) * scale, 1),
            "y": round(float(y1) * scale, 1),
            "w": round(float(x2 - x1) * scale, 1),
            "h": round(float(y2 - y1) * scale, 1),
        }
        for i, (label, (x1, y1, x2, y2)) in enumerate(zip(labels, record.boxes[:BOXES]))
    ]
    return {
        "id": image_id,
        "size": f"{record.width} x {record.height}",
        "w": round(record.width * scale, 1),
        "h": round(record.height * scale, 1),
        "picture": thumbnail(file, SIDE) if file else None,
        "boxes": boxes,
        "count": len(record.boxes),
        "outside": int(is_outside(record).sum()),
    }


def _labels(store: FeatureStore, record: RegionRecord) -> list[str]:
    names = [store.class_names[c] for c in record.classes]
    return [f"{name} {score:.2f}" for name, score in zip(names, record.scores)]
