"""Evaluations while a model is trained: on the dev split, shared over the processes."""

from unimo.engine.events import Evaluation
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import ConfigError
from unimo.evaluate.results import Evaluator


def on_the_way(dev: Evaluator, task: Task, config: EngineConfig) -> Evaluation:
    """The event that evaluates the task's model; raises a ConfigError if it does not measure `config.best_metric`."""
    if config.best_metric not in (None, *dev.measures):
        raise ConfigError(f"engine.best_metric is {config.best_metric}, expected one of {', '.join(dev.measures)}")
    return Evaluation(lambda: dev.measure(task.model, task.world).values, dev.best)
