"""What is in a feature store: statistics, and a page that draws the boxes of some images over their pictures."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.coverage import with_regions
from data_prep.regions.build import picture_files
from data_prep.regions.class_names import SYNONYMS
from data_prep.regions.drawing import drawing, is_outside, templates
from unimo.readers.feature_store import FeatureStore
from unimo.storage.atomic import atomic_write

BOXES = 12  # drawn of an image, best first; more hide one another
SAMPLE = 2000  # images whose boxes and features are counted, evenly spaced over the store
_TOP = 10  # classes named


def inspect(store_path: Path, pairs: Path | None, images: Path | None, out: Path, count: int, seed: int) -> list[str]:
    """Write the page to `out` and return lines for people.

    Raises:
        DataError: no store, a damaged one, or a list of pictures that cannot be read.
    """
    store = FeatureStore(store_path)
    files = picture_files(pairs, images) if pairs or images else {}
    listed = set(with_regions(files, store))
    known = [image_id for image_id in store.ids if image_id in listed] or store.ids
    shown = random.Random(seed).sample(known, min(count, len(known)))
    facts = statistics(store)
    drawings = [drawing(store.read(i), store.class_names, files.get(i), BOXES) for i in shown]
    template = templates(Path(__file__).parent).get_template("store_page.html.jinja")
    html = template.render(name=store_path, facts=facts, boxes=BOXES, images=drawings)
    with atomic_write(out) as file:
        file.write(html.encode())
    return [f"{name}: {value}" for name, value in facts.items()] + [f"{out}: {len(shown)} images drawn"]


def statistics(store: FeatureStore) -> dict[str, str]:
    """Name and text of each; boxes and features are those of SAMPLE images at most."""
    places: list[int] = []
    if len(store):
        places = np.unique(np.linspace(0, len(store) - 1, min(SAMPLE, len(store))).astype(int)).tolist()
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
    facts = {"extractor": ", ".join(f"{key} {value}" for key, value in store.extractor.items() if key != SYNONYMS)}
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
        "attributes": "yes" if store.header.get("attributes") else "no",
    }
