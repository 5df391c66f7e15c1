"""`unimo finetune` and `unimo evaluate`: one runner for every family of tasks, on every system that has its streams."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import paddle
from paddle import nn

from unimo import paper
from unimo.config import Config, dump, find_all, load_named, validate
from unimo.console import say
from unimo.engine import checkpoint
from unimo.engine.distributed import World
from unimo.engine.events import ConfigFile
from unimo.engine.loop import train
from unimo.engine.model_folder import (
    locate,
    other_features,
    read_network,
    read_recipe,
    read_sizes,
    write_description,
)
from unimo.engine.seen import Seen, seen_at_start, seen_by
from unimo.engine.task import Task
from unimo.errors import ConfigError
from unimo.evaluate.codes import CodeSettings, CodeUsage
from unimo.evaluate.gallery import Gallery, RetrievalSettings
from unimo.evaluate.on_the_way import check_measured, highest, on_the_way
from unimo.evaluate.pair_scorers import SCORERS
from unimo.evaluate.results import Evaluator, earlier_results, write_result
from unimo.evaluate.understanding import Understanding, UnderstandingSettings
from unimo.evaluate.zero_shot import ZeroShot, ZeroShotSettings
from unimo.finetune import classify, dual_encoder, retrieval
from unimo.models.systems import check_length, system_of, with_heads
from unimo.readers.annotations import Split
from unimo.readers.batching import Source, Stream
from unimo.readers.mixing import Mixer
from unimo.readers.tokenizer import Tokenizer, load_tokenizer
from unimo.storage.locks import check_free, check_writable


class DescribedSource(Source, Protocol):
    """A source that can say what it is."""

    about: str  # for people
    even: bool  # whether every process needs as many samples of a batch


class Evaluation(NamedTuple):
    """What `unimo evaluate` can measure."""

    systems: Collection[str]  # that can do it
    settings: type[Config]  # the options of `unimo evaluate NAME`, and property files
    evaluate: Callable[[Any, Tokenizer, Any, Split], Evaluator]  # (sizes of the model, tokenizer, settings, split)
    result: str  # the task that metrics.json names, by which results are compared
    # Settings that are the run's own unless they are given, beside max_... and those of pixels.
    own: tuple[str, ...] = ()


class Family(NamedTuple):
    """Tasks of one shape that a model is fine-tuned for."""

    recipe: type[Config]  # keys family, max_tokens, engine, paper, properties batch_positions, files
    source: Callable[[Any, Any, Tokenizer], DescribedSource]  # (recipe, model sizes, tokenizer)
    task: Callable[[nn.Layer, Any, Any], Task]  # (model, recipe, source)
    heads: Callable[[Any, str], tuple[str, ...]]  # (recipe, system): those that the model is trained with
    evaluation: Evaluation
    sizes: Callable[[Any, Any], Any] = lambda recipe, config: config  # (recipe, sizes of the start): of what is trained
    settled: Callable[[Any], Any] = lambda recipe: recipe  # with what it names in files that may change


FAMILIES = {  # each has its line in finetune.ABOUT
    "retrieval": Family(
        retrieval.RetrievalRecipe,
        retrieval.RetrievalStream,
        lambda model, recipe, source: retrieval.RetrievalTask(model, recipe),
        lambda recipe, system: retrieval.HEADS[system],
        Evaluation(retrieval.HEADS, RetrievalSettings, Gallery, "retrieval"),
    ),
    "dual_encoder": Family(
        dual_encoder.DualEncoderRecipe,
        dual_encoder.DualEncoderStream,
        dual_encoder.DualEncoderTask,
        lambda recipe, system: dual_encoder.HEADS[system],
        Evaluation(dual_encoder.HEADS, RetrievalSettings, Gallery, "retrieval"),
    ),
    "classify": Family(
        classify.ClassifyRecipe,
        classify.ClassifyStream,
        lambda model, recipe, source: classify.ClassifyTask(model, recipe),
        classify.heads,
        Evaluation(
            classify.SYSTEMS,
            UnderstandingSettings,
            Understanding,
            "classify",
            ("target", "labels", "evaluation_batch"),
        ),
        classify.sizes,
        classify.settled,
    ),
}
EVALUATIONS = {name: family.evaluation for name, family in FAMILIES.items()} | {  # those alone: finetune.LOOKED_AT
    "codes": Evaluation(("unimo-2",), CodeSettings, CodeUsage, "codes"),
    "zero_shot": Evaluation(SCORERS, ZeroShotSettings, ZeroShot, "classify"),
}


def load_recipe(path: str | Path, overrides: Iterable[str] = (), family: str | None = None) -> Any:
    """The recipe of a YAML file, of the family that it names; without a name, of `family`, else of retrieval.

    Raises:
        ConfigError: it is of another family than `family`, or its keys are wrong.
    """
    recipe = load_named(FAMILIES, "family", family or "retrieval", path, overrides)
    if family not in (None, recipe.family):
        raise ConfigError(f"{path} is a recipe of family {recipe.family}, not of {family}")
    return recipe


def settings_of(evaluation: Evaluation, values: Mapping[str, Any], **given: Any) -> Any:
    """The settings of an evaluation: those given, and for the others what `values`, or their `pixels`, say of them."""
    values = {**values, **(values.get("pixels") or {})}
    known = {name: values[name] for name in evaluation.settings.model_fields if values.get(name) is not None}
    asked = {name: value for name, value in given.items() if value not in (None, ())}
    return validate(evaluation.settings, known | asked, "the evaluation")


def check_finetuning(recipe: Any, run_dir: Path) -> None:
    """Before a model is fetched or read: raise a ConfigError for files that lack and a run folder that is not free."""
    find_all(recipe.files)
    if World().rank == 0:  # who holds it for all
        check_free(run_dir)


def check_evaluation(name: str, output: Path, **given: Any) -> None:
    """The same for an evaluation, and for settings that are wrong."""
    find_all(settings_of(EVALUATIONS[name], {}, **given).files)
    check_writable(output)


def finetune(
    recipe: Any,
    start: Path,
    run_dir: Path,
    split: Split = "test",
    label: str = "fine-tuned",
    events: Sequence[Any] = (),
    against: Sequence[Path] = (),
) -> list[str]:
    """Fine-tune the model of folder `start` on the training split, or resume; then evaluate the best checkpoint.

    All data is opened by the sizes of the model before its weights are read.

    With `engine.eval_every` the dev split is evaluated on the way and the best checkpoint is named, which
    `model_folder.locate` then takes. Returns the results as lines of text, on rank 0.
    """
    family, evaluation = FAMILIES[recipe.family], FAMILIES[recipe.family].evaluation
    recipe = family.settled(recipe)
    config, tokenizer = _sizes(family, recipe, start), load_tokenizer(start)
    world, engine = World(), recipe.engine
    source = family.source(recipe, config, tokenizer)
    stream = Stream(source, recipe.batch_positions, engine.seed, world.rank, world.size, multiple=1, even=source.even)
    data = Mixer({source.name: stream}, {source.name: 1}, engine.seed, engine.accumulate)
    engine = engine.over(data.updates_per_epoch)
    recipe = recipe.model_copy(update={"engine": engine})
    settings = settings_of(evaluation, recipe.model_dump())
    facts = {"label": label, "start": str(start), "seed": engine.seed, "compat": engine.compat.model_dump()}
    facts |= {"paper": paper.join(recipe.paper)} if recipe.paper else {}
    final = evaluation.evaluate(config, tokenizer, settings, split)  # opened before hours of work: files may lack
    earlier_results(against, evaluation.result, {**facts, **final.facts}, final.units)
    if engine.eval_every:
        dev = evaluation.evaluate(config, tokenizer, settings, "dev")
        check_measured(dev, engine)
    model, random_heads = _start(family, recipe, start, config)
    task = family.task(model, recipe, source)
    if world.rank == 0:
        if recipe.paper:
            print(paper.describe(recipe.paper))
        print(f"start: {start}; {source.about}", flush=True)
        if random_heads:
            print(f"warning: {', '.join(random_heads)} not in the checkpoint, starting at random", flush=True)
    events = [ConfigFile(dump(recipe)), *events]
    if engine.eval_every:
        events.append(on_the_way(dev, task))
    features = final.facts.get("features", {})
    if world.rank == 0 and (warning := other_features(start, features)):
        say(warning)
    training = f"fine-tuned on {source.about}, of {', '.join(recipe.files[:1])} (training split)"
    seen = Seen(before=seen_at_start([start]), training=training)
    described = {"model": model, "tokenizer": tokenizer, "recipe": recipe, "features": features, "seen": seen}
    describe = partial(write_description, **described)
    train(task, data, engine, run_dir, events, describe, {"start": checkpoint.digest(start)})

    folder = task.world.broadcast(str(locate(run_dir)) if world.rank == 0 else None)
    if world.rank == 0:
        checkpoint.load_model(Path(folder), model)
        facts |= {"highest_on_the_way": highest(run_dir)} if engine.eval_every else {}
    task.world.share(model)
    return _evaluate(evaluation.result, final, model, run_dir, facts | _model(folder), against, task.world)


def _model(folder: str | Path) -> dict[str, str]:
    """What metrics.json says of the model of a folder: where it is, and what it has seen where that is known."""
    seen = "; ".join(seen_by(Path(folder)))
    return {"model": str(folder)} | ({"seen": seen} if seen else {})


def _sizes(family: Family, recipe: Any, start: Path) -> Config:
    """The config of the model to fine-tune, which must be of a system that can do the task and have positions for its
    texts."""
    found, _ = read_sizes(start, tuple(family.evaluation.systems))
    config: Config = family.sizes(recipe, found)
    try:
        check_length(recipe.max_tokens, config)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return config


def _start(family: Family, recipe: Any, start: Path, config: Config) -> tuple[nn.Layer, list[str]]:
    """The model to fine-tune with the task's heads, and the parts that start at random."""
    pretrained = read_network(start, tuple(family.evaluation.systems))
    paddle.seed(recipe.engine.seed)  # for heads that the checkpoint lacks
    return with_heads(pretrained, family.heads(recipe, system_of(pretrained)), config)


def evaluate(
    name: str, folder: Path, output: Path, split: Split, facts: Mapping[str, Any], against: Sequence[Path], **given: Any
) -> list[str]:
    """Evaluate a model folder by the limits of the run that it came from, where it says, unless others are given.

    Args:
        name: of the evaluation. given: its settings.
        facts: what else metrics.json is to say: label, paper.
        against: folders of earlier results on the split to compare with.

    Returns:
        The results as lines of text, on rank 0.
    """
    evaluation, world = EVALUATIONS[name], World()
    world.connect(sharding=0)
    (config, _), tokenizer = read_sizes(folder, tuple(evaluation.systems)), load_tokenizer(folder)
    own = read_recipe(folder)
    limits = {key: value for key, value in own.items() if key.startswith("max_") or key in evaluation.own}
    pixels = own.get("pixels") or {}
    limits |= {key: pixels.get(key) for key in ("preparation", "side")}  # its shards may not have these pictures
    evaluator = evaluation.evaluate(config, tokenizer, settings_of(evaluation, limits, **given), split)
    earlier_results(against, evaluation.result, {**facts, **evaluator.facts}, evaluator.units)  # before hours of work
    facts = {**facts, **_model(folder)}
    if world.rank == 0 and (warning := other_features(folder, evaluator.facts.get("features", {}))):
        say(warning)
        facts = {**facts, "warning": warning}
    model = read_network(folder, tuple(evaluation.systems))
    return _evaluate(evaluation.result, evaluator, model, output, facts, against, world)


def _evaluate(
    task: str,
    evaluator: Evaluator,
    model: nn.Layer,
    output: Path,
    facts: Mapping[str, Any],
    against: Sequence[Path],
    world: World,
) -> list[str]:
    """Measure a model with all connected processes; rank 0 writes metrics.json and what belongs to it."""
    if world.rank == 0:
        print(evaluator.plan(model), flush=True)
    found = evaluator.measure(model, world)
    facts = {**facts, **evaluator.facts, **found.facts}
    if world.rank:
        return []
    return write_result(output, task, found.metrics, facts, found.samples, evaluator.units, found.shown(), against)
