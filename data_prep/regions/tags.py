"""Object tags of a store in the format of the release's `coco_object_*_tot.ids`, which was never handed out."""

import re
from pathlib import Path

from data_prep.stage import Work
from unimo.readers.feature_store import FeatureStore, RegionRecord
from unimo.readers.tokenizer import load_tokenizer
from unimo.storage.atomic import atomic_write

FIRST_POSITION = 2  # as of every text of UNIMO
_COCO = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_0*|coco-)(\d+)")  # the release knows COCO's images by number


def write_tags(store_path: Path, out: Path, tokenizer_path: Path, threshold: float) -> str:
    """Write a line `IMAGE_ID;TOKEN_IDS;SENTENCE_IDS;POSITIONS` an image, numbers separated by blanks.

    Images without any object are left out and listed.

    Raises:
        DataError: no store, no tokenizer, or no image with an object.
    """
    store, tokenizer = FeatureStore(store_path), load_tokenizer(tokenizer_path)
    settings = {"threshold": threshold, "tokenizer": tokenizer.fingerprint}
    work = Work("regions tags", out, settings, [store_path], distributions=("tokenizers",))
    texts: dict[str, str] = {}
    for image_id in store.ids:
        names = objects(store.read(image_id), store.class_names, threshold)
        match = _COCO.fullmatch(image_id)
        written = match[1] if match else image_id
        if not names:
            work.reject(image_id, "no object", "all its regions are background")
        elif re.search(r"[;\s]", written):
            work.reject(image_id, "image id cannot be written", "it holds a semicolon or white space")
        elif written in texts:
            work.reject(image_id, "image id twice", f"{written} is there already")
        else:
            texts[written] = " ".join(names)
    encoded = tokenizer.encode_batch(list(texts.values()))
    with atomic_write(out) as file:
        for image_id, ids in zip(texts, encoded):
            file.write(tag_line(image_id, ids).encode())
    return work.finish({"images": len(texts), "tokens": sum(map(len, encoded))}, "images")


def objects(record: RegionRecord, class_names: list[str], threshold: float) -> list[str]:
    """Names of the classes that score at least the threshold, each once, best first.

    Where none does, the best of them, since the release's reader fails for an image without tags.
    """
    order = [i for i in (-record.scores).argsort(kind="stable") if record.classes[i]]
    kept = [i for i in order if record.scores[i] >= threshold] or order[:1]
    return list(dict.fromkeys(class_names[record.classes[i]] for i in kept))


def tag_line(image_id: str, ids: list[int]) -> str:
    """One line of the file; sentence ids are all 0."""
    columns = (ids, [0] * len(ids), range(FIRST_POSITION, FIRST_POSITION + len(ids)))
    return ";".join([image_id, *(" ".join(map(str, column)) for column in columns)]) + "\n"
