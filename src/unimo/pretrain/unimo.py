"""UNIMO's pre-training: where it draws from, and which objectives run on which stream. The engine trains it."""

from collections.abc import Mapping, Set

import paddle
from paddle import Tensor

from unimo.config import find, find_all
from unimo.engine.task import Task
from unimo.errors import ConfigError
from unimo.evaluate.pair_scorers import pair_scorer, pair_scores
from unimo.models.layers import seq2seq_mask
from unimo.models.streams import Regions, Text
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.pretrain.contrast import cmcl_loss
from unimo.pretrain.language import word_prediction_loss
from unimo.pretrain.recipe import Objective, PretrainRecipe
from unimo.pretrain.regions import feature_regression_loss, hidden_rows, soft_class_loss, without_hidden
from unimo.pretrain.unimo_streams import ImageStream, PairStream, open_texts
from unimo.readers.annotations import read_images, read_pairs, read_rewrites
from unimo.readers.batching import Batch, Source
from unimo.readers.feature_store import FeatureStore
from unimo.readers.images import open_regions, trainable
from unimo.readers.tensors import as_regions, as_text
from unimo.readers.tokenizer import Tokenizer

Losses = dict[str, Tensor]
HEADS = ("pool", "lm", "match", "region_feature", "region_class")


def build_sources(recipe: PretrainRecipe, tokenizer: Tokenizer) -> dict[str, Source]:
    """The streams that the recipe draws from, on the training split of its files.

    Raises:
        ConfigError: a stream's files are not named, its budget is missing, or files do not fit the model; all at once.
        DataError: a file is missing or broken.
    """
    data, streams = recipe.data, {name for name, ratio in recipe.streams.items() if ratio > 0}
    needs = {"text": ["texts"], "image": ["images", "regions"], "pair": ["pairs", "regions"]}
    problems = [
        f"stream {name} needs data.{file}" for name in streams for file in needs[name] if not getattr(data, file)
    ]
    problems += [
        f"stream {name} needs batch_positions.{name}" for name in streams if name not in recipe.batch_positions
    ]
    if problems:
        raise ConfigError("the recipe's streams are incomplete\n  - " + "\n  - ".join(sorted(problems)))
    feeds: dict[str, Set[str]] = {
        "text": {"mlm", "seq2seq"},
        "image": {"region_feature", "region_class"},
        "pair": recipe.weights.keys(),
    }
    idle = sorted(name for name in streams if not feeds[name] & {k for k, v in recipe.weights.items() if v})
    if idle:
        raise ConfigError(
            f"no objective of stream {', '.join(idle)} has a weight; give one, or set streams.{idle[0]}=0"
        )
    files = [file for file in ("texts", "images", "pairs") if any(file in needs[name] for name in streams)]
    files += ["rewrites"] if "pair" in streams and data.rewrites else []
    find_all([*(getattr(data, file) for file in files), *(data.regions if streams & {"image", "pair"} else ())])
    images = None
    if data.regions and streams & {"image", "pair"}:
        images = open_regions(data.regions, recipe.model, recipe.max_regions)
        if recipe.weights.get("region_class"):
            _check_classes(images.stores[0], recipe.model)
    sources: dict[str, Source] = {}
    if "text" in streams:
        assert data.texts  # this and the other files were asked for above
        sources["text"] = open_texts(find(data.texts), tokenizer, recipe.masking, recipe.max_tokens)
    if "image" in streams:
        assert data.images and images
        listed = trainable(read_images(find(data.images)), images)
        sources["image"] = ImageStream([image.image_id for image in listed], images, recipe.masking)
    if "pair" in streams:
        assert data.pairs and images
        pairs = trainable(read_pairs(find(data.pairs), "train"), images)
        contrast = recipe.contrast if recipe.weights.get("cmcl") else None
        rewrites = read_rewrites(find(data.rewrites), pairs) if data.rewrites else {}
        limits = recipe.max_tokens, recipe.batch_positions["pair"]
        sources["pair"] = PairStream(pairs, rewrites, images, tokenizer, recipe.masking, contrast, *limits)
    return sources


def _check_classes(store: FeatureStore, config: UnimoConfig) -> None:
    """Stores of one run are alike, so any of them tells whether region_class can be trained."""
    if not store.header["class_probs"]:
        raise ConfigError(
            f"feature store {store.path} holds no class_probs for region_class to predict; set weights.region_class=0"
        )
    if store.num_classes != config.image_class_size:
        raise ConfigError(
            f"feature store {store.path} has {store.num_classes} classes, model.image_class_size is "
            f"{config.image_class_size}; set model.image_class_size={store.num_classes}"
        )


class UnimoPretraining(Task):
    """Summed loss of each objective of one batch.

    text: mlm or seq2seq. image: region_feature, region_class. pair: the same on both streams at once, and cmcl.
    """

    model: Unimo

    def __init__(self, model: Unimo, weights: Mapping[Objective, float], temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature
        self.weights = {name: weight for name, weight in weights.items() if weight}

    def items(self, batch: Batch) -> dict[str, int]:
        """Words and regions that were hidden, and pairs that are contrasted; not those of an objective of no weight."""
        inputs, found = batch.inputs, {}
        if "text" in inputs:
            found["seq2seq" if "source_lengths" in inputs["text"] else "mlm"] = len(inputs["text"]["labels"])
        if "regions" in inputs:
            found["region_feature"] = int(inputs["regions"]["hidden"].sum())
        if "class_probs" in inputs.get("regions", {}):
            found["region_class"] = found["region_feature"]
        if "contrast" in inputs:
            found["cmcl"] = len(inputs["contrast"]["grid"])
        return {name: count for name, count in found.items() if name in self.weights}

    def forward(self, batch: Batch) -> Losses:
        """The objectives that `items` counts: all but `cmcl` in one masked pass, `cmcl` in passes without masks."""
        objectives = self.items(batch).keys()
        regions = as_regions(batch.inputs["regions"]) if "regions" in batch.inputs else None
        losses = self._masked(batch.inputs, objectives, regions)
        if "cmcl" in objectives:
            assert regions is not None  # only pairs are contrasted
            losses["cmcl"] = self._contrast(batch.inputs, regions)
        return losses

    def _masked(self, inputs: dict, objectives: Set[str], whole: Regions | None) -> Losses:
        """One pass over what the masks left, and the objectives that predict what they took."""
        if not objectives - {"cmcl"}:
            return {}
        model = self.model
        losses: Losses = {}
        text = as_text(inputs["text"]) if "text" in inputs else None
        regions, attention_mask = None, None
        if whole is not None:
            hidden = inputs["regions"]["hidden"]
            regions = without_hidden(whole, paddle.to_tensor(hidden))
        if "source_lengths" in inputs.get("text", {}):
            attention_mask = fragment_mask(inputs["text"], regions)
        encoded = model(text, regions, attention_mask=attention_mask)
        for name in objectives & {"mlm", "seq2seq"}:
            words, labels = (paddle.to_tensor(inputs["text"][k]) for k in ("words", "labels"))
            losses[name] = word_prediction_loss(model, encoded.text, words, labels)
        if whole is not None and objectives & {"region_feature", "region_class"}:
            states = hidden_rows(encoded.regions, hidden)
            if "region_feature" in objectives:
                losses["region_feature"] = feature_regression_loss(model, states, hidden_rows(whole.features, hidden))
            if "region_class" in objectives:
                target = paddle.to_tensor(inputs["regions"]["class_probs"])
                losses["region_class"] = soft_class_loss(model, states, target)
        return losses

    def _contrast(self, inputs: dict, regions: Regions) -> Tensor:
        """CMCL over all four candidate sets; sets that the files leave empty are simply not there."""
        captions, images = inputs["captions"], as_regions(inputs["contrast_images"])
        rows, columns, calls = (inputs["pairings"][name] for name in ("captions", "images", "calls"))
        scores = [pair_scores(pair_scorer(self.model), captions, images, rows, columns, calls)]
        if "retrieved_texts" in inputs:
            scores.append(self._retrieved_texts(inputs["retrieved_texts"], regions))
        if "retrieved_images" in inputs:
            scores.append(self._retrieved_images(inputs["retrieved_images"], as_text(inputs["own_captions"])))
        grid, positive, valid = (paddle.to_tensor(inputs["contrast"][k]) for k in ("grid", "positive", "valid"))
        return cmcl_loss(paddle.concat(scores)[grid], positive, valid, self.temperature)

    def _retrieved_texts(self, retrieved: dict, regions: Regions) -> Tensor:
        """X^T: a sentence encoded alone against its pair's image encoded alone. [n]"""
        texts = self.model.pooled_text(self.model(as_text(retrieved)))
        images = self.model.pooled_image(self.model(regions=regions))
        return self.model.match(texts, images.index_select(paddle.to_tensor(retrieved["partner"]))).squeeze(1)

    def _retrieved_images(self, retrieved: dict, captions: Text) -> Tensor:
        """X^I: an image encoded alone against its pair's caption encoded alone. [n]"""
        images = self.model.pooled_image(self.model(regions=as_regions(retrieved)))
        texts = self.model.pooled_text(self.model(captions))
        return self.model.match(texts.index_select(paddle.to_tensor(retrieved["partner"])), images).squeeze(1)


def build_task(model: Unimo, recipe: PretrainRecipe) -> UnimoPretraining:
    """The task of a recipe."""
    return UnimoPretraining(model, recipe.weights, recipe.contrast.temperature)


def fragment_mask(text: dict, regions: Regions | None) -> Tensor:
    """Attention of seq2seq prediction: the target sees the source and its past; with an image, everyone sees it too.

    The image sees itself and the source, never the target. [B, N + S, N + S]
    """
    source, lengths = paddle.to_tensor(text["source_lengths"]), paddle.to_tensor(text["lengths"])
    if regions is None:
        return seq2seq_mask(source, lengths, text["ids"].shape[1])
    slots, size = regions.mask.shape[1], text["ids"].shape[1]
    whole = seq2seq_mask(source + slots, lengths + slots, slots + size)  # the image as a prefix of the source
    keys = paddle.concat([regions.mask, paddle.ones([len(lengths), size])], axis=1)
    return whole * keys.unsqueeze(1)
