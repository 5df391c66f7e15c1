"""Cross-validation folds of a small set: every group of near-duplicates is tested once, and never learnt from then."""

import os
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.demo.splits import Use, groups, ranked
from data_prep.near_duplicates import NearIndex, drawing, look, words
from data_prep.regions.threads import decoded
from data_prep.stage import Work
from unimo.errors import DataError
from unimo.readers.annotations import (
    Image,
    Pair,
    Record,
    Rewrite,
    Rewrites,
    Split,
    read_images,
    read_pairs,
    read_rewrites,
    write_jsonl,
)

FOLDS = 8  # ours: test sets of about 115 pictures of the demo set's, beside its 100
DEV = 50  # groups at most in the dev part of a fold, as in the demo set
DISTRIBUTIONS = ("pillow", "numpy", "opencv-contrib-python", "scipy")

Item = Pair | Image


def build(pairs: Path, images: Path | None, rewrites: Path | None, out: Path, folds: int = FOLDS) -> str:
    """Write OUT/0 to OUT/n-1, each with the same pairs under other splits, and what it may have of the other files.

    Groups have equal captions after `normalise`, pictures that look alike as in the demo set, or the same drawing,
    whatever the splits were. Pictures are not copied.

    Raises:
        DataError: malformed lists, missing pictures, too few groups, or a fold's file is one of the inputs.
    """
    records = read_pairs(pairs, pictures=True)
    lists: list[tuple[Item, Path]] = [(item, pairs) for item in records]
    lists += [(item, images) for item in read_images(images, pictures=True)] if images else []
    items, files, seen, broken = _seen(lists)
    captions = [_captions(item) for item in items]
    group = groups(captions, *seen)
    uses = deal([item.image_id for item in items], [bool(c) for c in captions], group, folds)
    rewritten = read_rewrites(rewrites, records) if rewrites else None
    sources = {"pairs.jsonl": pairs, "images.jsonl": images, "rewrites.jsonl": rewrites}
    inputs = {name: path for name, path in sources.items() if path}
    written = {(out / str(fold) / name).resolve() for fold in range(folds) for name in inputs}
    if clash := written.intersection(path.resolve() for path in inputs.values()):
        raise DataError(f"{min(clash)} is what is read and what would be written; name another output")
    said = []
    for fold, own in enumerate(uses):
        folder = out / str(fold)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {"folds": folds, "fold": fold}
        work = Work("folds", folder, settings, [*inputs.values()], files=[*inputs], distributions=DISTRIBUTIONS)
        for image_id, error in broken:
            work.reject(image_id, "picture cannot be decoded", error)
        for item, use in zip(items, own):
            if use == "duplicate":
                work.reject(item.image_id, "near-duplicate of a picture or caption in dev or test")
        said.append(_write(folder, items, files, own, rewritten, work))
    return "\n".join(said)


def _captions(item: Item) -> list[str]:
    return item.captions if isinstance(item, Pair) else []


def _seen(
    lists: list[tuple[Item, Path]],
) -> tuple[list[Item], list[Path], tuple[np.ndarray, np.ndarray], list[tuple[str, str]]]:
    """Items whose pictures can be decoded, their files, looks [n, 832] and drawings [n, 833], and the others."""
    kept, files, looks, drawings, broken = [], [], [], [], []
    where = {str(place): path.parent / item.image for place, (item, path) in enumerate(lists)}
    with closing(decoded(where)) as pictures:
        for place, picture in tqdm(pictures, desc="pictures", unit="picture", total=len(lists)):
            item = lists[int(place)][0]
            if isinstance(picture, DataError):
                broken.append((item.image_id, str(picture)))
                continue
            kept.append(item)
            files.append(where[place])
            looks.append(look(picture))
            drawings.append(drawing(picture))
    return kept, files, (np.array(looks), np.array(drawings)), broken


def deal(ids: Sequence[str], captioned: Sequence[bool], group: np.ndarray, folds: int = FOLDS) -> list[list[Use]]:
    """What each item is used for in each fold: [folds][items].

    The group of rank r by the hash of its first id is held out in fold r % folds; of it the captioned item with the
    first id is tested and the others are left out ("duplicate"). Dev is made alike from the first groups, at most DEV
    and half, of those that the next fold tests. The rest is "train", or "unpaired" where it has no captions. Nothing of
    this depends on the order of the items.

    Raises:
        DataError: fewer than two folds, or fewer than two groups with captions for each.
    """
    order = ranked(ids, captioned, group)
    if folds < 2 or len(order) < 2 * folds:
        raise DataError(
            f"{len(order)} groups of pictures with captions for {folds} folds; expected at least 2 folds, and 2 groups "
            "for each, one to test and one for dev: ask for fewer folds or give more pictures"
        )
    dealt = []
    for fold in range(folds):
        uses: list[Use] = ["train" if has else "unpaired" for has in captioned]
        coming = order[(fold + 1) % folds :: folds]
        held_out: dict[Split, list[list[int]]] = {
            "test": order[fold::folds],
            "dev": coming[: min(DEV, len(coming) // 2)],
        }
        for split, chosen in held_out.items():
            for places in chosen:
                kept = min((i for i in places if captioned[i]), key=lambda i: ids[i])
                for i in places:
                    uses[i] = split if i == kept else "duplicate"
        dealt.append(uses)
    return dealt


def _write(
    folder: Path, items: list[Item], files: list[Path], uses: list[Use], rewrites: Rewrites | None, work: Work
) -> str:
    """The files of a fold, with paths from its folder to the pictures."""
    pairs, images, base = [], [], folder.resolve()
    for item, file, use in zip(items, files, uses):
        image = os.path.relpath(file.resolve(), base)
        if isinstance(item, Pair) and use in ("train", "dev", "test"):
            pairs.append(item.model_copy(update={"image": image, "split": use}))
        elif isinstance(item, Image) and use == "unpaired":
            images.append(item.model_copy(update={"image": image}))
    lists: dict[str, Iterable[Record]] = {"pairs.jsonl": pairs, "images.jsonl": images}
    if rewrites is not None:
        held_out = NearIndex(words(c) for item, use in zip(items, uses) if use != "train" for c in _captions(item))
        lists["rewrites.jsonl"] = cleaned(rewrites, pairs, {image.image_id for image in images}, held_out)
    for name in work.files:
        write_jsonl(folder / name, lists[name])
    counts = {f"{split} pictures": sum(p.split == split for p in pairs) for split in ("train", "dev", "test")}
    return work.finish({**counts, "pictures without": len(images)}, "test pictures")


def cleaned(rewrites: Rewrites, pairs: list[Pair], images: Set[str], held_out: NearIndex) -> Iterator[Rewrite]:
    """The rewrites of a fold's captions without what another split taught them.

    Negatives that are captions stay within their split. Training captions keep similar images that are trained on, and
    similar texts that are not near a caption held out; those of dev and test have none, as `retrieve` leaves them.

    Args:
        images: ids of the fold's pictures without captions.
    """
    split = {pair.image_id: pair.split for pair in pairs}
    trained = images | {image_id for image_id, name in split.items() if name == "train"}
    for rewrite in (rewrites[key] for pair in pairs for key in pair.captions_by_id() if key in rewrites):
        own = split[rewrite.image_id]
        kept = [n for n in rewrite.negatives if n.kind != "tfidf" or split.get(getattr(n, "image_id", "")) == own]
        seen = [i for i in rewrite.similar_images if own == "train" and i in trained]
        said = [t for t in rewrite.similar_texts if own == "train" and words(t) not in held_out]
        yield rewrite.model_copy(update={"negatives": kept, "similar_images": seen, "similar_texts": said})
