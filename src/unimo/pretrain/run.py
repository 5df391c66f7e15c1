"""`unimo pretrain`: a recipe of any system -> model, streams and task -> the engine."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from unimo import zoo
from unimo.config import dump, find
from unimo.engine.distributed import World
from unimo.engine.events import ConfigFile, Run
from unimo.engine.loop import train
from unimo.engine.model_folder import write_description
from unimo.engine.seen import Seen, seen_at_start
from unimo.errors import ConfigError
from unimo.evaluate.gallery import Gallery, RetrievalSettings
from unimo.evaluate.on_the_way import check_measured, on_the_way
from unimo.models.systems import SYSTEMS, check_vocabulary
from unimo.paper import describe
from unimo.pretrain.systems import PRETRAINING
from unimo.readers.annotations import write_jsonl
from unimo.readers.batching import Stream
from unimo.readers.mixing import Mixer
from unimo.readers.tokenizer import Tokenizer, load_tokenizer
from unimo.storage.locks import check_free
from unimo.zoo.catalogue import named


def pretrain(recipe: Any, run_dir: Path, events: Sequence[Any] = ()) -> dict[str, Any]:
    """Train, or resume, the run of a recipe in `run_dir`. Returns the last update's log record.

    With `engine.eval_every` the zero-shot retrieval recalls of the pairs' dev split are logged on the way.
    Data, run folder and name of the start are looked at before the model is built and its weights are read.
    """
    system, world = PRETRAINING[recipe.system], World()
    if world.rank == 0:  # who holds it for all
        check_free(run_dir)
    starts = starts_of(recipe)
    tokenizer = load_tokenizer(find(recipe.tokenizer))
    check_vocabulary(tokenizer.vocab_size, recipe.model, recipe.tokenizer)
    sources = system.sources(recipe, tokenizer)
    seed = recipe.engine.seed
    streams = {
        name: Stream(
            source,
            recipe.batch_positions[name],
            seed,
            world.rank,
            world.size,
            multiple=recipe.batch_multiple,
            even=getattr(source, "even", False),
        )
        for name, source in sources.items()
    }
    mixer = Mixer(streams, {name: recipe.streams[name] for name in streams}, seed, recipe.engine.accumulate)
    engine = recipe.engine.over(mixer.updates_per_epoch)
    recipe, dev = recipe.model_copy(update={"engine": engine}), dev_gallery(recipe, tokenizer)
    if world.rank == 0:
        if recipe.paper:
            print(describe(recipe.paper))
        for name, source in sources.items():
            print(f"stream {name}: {len(source.lengths)} samples, ratio {recipe.streams[name]:g}", flush=True)
    model = build_model(recipe, tokenizer)
    task = system.task(model, recipe)
    events = [ConfigFile(dump(recipe)), BrokenPictures(sources.values()), *events]
    events += [on_the_way(dev, task)] if dev else []
    features = next((source.images.origin for source in sources.values() if hasattr(source, "images")), None)
    seen = Seen(before=seen_at_start(starts), training=_training(recipe, sources))
    described = {"model": model, "tokenizer": tokenizer, "recipe": recipe, "features": features, "seen": seen}
    extras = partial(write_description, **described)
    return train(task, mixer, engine, run_dir, events, extras)


class BrokenPictures:
    """`broken.jsonl` of a run: id and reason of each picture that another stood in for, on any process."""

    def __init__(self, sources: Iterable[Any]):
        images = [source.images for source in sources if hasattr(source, "images")]
        self.found = [image.broken for image in images if hasattr(image, "broken")]

    def on_log(self, run: Run) -> None:
        """Write the list anew where there is one. Every rank takes part."""
        everyone = run.world.gather({image_id: why for broken in self.found for image_id, why in broken.items()})
        listed = {image_id: why for broken in everyone for image_id, why in broken.items()}
        if listed and run.world.rank == 0:
            write_jsonl(run.run_dir / "broken.jsonl", [{"id": i, "reason": why} for i, why in sorted(listed.items())])


def _training(recipe: Any, sources: Mapping[str, Any]) -> str:
    """What a run trains on, for people."""
    named = {"pair": ("training captions", "pairs"), "image": ("pictures", "images"), "text": ("texts", "texts")}
    parts = []
    for name, source in sources.items():
        what, file = named.get(name, (f"samples of stream {name}", name))
        parts.append(f"{len(source.lengths)} {what} of {getattr(recipe.data, file, None)}")
    return f"pre-trained on {', '.join(parts)}"


def build_model(recipe: Any, tokenizer: Tokenizer) -> nn.Layer:
    """The recipe's model with the heads of its pre-training, started from what the recipe names, else at random."""
    check_vocabulary(tokenizer.vocab_size, recipe.model, recipe.tokenizer)
    paddle.seed(recipe.engine.seed)
    model = SYSTEMS[recipe.system].model(recipe.model, PRETRAINING[recipe.system].heads(recipe))
    for line in zoo.start(model, *starts_of(recipe)):
        print(textwrap.shorten(line, 300), flush=True)
    return model


def starts_of(recipe: Any) -> list[str | Path]:
    """What the recipe starts from: paths and names of the zoo, or nothing; raises a ConfigError if one is neither."""
    asked, found = recipe.initialise_from, list[str | Path]()
    for source in (asked,) if isinstance(asked, str) else asked or ():
        try:
            found.append(find(source))
        except ConfigError:  # no path
            named(source)
            found.append(source)
    return found


def dev_gallery(recipe: Any, tokenizer: Tokenizer) -> Gallery | None:
    """Zero-shot retrieval on the dev split, where the recipe asks for it."""
    if not recipe.engine.eval_every or not recipe.data.pairs:
        return None
    settings = RetrievalSettings(pairs=recipe.data.pairs, **recipe.reading)
    dev = Gallery(recipe.model, tokenizer, settings, "dev")
    check_measured(dev, recipe.engine)
    return dev
