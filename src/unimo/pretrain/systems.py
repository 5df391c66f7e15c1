"""What each system's pre-training is made of, by the name that a recipe's key `system` carries."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unimo.config import Config, load_named
from unimo.engine.task import Task
from unimo.pretrain import unimo, unimo2
from unimo.pretrain.recipe import PretrainRecipe
from unimo.pretrain.unimo2_recipe import Unimo2Recipe
from unimo.readers.batching import Source
from unimo.readers.tokenizer import Tokenizer


class Pretraining(NamedTuple):
    """One system's pre-training."""

    recipe: type[Config]
    heads: Callable[[Any], tuple[str, ...]]  # (recipe) -> those that its objectives need
    sources: Callable[[Any, Tokenizer], Mapping[str, Source]]  # (recipe, tokenizer) -> by stream
    task: Callable[[Any, Any], Task]  # (model of the system, recipe)


PRETRAINING = {
    "unimo": Pretraining(PretrainRecipe, lambda recipe: unimo.HEADS, unimo.build_sources, unimo.build_task),
    "unimo-2": Pretraining(Unimo2Recipe, unimo2.heads_of, unimo2.build_sources, unimo2.build_task),
}


def read_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Any:
    """The recipe of a YAML file, of the system that it names; without a name, of UNIMO."""
    return load_named(PRETRAINING, "system", "unimo", path, overrides)
