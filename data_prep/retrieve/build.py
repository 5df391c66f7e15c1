"""The stage itself: `fit` writes an index of what may be retrieved, `apply` looks up caption after caption in it.

Nothing of dev and test gets into the index, neither as itself nor as a near-duplicate; so it cannot come out of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_prep.coverage import with_regions
from data_prep.near_duplicates import NearIndex, alike, look, near, normalise, words
from data_prep.progress import Progress
from data_prep.regions.threads import decoded
from data_prep.retrieve.image_neighbours import ImageIndex, pooled, vectors
from data_prep.retrieve.text_neighbours import Text, TextIndex
from data_prep.stage import WHOLE, Shard, Work, beside, read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import Pair, Rewrite, read_images, read_pairs, read_rewrites, read_texts, write_jsonl
from unimo.readers.captions import Captions
from unimo.readers.feature_store import FeatureStore
from unimo.storage.cache import sha256

DISTRIBUTIONS = ("bm25s", "faiss-cpu", "numpy", "scipy")
BATCH = 1000  # captions looked up at a time; also the most that a kill can lose
SPARE = 20  # sentences looked up beyond those asked for: some are the caption itself in other words


def fit(
    pairs: Path,
    texts: Path | None,
    images: Path | None,
    regions: Path | None,
    out: Path,
    min_words: int = 3,
    object_score: float = 0.3,
    object_weight: float = 0.5,
) -> str:
    """Write the index folder `out`: sentences and training captions, training images and those of `images`.

    Args:
        min_words: texts with fewer words, after `normalise`, are left out.
        object_score, object_weight: see `images`.

    Raises:
        DataError: malformed input, with `regions` a picture whose file is missing, or nothing left to retrieve.
    """
    records = read_pairs(pairs, pictures=regions is not None)
    out.mkdir(parents=True, exist_ok=True)
    (out / "manifest.json").unlink(missing_ok=True)  # written last: an index without it is unfinished
    settings = {"min_words": min_words, "object_score": object_score, "object_weight": object_weight}
    inputs = [path for path in (pairs, texts, images, regions) if path]
    work = Work("retrieve fit", out, settings, inputs, distributions=DISTRIBUTIONS)
    kept = _texts(records, texts, min_words, work)
    TextIndex.fit(kept).save(out)
    found = _images(records, pairs, images, regions, settings, work)
    found.save(out)
    counts = {"candidates": len(kept) + len(found.image_ids), "sentences": len(kept), "images": len(found.image_ids)}
    return work.finish(counts, "candidates")


def _texts(records: list[Pair], texts: Path | None, min_words: int, work: Work) -> list[Text]:
    """What may be retrieved as a sentence, each once."""
    training = Captions.of([pair for pair in records if pair.split == "train"])
    found = zip(training.ids, training.texts, training.pairs)
    every = [Text(key, caption, pair.source, pair.image_id) for key, caption, pair in found]
    every += [Text(t.id, t.text, t.source) for t in (read_texts(texts) if texts else [])]
    held_out = NearIndex(words(c) for p in records if p.split != "train" for c in p.captions)
    kept, seen = [], set()
    for text in every:
        key, bag = normalise(text.text), words(text.text)
        if bag in held_out:
            work.reject(text.id, "near-duplicate of a caption in dev or test")
        elif len(bag) < min_words:
            work.reject(text.id, f"fewer than {min_words} words")
        elif key in seen:
            work.reject(text.id, "the same words as an earlier text")
        else:
            seen.add(key)
            kept.append(text)
    return kept


def _images(
    records: list[Pair], pairs: Path, images: Path | None, regions: Path | None, settings: dict[str, Any], work: Work
) -> ImageIndex:
    """What may be retrieved as an image; empty without a feature store."""
    if regions is None:
        return ImageIndex.fit([], np.zeros((0, 1), np.float32))
    store = FeatureStore(regions)
    training = {p.image_id: pairs.parent / p.image for p in records if p.split == "train"}
    held_out = {p.image_id: pairs.parent / p.image for p in records if p.split != "train"}
    others: dict[str, Path] = {}
    if images:
        others = {i.image_id: images.parent / i.image for i in read_images(images, pictures=True)}
    candidates, files = others | training, {}
    with_regions(candidates, store)
    for image_id, file in candidates.items():
        if image_id in held_out:
            work.reject(image_id, "image of dev or test")
        elif image_id not in store:
            work.reject(image_id, "image without regions")
        else:
            files[image_id] = file
    image_ids = _without_copies(files, held_out, work)
    rows = vectors(*pooled(store, image_ids, settings["object_score"]), settings["object_weight"])
    return ImageIndex.fit(image_ids, rows)


def _without_copies(files: dict[str, Path], held_out: dict[str, Path], work: Work) -> list[str]:
    """The images that look like none of those held out, in whatever format or size."""
    looks = {}
    with closing(decoded(held_out | files)) as pictures:
        for image_id, picture in tqdm(pictures, desc="pictures", unit="picture", total=len(held_out) + len(files)):
            if not isinstance(picture, DataError):
                looks[image_id] = look(picture)
            elif image_id in files:
                work.reject(image_id, "picture cannot be decoded", str(picture))
    image_ids = [image_id for image_id in files if image_id in looks]
    every = np.array([looks[image_id] for image_id in image_ids]).reshape(len(image_ids), -1)
    copies = {int(place) for i in held_out if i in looks and image_ids for place in alike(every, looks[i])}
    for place in sorted(copies):
        work.reject(image_ids[place], "near-duplicate of an image in dev or test")
    return [image_id for place, image_id in enumerate(image_ids) if place not in copies]


def apply(
    index: Path,
    pairs: Path,
    rewrites: Path | None,
    out: Path,
    similar_texts: int = 20,
    similar_images: int = 20,
    text_threshold: float = 0.3,
    image_threshold: float = 0.3,
    shard: Shard = WHOLE,
) -> str:
    """Write the rewrites of every caption with both lists filled, and beside it `neighbours.jsonl` with the scores.

    Args:
        similar_texts, similar_images: so many a training caption at most; captions of dev and test get none.
        text_threshold, image_threshold: least likeness.

    Raises:
        DataError: malformed input, or an index that is unfinished or was made from other pairs.
    """
    manifest = read_manifest(index)
    if sha256(pairs) not in manifest["inputs"].values():
        raise DataError(f"{index} was not made from {pairs} as it is now; run `retrieve fit` with it again")
    records = read_pairs(pairs)
    old = read_rewrites(rewrites, records) if rewrites else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    out = shard.place(out)
    settings = {
        "similar_texts": similar_texts,
        "similar_images": similar_images,
        "text_threshold": text_threshold,
        "image_threshold": image_threshold,
    }
    inputs = [path for path in (pairs, rewrites, index / "manifest.json") if path]
    work = Work("retrieve apply", out, settings, inputs, shard, (), DISTRIBUTIONS)
    part = shard.of(records)
    finder = Finder(records, TextIndex.load(index), ImageIndex.load(index), settings)
    for pair in part:
        if pair.split == "train" and len(finder.images.image_ids) and pair.image_id not in finder.images:
            work.reject(pair.image_id, "image not in the index", "its captions get no similar images")
    progress = Progress(beside(out, "progress.jsonl"), {**settings, **{str(p): sha256(p) for p in inputs}})
    before = len(progress.done)
    found = _look_up(finder, part, progress)
    neighbours = {record["caption_id"]: record for record in found}
    write_jsonl(beside(out, "neighbours.jsonl"), neighbours.values())
    captions = Captions.of(part)
    named = zip(captions.ids, captions.image_ids, captions.texts)
    write_jsonl(out, (_filled(old.get(key), key, image, text, neighbours.get(key)) for key, image, text in named))
    line = work.finish(
        {
            "captions": len(captions.ids),
            "similar texts": sum(len(n["texts"]) for n in neighbours.values()),
            "similar images": sum(len(n["images"]) for n in neighbours.values()),
        },
        "captions",
        len(neighbours) - before,
    )
    progress.path.unlink(missing_ok=True)
    return line


class Finder:
    """The neighbours of training captions; those of each depend on nothing else that is asked."""

    def __init__(self, records: list[Pair], texts: TextIndex, images: ImageIndex, settings: dict[str, Any]):
        self.texts, self.images, self.settings = texts, images, settings
        self.captions = {pair.image_id: [words(caption) for caption in pair.captions] for pair in records}

    def find(self, captions: list[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
        """Records of neighbours.jsonl for (caption id, image id, caption)."""
        settings = self.settings
        known = list(dict.fromkeys(image_id for _, image_id, _ in captions if image_id in self.images))
        images = self.images.search(known, settings["similar_images"])
        wanted = settings["similar_texts"]
        sentences = self.texts.search([c for _, _, c in captions], wanted + SPARE if wanted else 0)
        for (caption_id, image_id, _), hits in zip(captions, sentences):
            pictures = [hit for hit in images.get(image_id, []) if hit[1] >= settings["image_threshold"]]
            chosen: list[dict[str, Any]] = []
            for place, score in hits:
                if score >= settings["text_threshold"] and len(chosen) < wanted and self._other(place, image_id):
                    text = self.texts.texts[place]
                    chosen.append({"text": text.text, "score": score, "source": text.source, "id": text.id})
            yield {
                "caption_id": caption_id,
                "texts": chosen,
                "images": [{"image_id": other, "score": score} for other, score in pictures],
            }

    def _other(self, place: int, image_id: str) -> bool:
        """Whether a sentence is not one of the image's own captions or a near-duplicate of one."""
        text = self.texts.texts[place]
        return text.image_id != image_id and not any(near(self.texts.words[place], c) for c in self.captions[image_id])


def _look_up(finder: Finder, part: Sequence[Pair], progress: Progress) -> list[dict[str, Any]]:
    """The neighbours of the training captions of `part`, those that are not done yet in batches."""
    training = Captions.of([pair for pair in part if pair.split == "train"])
    captions = list(zip(training.ids, training.image_ids, training.texts))
    first = len(progress.done)
    with tqdm(total=len(captions), initial=first, desc="neighbours", unit="caption") as bar:
        for start in range(first, len(captions), BATCH):
            progress.add(list(finder.find(captions[start : start + BATCH])))
            bar.update(len(progress.done) - bar.n)
    return progress.done


def _filled(old: Rewrite | None, key: str, image_id: str, caption: str, found: dict[str, Any] | None) -> Rewrite:
    """A caption's record with both lists replaced."""
    texts = [text["text"] for text in found["texts"]] if found else []
    images = [image["image_id"] for image in found["images"]] if found else []
    if old:
        return old.model_copy(update={"similar_texts": texts, "similar_images": images})
    return Rewrite(
        caption_id=key,
        image_id=image_id,
        caption=caption,
        graph={},
        positives=[],
        negatives=[],
        similar_images=images,
        similar_texts=texts,
    )
