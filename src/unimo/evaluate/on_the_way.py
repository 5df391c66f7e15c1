"""Evaluations while a model is trained: on the dev split, shared over the processes."""

from unimo.engine.events import PeriodicEvaluation
from unimo.engine.settings import EngineConfig
from unimo.engine.task import Task
from unimo.errors import ConfigError
from unimo.evaluate.results import Evaluator


def check_measured(dev: Evaluator, config: EngineConfig) -> None:
    """Raise a ConfigError if an evaluation does not measure `config.best_metric`."""
    if (config.best_metric or dev.best) not in dev.measures:
        expected = ", ".join(dev.measures) or "none: the dev split has no answers"
        raise ConfigError(f"engine.best_metric is {config.best_metric or dev.best}, expected one of {expected}")


def on_the_way(dev: Evaluator, task: Task) -> PeriodicEvaluation:
    """The event that evaluates the task's model."""
    return PeriodicEvaluation(lambda: dev.measure(task.model, task.world).values, dev.best)
