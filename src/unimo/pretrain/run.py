"""`unimo pretrain`: a recipe -> model, streams and task -> the engine."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paddle

from unimo import paper
from unimo.config import dump, find
from unimo.engine.distributed import World
from unimo.engine.events import ConfigFile, Evaluation
from unimo.engine.loop import train
from unimo.engine.model_folder import write_description
from unimo.errors import ConfigError
from unimo.evaluate.gallery import Gallery, open_store
from unimo.models.unimo import Unimo
from unimo.pretrain.objectives import HEADS, Pretraining
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.streams import ImageStream, PairStream, TextStream, TokenStream
from unimo.readers.annotations import read_images, read_pairs, read_rewrites, read_texts
from unimo.readers.batching import Source, Stream
from unimo.readers.mixing import Mixer
from unimo.readers.token_shards import TokenShards
from unimo.readers.tokenizer import Tokenizer, load_tokenizer
from unimo.zoo import start


def pretrain(recipe: PretrainRecipe, run_dir: Path, events: Sequence[Any] = ()) -> dict[str, Any]:
    """Train, or resume, the run of a recipe in `run_dir`. Returns the last update's log record.

    With `engine.eval_every` the zero-shot retrieval recalls of the pairs' dev split are logged on the way.
    """
    tokenizer = load_tokenizer(find(recipe.tokenizer))
    model = build_model(recipe, tokenizer)
    sources = build_sources(recipe, tokenizer)
    world = World()
    streams = {
        name: Stream(
            source,
            recipe.batch_positions[name],
            recipe.engine.seed,
            world.rank,
            world.size,
            multiple=recipe.batch_multiple,
        )
        for name, source in sources.items()
    }
    ratios = {name: recipe.streams[name] for name in streams}
    data = Mixer(streams, ratios, recipe.engine.seed, recipe.engine.accumulate)
    task = Pretraining(model, recipe.weights, recipe.contrast.temperature)

    def describe(folder: Path) -> None:
        write_description(folder, model, tokenizer)
        (folder / "recipe.yaml").write_text(dump(recipe), encoding="utf-8")

    if world.rank == 0:
        if recipe.paper:
            print(paper.describe(recipe.paper))
        for name, source in sources.items():
            print(f"stream {name}: {len(source.lengths)} samples, ratio {recipe.streams[name]:g}", flush=True)
    events = [ConfigFile(dump(recipe)), *events, *evaluation(recipe, model, tokenizer)]
    return train(task, data, recipe.engine, run_dir, events, describe)


def build_model(recipe: PretrainRecipe, tokenizer: Tokenizer) -> Unimo:
    """The recipe's model with the pre-training heads, started from the checkpoint that the recipe names, if any."""
    if tokenizer.vocab_size > recipe.model.vocab_size:
        raise ConfigError(
            f"the tokenizer {recipe.tokenizer} has {tokenizer.vocab_size} tokens, model.vocab_size is "
            f"{recipe.model.vocab_size}; set model.vocab_size={tokenizer.vocab_size}"
        )
    paddle.seed(recipe.engine.seed)
    model = Unimo(recipe.model, HEADS)
    if recipe.initialise_from:
        try:
            source = find(recipe.initialise_from)
        except ConfigError:  # no path: `start` takes it for a name of the zoo
            source = recipe.initialise_from
        for line in start(model, source):
            print(textwrap.shorten(line, 300), flush=True)
    return model


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
    feeds = {"text": {"mlm", "seq2seq"}, "image": {"region_feature", "region_class"}, "pair": set(recipe.weights)}
    idle = sorted(name for name in streams if not feeds[name] & {k for k, v in recipe.weights.items() if v})
    if idle:
        raise ConfigError(
            f"no objective of stream {', '.join(idle)} has a weight; give one, or set streams.{idle[0]}=0"
        )
    store = open_store(data.regions, recipe.model) if data.regions and streams & {"image", "pair"} else None
    if store and recipe.weights.get("region_class") and not store.header["class_probs"]:
        raise ConfigError(
            f"feature store {data.regions} holds no class_probs for region_class to predict; set weights.region_class=0"
        )
    if store and recipe.weights.get("region_class") and store.num_classes != recipe.model.image_class_size:
        raise ConfigError(
            f"feature store {data.regions} has {store.num_classes} classes, model.image_class_size is "
            f"{recipe.model.image_class_size}; set model.image_class_size={store.num_classes}"
        )
    sources: dict[str, Source] = {}
    if "text" in streams:
        texts = find(data.texts)
        if texts.is_dir():
            shards = TokenShards(texts, tokenizer)
            sources["text"] = TokenStream(shards, tokenizer, recipe.masking, recipe.max_tokens)
        else:
            sources["text"] = TextStream(read_texts(texts), tokenizer, recipe.masking, recipe.max_tokens)
    if "image" in streams:
        images = read_images(find(data.images))
        sources["image"] = ImageStream(images, store, recipe.masking, recipe.max_regions)
    if "pair" in streams:
        pairs = read_pairs(find(data.pairs), "train")
        contrast = recipe.contrast if recipe.weights.get("cmcl") else None
        rewrites = read_rewrites(find(data.rewrites), pairs) if data.rewrites else {}
        sources["pair"] = PairStream(
            pairs, rewrites, store, tokenizer, recipe.masking, contrast, recipe.max_tokens, recipe.max_regions
        )
    return sources


def evaluation(recipe: PretrainRecipe, model: Unimo, tokenizer: Tokenizer) -> list[Evaluation]:
    """Zero-shot retrieval on the dev split, where the recipe asks for it."""
    if not recipe.engine.eval_every or not recipe.data.pairs:
        return []
    store = open_store(recipe.data.regions, recipe.model)
    pairs = read_pairs(find(recipe.data.pairs), "dev")
    gallery = Gallery(pairs, store, tokenizer, recipe.max_tokens, recipe.max_regions)
    return [Evaluation(lambda: gallery.recall(model), "mean_recall")]
