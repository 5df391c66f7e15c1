"""What the codes of a UNIMO-2's dictionary stand for: which pictures and captions choose them, and where in these.

Ours; the paper shows such pictures of a few codes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from pydantic import Field
from tqdm import tqdm

from unimo.engine.distributed import World
from unimo.errors import ConfigError
from unimo.evaluate.data_settings import PictureSettings
from unimo.evaluate.gallery import Gallery, RetrievalSettings
from unimo.evaluate.results import Measured, Metric, Sample, measure
from unimo.models.dictionary import Grounding, use_of
from unimo.models.streams import Pixels
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.annotations import Split
from unimo.readers.tokenizer import Tokenizer

FILE = "codes.json"
SHOWN = 8  # codes, of the most used
PATCHES = 8  # nearest ones of a code, each of another picture
WORDS = 10  # nearest ones of a code
PAIRS, MAPS = 4, 4  # pairs with heat-maps, and of how many codes


class CodeSettings(PictureSettings):
    """What an evaluation of codes is of; it encodes every picture and every caption twice, without padding."""

    pairs: str = Field(description="pairs.jsonl")
    max_tokens: int = Field(512, gt=2, description="Of a caption; never more than the model has positions for.")

    @property
    def files(self) -> tuple[str, ...]:
        """All that must be there."""
        return (self.pairs, *self.shards)


@dataclass
class Chosen:
    """Which codes each of some pictures or captions chooses, encoded alone."""

    sets: np.ndarray  # [n, C] bool

    @property
    def shares(self) -> np.ndarray:
        """Share of them that choose each code. [C]"""
        return self.sets.mean(axis=0)

    def shared(self, other: "Chosen") -> np.ndarray:
        """Share of each one's codes that each of the others chooses, too. [n, others]"""
        return self.sets.astype(np.float32) @ other.sets.T.astype(np.float32) / self.sets.sum(1, keepdims=True)


def overlaps(captions: Chosen, pictures: Chosen, rows: np.ndarray) -> dict[str, Sample]:
    """Of a caption's codes, how many its picture has, how many another picture has on average, and the difference.

    Args:
        rows: [captions] int, each one's picture.

    Returns:
        Samples over pictures, each with all of its captions.
    """
    shared, n = captions.shared(pictures), pictures.sets.shape[0]
    own = shared[np.arange(len(rows)), rows]
    others = (shared.sum(1) - own) / (n - 1)
    weights = np.bincount(rows, minlength=n)
    found = {"codes_shared_with_own": own, "codes_shared_with_others": others, "difference": own - others}
    return {name: Sample(np.bincount(rows, values, n), weights) for name, values in found.items()}


def closeness(grounding: Grounding, codes: Tensor) -> np.ndarray:
    """How near each of a single sample's tokens is to each code, as its choice sees it. [1, S, H], [C, H] -> [S, C]

    By the product, which decides the votes; of one-to-one codes by the squared distance.
    """
    tokens = grounding.tokens[0]
    products = paddle.matmul(tokens, codes, transpose_y=True)
    if grounding.one_to_one:
        products = 2 * products - tokens.square().sum(1, keepdim=True) - codes.square().sum(1)
    found: np.ndarray = products.numpy()
    return found


class CodeUsage:
    """The evaluation of a model's codes on a split. Every process makes the whole of it.

    Raises:
        ConfigError: a model without a dictionary, or fewer than two pictures.
    """

    best = "difference"
    measures = ("codes_shared_with_own", "codes_shared_with_others", best)

    def __init__(self, config: Unimo2Config, tokenizer: Tokenizer, settings: CodeSettings, split: Split):
        if config.grounding_method == "none":
            raise ConfigError("this model has no dictionary (grounding_method none), so no codes to look at")
        self.gallery = Gallery(config, tokenizer, RetrievalSettings(**settings.model_dump()), split)
        if len(self.gallery.pairs) < 2:
            raise ConfigError("a caption's picture is compared with others: give at least two pictures")
        self.facts, self.units = self.gallery.facts, self.gallery.units

    def plan(self, model: nn.Layer) -> str:
        """What it will cost, for people."""
        return f"codes of {len(self.gallery.pairs)} pictures and {len(self.gallery.captions.ids)} captions"

    def measure(self, model: nn.Layer, world: World) -> Measured:
        """The overlaps in percent; live codes and their entropy; codes.json."""
        assert isinstance(model, Unimo2)
        was_training = model.training
        model.eval()
        look = Look(model, self.gallery, world.rank > 0)
        metrics, samples = look.metrics()
        shown = {FILE: look.shown()} if world.rank == 0 else {}
        if was_training:
            model.train()
        return Measured(metrics, samples, {name: metrics[name].value for name in self.measures}, lambda: shown)


class Look:
    """One pass over a gallery: what every picture and every caption chooses."""

    def __init__(self, model: Unimo2, gallery: Gallery, silent: bool):
        self.model, self.gallery, self.silent = model, gallery, silent
        self.pictures = self._chosen("pictures", (self._choose(image=row) for row in range(len(gallery.pairs))))
        self.captions = self._chosen("captions", (self._choose(text=ids) for ids in gallery.captions.sequences))
        self.used = np.argsort(-self._usage, kind="stable")[:SHOWN]

    @paddle.no_grad()
    def _choose(self, image: int | None = None, text: list[int] | None = None) -> Grounding:
        """What a picture (by its row) and a caption (its token ids) choose, one of them or both together."""
        states = None
        if image is not None:
            pixels = self.gallery.picture(self.gallery.units[image])
            assert isinstance(pixels, Pixels)  # what this system reads
            states = self.model.vit(pixels.images)
        words = None if text is None else self.model.encode_text(self.gallery.text(text))[0]
        grounding = self.model.choose(states, words)
        assert grounding is not None  # of a model with a dictionary
        return grounding

    def _chosen(self, what: str, groundings: Iterable[Grounding]) -> Chosen:
        count = len(self.gallery.pairs if what == "pictures" else self.gallery.captions.ids)
        sets = np.zeros([count, self.model.config.num_codebook], bool)
        for row, grounding in enumerate(tqdm(groundings, total=count, desc=what, mininterval=2, disable=self.silent)):
            sets[row, grounding.chosen.numpy()] = True
        return Chosen(sets)

    @property
    def _usage(self) -> np.ndarray:
        """By pictures and captions alike. [C]"""
        return self.pictures.shares + self.captions.shares

    def metrics(self) -> tuple[dict[str, Metric], dict[str, Sample]]:
        """The overlaps in percent, and of pictures and captions how many codes any of them chooses, and the entropy of
        their choice in bits."""
        samples = overlaps(self.captions, self.pictures, self.gallery.captions.rows)
        found = {name: measure(sample) for name, sample in samples.items()}
        for name, chosen in (("pictures", self.pictures), ("captions", self.captions)):
            live, entropy = use_of(chosen.shares)
            found[f"live_codes_of_{name}"] = Metric(float(live), "codes")
            found[f"entropy_of_{name}"] = Metric(entropy, "bits")
        return found, samples

    def shown(self) -> dict[str, Any]:
        """What codes.json holds: the most used codes with their nearest patches and words, and heat-maps of pairs."""
        config, rows = self.model.config, self._rows(self.used)
        patches, words = self._nearest_patches(rows), self._nearest_words(rows)
        codes = [
            {
                "code": int(code),
                "pictures": 100 * float(self.pictures.shares[code]),
                "captions": 100 * float(self.captions.shares[code]),
                "patches": patches[i],
                "words": words[i],
            }
            for i, code in enumerate(self.used)
        ]
        count = len(self.gallery.pairs)
        chosen = np.unique(np.linspace(0, count - 1, min(PAIRS, count)).astype(int))
        side = self.gallery.settings.side or config.image_size
        grid = {"image_size": side, "patch": config.resolution, "shift": (config.resolution - 1) // 2}
        return {**grid, "codes": codes, "pairs": [self._mapped(row) for row in chosen]}

    def _rows(self, codes: Iterable[int]) -> Tensor:
        return self.model.dictionary.codes.index_select(paddle.to_tensor(np.array(codes))).detach()

    def _nearest_patches(self, codes: Tensor) -> list[list[dict[str, Any]]]:
        """Of each code the pictures whose nearest patch is the nearest, with that patch's number."""
        found = [closeness(self._choose(image=row), codes) for row in range(len(self.gallery.pairs))]  # (P, codes) each
        near, places = (np.array([getattr(one, best)(axis=0) for one in found]) for best in ("max", "argmax"))
        order = np.argsort(-near, axis=0, kind="stable")[:PATCHES]
        return [
            [{**self.gallery.named(row), "patch": int(places[row, i])} for row in order[:, i]]
            for i in range(len(codes))
        ]

    def _nearest_words(self, codes: Tensor) -> list[list[str]]:
        """Of each code the tokens that come nearest to it anywhere, each told once."""
        best: dict[int, np.ndarray] = {}
        for ids in self.gallery.captions.sequences:
            for token, near in zip(ids[1:-1], closeness(self._choose(text=ids), codes)):  # [CLS] has no vote
                best[token] = np.maximum(best.get(token, near), near)
        tokens = np.array([*best])
        order = np.argsort(-np.array([*best.values()]), axis=0, kind="stable")[:WORDS]
        return [self._said(tokens[order[:, i]]) for i in range(len(codes))]

    def _mapped(self, row: int) -> dict[str, Any]:
        """A picture with its first caption: where the most used of the codes that they choose together lie, 0 to 1."""
        caption = int(np.flatnonzero(self.gallery.captions.rows == row)[0])
        ids = self.gallery.captions.sequences[caption]
        grounding = self._choose(row, ids)
        together = sorted(np.unique(grounding.chosen.numpy()).tolist(), key=lambda code: -self._usage[code])[:MAPS]
        near = closeness(grounding, self._rows(together))
        near = (near - near.min(0)) / np.maximum(near.max(0) - near.min(0), 1e-12)
        words = self._said(ids[1:])
        patches = len(near) - len(words)
        maps = [
            {"code": code, "patches": near[:patches, i].tolist(), "words": near[patches:, i].tolist()}
            for i, code in enumerate(together)
        ]
        return {
            **self.gallery.named(row),
            "caption": self.gallery.captions.texts[caption],
            "words": words,
            "maps": maps,
        }

    def _said(self, tokens: Iterable[int]) -> list[str]:
        return [self.gallery.tokenizer.decode([int(token)]).strip() for token in tokens]
