"""Evaluations while a model is trained: on the dev split, shared over the processes."""

import math
from pathlib import Path
from typing import Any

from unimo.engine.events import PeriodicEvaluation, records
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


def highest(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Metric -> the highest `value` of the evaluations that the run's log holds, and the first `step` that reached it.

    Each metric by itself, whatever checkpoint is taken; values that are not finite do not count. Empty without any.
    """
    found: dict[str, dict[str, Any]] = {}
    for record in records(run_dir / "log.jsonl"):
        for name, value in record.get("metrics", {}).items():
            if math.isfinite(value) and (name not in found or value > found[name]["value"]):
                found[name] = {"value": value, "step": record["step"]}
    return found
