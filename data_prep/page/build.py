"""The page itself: some captions drawn by chance, each with all that was made of it, and counts over all captions."""

import random
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.coverage import with_regions
from data_prep.page.counts import count as count_all
from data_prep.page.counts import kinds_of, manifests
from data_prep.page.marks import changed, highlighted
from data_prep.regions.drawing import SIDE, drawing, templates
from data_prep.stage import beside
from unimo.errors import DataError
from unimo.readers.annotations import (
    NonEmpty,
    Pair,
    Record,
    Rewrite,
    read_images,
    read_pairs,
    read_records,
    read_rewrites,
)
from unimo.readers.captions import Captions
from unimo.readers.feature_store import FeatureStore
from unimo.readers.scene_graphs import read_graph
from unimo.report.thumbnails import thumbnail
from unimo.storage.atomic import atomic_write

BOXES = 6  # drawn of a picture, best first; the labels of all are listed under it
THUMBNAIL = 96  # pixels of the longer side of other pictures
IMAGES, TEXTS = 12, 10  # similar ones shown, best first


class FoundText(Record):
    """A similar sentence with its likeness and where it is from."""

    text: NonEmpty
    score: float
    source: str


class FoundImage(Record):
    """A similar image with its likeness."""

    image_id: NonEmpty
    score: float


class Neighbours(Record):
    """A line of neighbours.jsonl (docs/retrieval.md)."""

    caption_id: NonEmpty
    texts: list[FoundText]
    images: list[FoundImage]


def write_page(
    pairs: Path,
    rewrites: Path,
    regions: Path | None,
    images: Path | None,
    neighbours: Path | None,
    split: str,
    out: Path,
    count: int,
    seed: int,
) -> str:
    """Write the page and say what it shows. Picture files, regions and rewrites of single captions may be missing.

    Args:
        neighbours: scores of what is similar; those beside `rewrites` if it is None and they are there.
        split: of the captions shown, or "all"; the counts are of every split.

    Raises:
        DataError: malformed lists, no caption of the split, or no record of rewrites for any caption.
    """
    known = read_pairs(pairs)
    made = read_rewrites(rewrites, known)
    if not made:
        raise DataError(f"{rewrites} has no record of any caption of {pairs}; it was made from other pairs")
    found = Captions.of([pair for pair in known if split in ("all", pair.split)])
    captions = list(zip(found.ids, found.pairs, found.texts))
    if not captions:
        raise DataError(f"{pairs} has no caption of split {split!r}; it has {sorted({p.split for p in known})}")
    shown = random.Random(seed).sample(captions, min(count, len(captions)))
    files = {i.image_id: images.parent / i.image for i in read_images(images)} if images else {}
    files |= {pair.image_id: pairs.parent / pair.image for pair in known}
    options: dict[str, object] = {"pairs": pairs, "rewrites": rewrites, "regions": regions, "images": images}
    options |= {"neighbours": neighbours}
    options |= {"split": split, "output": out, "count": count, "seed": seed}
    words = [str(word) for name, value in options.items() if value is not None for word in (f"--{name}", value)]
    store = FeatureStore(regions) if regions else None
    if store:
        with_regions([pair.image_id for pair in known], store)
    blocks = Blocks(
        rewrites=made,
        neighbours=_neighbours(neighbours, rewrites),
        captions={pair.image_id: pair.captions for pair in known},
        files=files,
        store=store,
    )
    html = (
        templates(Path(__file__).parent)
        .get_template("page.html.jinja")
        .render(
            name=rewrites,
            command=shlex.join(["python", "-m", "data_prep", "page", *words]),
            counts=count_all(known, made, files, blocks.store),
            manifests=list(manifests([path for path in (rewrites, regions, pairs, images) if path])),
            split=split,
            total=len(captions),
            blocks=[blocks.block(*caption) for caption in tqdm(shown, desc="page", unit="caption")],
            most={"boxes": BOXES, "images": IMAGES, "texts": TEXTS},
        )
        .encode()
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as file:
        file.write(html)
    return f"{out}: {len(shown)} of {len(captions):,} captions shown, {len(html) / 1e6:.1f} MB"


def _neighbours(file: Path | None, rewrites: Path) -> dict[str, Neighbours]:
    """By caption; `retrieve apply` leaves an empty file where no caption is of the training split."""
    its = beside(rewrites, "neighbours.jsonl")
    file = file or (its if its.is_file() and its.stat().st_size else None)
    return {n.caption_id: n for n in read_records(file, Neighbours, "caption_id")} if file else {}


class Blocks:
    """What the template shows of a caption."""

    def __init__(
        self,
        rewrites: Mapping[str, Rewrite],
        neighbours: Mapping[str, Neighbours],
        captions: Mapping[str, Sequence[str]],
        files: Mapping[str, Path],
        store: FeatureStore | None,
    ):
        self.rewrites, self.neighbours, self.captions = rewrites, neighbours, captions
        self.files, self.store = files, store
        self.kinds = kinds_of(rewrites.values())
        self.thumbnail: Callable[[Path], str | None] = cache(lambda file: thumbnail(file, THUMBNAIL))

    def block(self, key: str, pair: Pair, caption: str) -> dict[str, Any]:
        """One caption; `rewrites` is None where there is no record of it."""
        rewrite = self.rewrites.get(key)
        graph, problem = read_graph(rewrite.graph if rewrite else {})
        drawn = None
        if self.store and pair.image_id in self.store:
            record = self.store.read(pair.image_id)
            drawn = drawing(record, self.store.class_names, self.files[pair.image_id], BOXES)
        return {
            "id": key,
            "split": pair.split,
            "source": pair.source,
            "caption": caption,
            "others": [other for k, other in pair.captions_by_id().items() if k != key],
            "drawing": drawn,
            "picture": drawn["picture"] if drawn else thumbnail(self.files[pair.image_id], SIDE),
            "parts": highlighted(caption, graph),
            "graph": graph,
            "problem": problem,
            "rewrites": self._rewrites(key, caption, rewrite) if rewrite else None,
        }

    def _rewrites(self, key: str, caption: str, rewrite: Rewrite) -> dict[str, Any]:
        """X+ and X- of the caption, and what is similar to it or its image."""
        found = self.neighbours.get(key)
        texts = {text.text: text for text in found.texts} if found else {}
        scores = {image.image_id: image.score for image in found.images} if found else {}
        negatives: dict[str, list[dict[str, Any]]] = {kind: [] for kind in self.kinds}
        for negative in rewrite.negatives:
            extra = negative.model_extra or {}
            shown: dict[str, Any] = {"text": negative.text, "score": extra.get("score")}
            shown |= {"card": None, "parts": [], "fits": True}
            if "image_id" in extra:  # a caption of another image: no word of it was changed
                shown["card"] = self._card(str(extra["image_id"]))
            else:
                shown["parts"], shown["fits"] = changed(caption, negative)
            negatives[negative.kind].append(shown)
        return {
            "positives": [{"similarity": None, "rule": None} | p.model_dump() for p in rewrite.positives],
            "negatives": negatives,
            "texts": [{"text": text, "found": texts.get(text)} for text in rewrite.similar_texts],
            "images": [self._card(i) | {"score": scores.get(i)} for i in rewrite.similar_images],
        }

    def _card(self, image_id: str) -> dict[str, Any]:
        """Another image, small, with the first of its captions if it has any."""
        file = self.files.get(image_id)
        return {
            "id": image_id,
            "known": file is not None,
            "picture": self.thumbnail(file) if file else None,
            "caption": next(iter(self.captions.get(image_id, [])), None),
        }
