"""Examples -> what a model reads of them: their texts as one sequence, and their pictures."""

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from unimo.config import Config, find
from unimo.errors import ConfigError, DataError
from unimo.models.systems import described
from unimo.readers.annotations import Image, NonEmpty, Record, Split, read_records
from unimo.readers.batching import fingerprint
from unimo.readers.captions import collate_text
from unimo.readers.examples import read_examples
from unimo.readers.images import Images, PixelSettings, Stores, open_images, trainable
from unimo.readers.tokenizer import Tokenizer

Tokens = list[int]


class Pictured(Record):
    """What of a record of images.jsonl or pairs.jsonl says where a picture is."""

    image_id: NonEmpty
    image: NonEmpty


def joined(parts: Sequence[Tokens], tokenizer: Tokenizer, max_tokens: int) -> tuple[Tokens, Tokens]:
    """[CLS] a [SEP], or [CLS] a [SEP] b [SEP] with one separator: ids, and the part of each, 0 or 1.

    A pair that is too long loses the last token of its longer part, of the second one where both are alike, until it
    fits. Source: the releases' classification_reader.py.
    """
    kept = [list(part) for part in parts]
    while sum(map(len, kept)) > max_tokens - 1 - len(kept):
        (kept[0] if len(kept) == 1 or len(kept[0]) > len(kept[1]) else kept[1]).pop()
    ids, types = [tokenizer.cls_id], [0]
    for number, part in enumerate(kept):
        ids += [*part, tokenizer.sep_id]
        types += [number] * (len(part) + 1)
    return ids, types


class Questions:
    """The examples of a split, opened: `collate` makes a batch of any of them.

    Args:
        path: examples.jsonl.
        images: images.jsonl or pairs.jsonl of their pictures, for a model of pixels without shards.

    Raises:
        ConfigError: pictures without what the model reads them from.
        DataError: examples of which some have a text and others none (or a picture, alike), or more than two texts.
    """

    def __init__(
        self,
        path: Path,
        split: Split,
        tokenizer: Tokenizer,
        config: Config,
        max_tokens: int,
        regions: Stores = (),
        max_regions: int = 100,
        images: str | None = None,
        pixels: PixelSettings | None = None,
    ):
        self.examples, self.pad_id = read_examples(path, split), tokenizer.pad_id
        self.has_text = _all_or_none(path, "a text", [bool(example.source) for example in self.examples])
        pictured = _all_or_none(path, "a picture", [example.image_id is not None for example in self.examples])
        if not (self.has_text or pictured):
            raise DataError(f"{path}: the examples have neither text nor picture")
        self.images: Images | None = None
        if pictured:
            wanted = list(dict.fromkeys(str(example.image_id) for example in self.examples))
            self.images, kept = _open(wanted, config, regions, max_regions, images, pixels or PixelSettings(), split)
            self.examples = [example for example in self.examples if example.image_id in kept]
        self.ids = [example.id for example in self.examples]
        self.image_ids = [str(example.image_id) for example in self.examples] if pictured else []
        self.types: list[Tokens] | None = None
        self.sequences: list[Tokens] = []
        if self.has_text:
            self._tokenise(path, tokenizer, max_tokens, config)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        rest = self.images.fingerprint if self.images else None
        self.fingerprint = fingerprint(self.sha256, split, tokenizer.fingerprint, max_tokens, rest)

    def _tokenise(self, path: Path, tokenizer: Tokenizer, max_tokens: int, config: Config) -> None:
        longest = max(len(example.source) for example in self.examples)
        if longest > 2:
            raise DataError(f"{path}: an example has {longest} texts, expected one, or two that are compared")
        texts = sorted(set(chain.from_iterable(example.source for example in self.examples)))
        tokens = dict(zip(texts, map(tokenizer.encode, texts)))  # a premise comes with several hypotheses
        rows = [joined([tokens[text] for text in e.source], tokenizer, max_tokens) for e in self.examples]
        self.sequences = [ids for ids, _ in rows]
        if getattr(config, "type_vocab_size", 0) > 1:
            self.types = [types for _, types in rows]

    def __len__(self) -> int:
        return len(self.examples)

    def collate(self, rows: Sequence[int] | np.ndarray, rngs: Any = None) -> dict[str, Any]:
        """Padded arrays of some examples: `text`, and `regions` or `pixels`, as far as they have them.

        Args:
            rngs: one a row, to augment pictures; None is for evaluation.
        """
        inputs: dict[str, Any] = {}
        if self.has_text:
            types = [self.types[row] for row in rows] if self.types else None
            inputs["text"] = collate_text([self.sequences[row] for row in rows], self.pad_id, types=types)
        if self.images:
            ids = [self.image_ids[row] for row in rows]
            inputs[self.images.key] = self.images.collate(ids, rngs) if rngs else _each_once(self.images, ids)
        return inputs


def _each_once(images: Images, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """`images.collate` where neighbours may ask about one picture, as VQA's do: that is read and prepared once."""
    once = list(dict.fromkeys(ids))
    arrays = images.collate(once)
    if len(once) == len(ids):
        return arrays
    places = [once.index(image_id) for image_id in ids]
    return {name: array[places] for name, array in arrays.items()}


def _all_or_none(path: Path, what: str, have: Sequence[bool]) -> bool:
    if any(have) != all(have):
        raise DataError(f"{path}: {sum(have):,} of {len(have):,} examples have {what}; expected all of them, or none")
    return all(have)


def _open(
    wanted: Sequence[str],
    config: Config,
    regions: Stores,
    max_regions: int,
    images: str | None,
    pixels: PixelSettings,
    split: Split,
) -> tuple[Images, set[str]]:
    """The pictures of some examples, and the ids of those that can be used: a store that was made without some of
    train's says so, all others must be there."""
    folder, places = Path(), dict[str, str]()
    if described(config).images != "regions" and not pixels.shards:
        if images is None:
            raise ConfigError("this model reads pixels: name images.jsonl (images=..., --images), or shards")
        folder = find(images).parent
        places = {record.image_id: record.image for record in read_records(find(images), Pictured, "image_id")}
        missing = [image_id for image_id in wanted if image_id not in places]
        if missing:
            raise DataError(f"{images} lacks {len(missing):,} of {len(wanted):,} pictures, such as {missing[0]!r}")
    records = [Image(image_id=image_id, image=places.get(image_id, image_id), source="") for image_id in wanted]
    opened = open_images(records, folder, regions, config, max_regions, pixels)
    kept = trainable(records, opened) if split == "train" else records
    opened.positions([record.image_id for record in kept])  # raises for a picture that is not there
    return opened, {record.image_id for record in kept}
