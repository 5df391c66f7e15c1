"""Learning rates as pure functions of the 0-based update index. Source: the UNIMO release, optimizer part.

The loop sets the rate before every update, so a schedule has no state to save.
"""

from unimo.engine.settings import EngineConfig, in_steps


def linear_warmup_decay(step: int, base: float, warmup: int, steps: int) -> float:
    """`base * step / warmup`, then `base * (1 - step / steps)`: the first update has rate 0.

    Nothing is re-scaled at the end of the warm-up, where the rate drops by base * warmup / steps. As in the release,
    no warm-up means no decay.
    """
    if warmup == 0:
        return base
    return base * step / warmup if step < warmup else base * (1 - min(step, steps) / steps)


def piecewise(step: int, base: float, boundaries: list[int], factor: float) -> float:
    """`base * factor**k` after the k-th boundary (`scale_by_epoch_decay` of the release: 24 and 32 of 40 epochs)."""
    return base * factor ** sum(step >= boundary for boundary in boundaries)


def noam(step: int, base: float, warmup: int) -> float:
    """Rises linearly to base at the update number `warmup`, then falls with the inverse square root."""
    t = step + 1
    return base * min((warmup / t) ** 0.5, t / warmup) if warmup else base


def learning_rate(config: EngineConfig, step: int) -> float:
    """Rate of the update with 0-based index `step`."""
    base, planned = config.learning_rate, config.planned
    warmup = in_steps(config.warmup, planned)
    if config.schedule == "linear_warmup_decay":
        return linear_warmup_decay(step, base, warmup, planned)
    if config.schedule == "piecewise":
        boundaries = [in_steps(b, planned) for b in config.boundaries]
        return piecewise(step, base, boundaries, config.decay_factor)
    if config.schedule == "noam":
        return noam(step, base, warmup)
    return base


def shortfall(config: EngineConfig) -> str | None:
    """What it means for the rate that a run is too short for its schedule; None where it is not."""
    steps, base, planned = config.updates, config.learning_rate, config.planned
    warmup = in_steps(config.warmup, planned)
    warms = config.schedule in ("linear_warmup_decay", "noam")
    if warms and config.warmup and not warmup:
        return (
            f"warmup {config.warmup:g} of {planned} updates is less than one, and without a warm-up the schedule "
            f"{config.schedule} has no decay either: every update has the rate {base:g}"
        )
    if warms and warmup >= steps + (config.schedule == "noam"):  # noam reaches the base with the last update of it
        highest = max(learning_rate(config, step) for step in range(steps))
        return f"warmup takes all {steps} updates: the rate stays below {base:g}, the highest is {highest:.3g}"
    late = [b for b in config.boundaries if not 0 < in_steps(b, planned) < steps]
    if late:
        rates = sorted({learning_rate(config, step) for step in range(steps)}, reverse=True)
        shown = ", ".join(f"{rate:.3g}" for rate in rates)
        return f"boundaries {late} fall outside of the {steps} updates, which have the rates {shown}"
    return None
