"""UNIMO-2's pre-training: where it draws from, and which objectives run on which stream. The engine trains it.

The release has the losses and no program that trains by them; ratios, weights and what is drawn are ours.
"""

from collections.abc import Mapping

import numpy as np
import paddle
from paddle import Tensor, nn

from unimo.config import find, find_all
from unimo.engine.task import Task
from unimo.errors import ConfigError
from unimo.models.streams import Text, given
from unimo.models.unimo2 import Unimo2, Wanted
from unimo.pretrain.grounding import CodeUse, Revival, masked_code_loss
from unimo.pretrain.language import word_prediction_loss
from unimo.pretrain.matching import contrast_loss, matching_loss, view_loss
from unimo.pretrain.recipe import Masking
from unimo.pretrain.unimo2_recipe import FEEDS, Unimo2Recipe
from unimo.pretrain.unimo2_streams import CaptionedStream, ViewStream
from unimo.pretrain.unimo_streams import open_texts
from unimo.readers.annotations import read_images, read_pairs
from unimo.readers.batching import Batch, Source
from unimo.readers.images import open_pixels
from unimo.readers.tensors import as_pixels, as_text
from unimo.readers.tokenizer import Tokenizer

FILES = {"text": "texts", "image": "images", "pair": "pairs"}  # stream -> key of its file


def heads_of(recipe: Unimo2Recipe) -> tuple[str, ...]:
    """The heads that its objectives and the score of a pair need."""
    return ("pool", "match", "cmcl", "lm", *(["code"] if "code" in recipe.objectives else []))


def build_sources(recipe: Unimo2Recipe, tokenizer: Tokenizer) -> dict[str, Source]:
    """The streams that the recipe draws from, on the training split of its files.

    Raises:
        ConfigError: a stream's file is not named, its budget is missing, or no objective of it has a weight.
        DataError: a file is missing or broken.
    """
    streams = [name for name in FEEDS if recipe.streams.get(name)]
    problems = [f"stream {s} needs data.{FILES[s]}" for s in streams if not getattr(recipe.data, FILES[s])]
    problems += [f"stream {s} needs batch_positions.{s}" for s in streams if s not in recipe.batch_positions]
    problems += [
        f"no objective of stream {s} has a weight; give one of {', '.join(sorted(FEEDS[s]))}, or set streams.{s}=0"
        for s in streams
        if not FEEDS[s] & recipe.objectives.keys()
    ]
    if problems:
        raise ConfigError("the recipe's streams are incomplete\n  - " + "\n  - ".join(problems))
    named = {s: str(getattr(recipe.data, FILES[s])) for s in streams}
    find_all([*named.values(), *(recipe.pixels.shards if {"image", "pair"} & named.keys() else ())])
    masking = Masking(text_ratio=recipe.mask_ratio, seq2seq_share=0.0)
    codes = (recipe.model.topk_value, recipe.code_ratio) if "code" in recipe.objectives else None
    sources: dict[str, Source] = {}
    if "text" in named:
        sources["text"] = open_texts(find(named["text"]), tokenizer, masking, recipe.max_tokens)
    if "image" in named:
        path = find(named["image"])
        records = read_images(path)
        views = recipe.pixels.model_copy(update={"augmentation": recipe.views})
        images = open_pixels(records, path.parent, recipe.model, views)
        sources["image"] = ViewStream([record.image_id for record in records], images, codes)
    if "pair" in named:
        path = find(named["pair"])
        pairs = read_pairs(path, "train")
        images = open_pixels(pairs, path.parent, recipe.model, recipe.pixels)
        mismatched = recipe.mismatched if "match" in recipe.objectives else 0.0  # nothing else looks at them
        sources["pair"] = CaptionedStream(pairs, images, tokenizer, masking, mismatched, recipe.max_tokens, codes)
    return sources


class Unimo2Pretraining(Task):
    """Summed loss of each objective of one batch.

    text: mlm. image: view. pair: mlm, match, contrast. Each: dictionary, and code where some are masked.
    """

    model: Unimo2

    def __init__(self, model: Unimo2, recipe: Unimo2Recipe):
        super().__init__()
        self.model, self.recipe, self.weights = model, recipe, recipe.objectives
        self.use, self.revival = None, None
        if recipe.model.grounding_method != "none":
            self.use = CodeUse(recipe.model.num_codebook, recipe.engine.log_every)
            if recipe.revive_every:
                self.revival = Revival(recipe.model.num_codebook, recipe.revive_every, recipe.engine.seed)

    def items(self, batch: Batch) -> dict[str, int]:
        """Hidden words, pairings, pairs, pictures, samples with their codes, and masked codes."""
        inputs, samples, found = batch.inputs, len(batch.ids), {}
        if "text" in inputs:
            found["mlm"] = len(inputs["text"]["words"])
        if batch.stream == "pair":
            found["match"] = samples + len(inputs.get("others", {}).get("captions", ()))
            found["contrast"] = samples
        if batch.stream == "image":
            found["view"] = samples
        found["dictionary"] = 2 * samples if batch.stream == "image" else samples
        if "codes" in inputs:
            found["code"] = int(inputs["codes"]["masked"].sum())
        return {name: count for name, count in found.items() if name in self.weights}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objectives that `items` counts: each picture and each text is encoded once."""
        model, inputs, counts = self.model, batch.inputs, self.items(batch)
        text = as_text(inputs["text"]) if "text" in inputs else None
        words = None if text is None else model.encode_text(text)[0]
        images, wrong = None, None
        if "pixels" in inputs:
            images = model.vit(as_pixels(inputs["pixels"]).images)
            if batch.stream == "pair":
                images, wrong = images[: len(batch.ids)], images[len(batch.ids) :]
        masked = paddle.to_tensor(inputs["codes"]["masked"]) if "codes" in inputs else None
        wanted: Wanted = "all" if masked is not None else "text" if "mlm" in counts else "classes"
        encoded = model.ground(images, words, None if text is None else text.mask, masked_codes=masked, wanted=wanted)
        losses: dict[str, Tensor] = {}
        if "mlm" in counts:
            places, labels = (paddle.to_tensor(inputs["text"][name]) for name in ("words", "labels"))
            losses["mlm"] = word_prediction_loss(model, given(encoded.text), places, labels)
        if "view" in counts:
            losses["view"] = view_loss(model, encoded, self.recipe.view_temperature, self.world)
        if "match" in counts:
            losses["match"] = matching_loss(model, encoded, paddle.ones([len(batch.ids)], "int64"))
            if wrong is not None and len(wrong):
                losses["match"] = losses["match"] + self._mismatched(wrong, words, text, inputs["others"]["captions"])
        if "contrast" in counts:
            every = paddle.ones([len(batch.ids)])
            losses["contrast"] = contrast_loss(model, encoded, every, self.recipe.normalised, self.world)
        if "dictionary" in counts:
            losses["dictionary"] = model.dictionary_losses(encoded).sum()
        if "code" in counts:
            assert masked is not None
            losses["code"] = masked_code_loss(model, encoded, masked)
        if self.use is not None and encoded.grounding is not None:
            self.use.add(encoded.grounding.chosen)
            if self.revival is not None:
                self.revival.see(encoded.grounding)
        return losses

    def _mismatched(self, images: Tensor, words: Tensor | None, text: Text | None, captions: np.ndarray) -> Tensor:
        """The matching loss of pictures and the captions of others, whose rows are `captions`."""
        assert words is not None and text is not None  # of pairs
        rows = paddle.to_tensor(captions)
        paired = self.model.ground(images, words.index_select(rows), text.mask.index_select(rows), wanted="classes")
        return matching_loss(self.model, paired, paddle.zeros([len(captions)], "int64"))

    def kept(self) -> Mapping[str, nn.Layer]:
        """The counts of codes."""
        kept = {} if self.use is None else {"use": self.use}
        return kept if self.revival is None else {**kept, "revival": self.revival}

    def after_update(self, step: int) -> None:
        """Let an interval of those counts end with the log's, and revive codes if that is asked for."""
        if self.use is not None:
            self.use.after_update(step)
        if self.revival is not None:
            self.revival.after_update(step, self.model.dictionary, self.world)

    def observed(self) -> dict[str, float]:
        """Codes in use, the entropy of their choice, the temperatures; codes revived so far."""
        found = {"contrast_temperature": float(self.model.contrast_temperature())}
        if self.use is not None:
            found |= self.use.facts(self.world) | {"code_temperature": float(self.model.dictionary.temperature)}
        if self.revival is not None:
            found["revived_codes"] = float(self.revival.count)
        return found


def build_task(model: Unimo2, recipe: Unimo2Recipe) -> Unimo2Pretraining:
    """The task of a recipe."""
    return Unimo2Pretraining(model, recipe)
