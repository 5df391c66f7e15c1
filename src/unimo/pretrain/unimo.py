"""Where UNIMO's pre-training draws from: the streams of a recipe, on the training split of its files."""

from collections.abc import Set

from unimo.config import find
from unimo.errors import ConfigError
from unimo.models.unimo import UnimoConfig
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.unimo_streams import ImageStream, PairStream, TextStream, TokenStream
from unimo.readers.annotations import read_images, read_pairs, read_rewrites, read_texts
from unimo.readers.batching import Source
from unimo.readers.feature_store import FeatureStore
from unimo.readers.images import open_regions
from unimo.readers.token_shards import TokenShards
from unimo.readers.tokenizer import Tokenizer


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
    images = None
    if data.regions and streams & {"image", "pair"}:
        images = open_regions(data.regions, recipe.model, recipe.max_regions)
        if recipe.weights.get("region_class"):
            _check_classes(images.stores[0], recipe.model)
    sources: dict[str, Source] = {}
    if "text" in streams:
        assert data.texts  # this and the other files were asked for above
        texts = find(data.texts)
        if texts.is_dir():
            shards = TokenShards(texts, tokenizer)
            sources["text"] = TokenStream(shards, tokenizer, recipe.masking, recipe.max_tokens)
        else:
            sources["text"] = TextStream(read_texts(texts), tokenizer, recipe.masking, recipe.max_tokens)
    if "image" in streams:
        assert data.images and images
        listed = read_images(find(data.images))
        sources["image"] = ImageStream([image.image_id for image in listed], images, recipe.masking)
    if "pair" in streams:
        assert data.pairs and images
        pairs = read_pairs(find(data.pairs), "train")
        contrast = recipe.contrast if recipe.weights.get("cmcl") else None
        rewrites = read_rewrites(find(data.rewrites), pairs) if data.rewrites else {}
        sources["pair"] = PairStream(pairs, rewrites, images, tokenizer, recipe.masking, contrast, recipe.max_tokens)
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
