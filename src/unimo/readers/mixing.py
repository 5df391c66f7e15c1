"""Several streams -> one sequence of updates: which stream an update draws from is a function of (seed, update)."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from unimo.errors import ConfigError, DataError
from unimo.readers.batching import Batch, Stream


class Mixer:
    """Draws each update's micro-batches from one stream, chosen with probability proportional to its ratio.

    Args:
        streams: name -> stream; ratios: name -> weight of the stream, for the same names.
        accumulate: micro-batches per update, all of the same stream.

    Raises:
        ConfigError: names of streams and ratios differ, or no ratio is positive.
    """

    def __init__(self, streams: Mapping[str, Stream], ratios: Mapping[str, float], seed: int, accumulate: int = 1):
        if set(streams) != set(ratios):
            raise ConfigError(f"there are streams {sorted(streams)} but ratios for {sorted(ratios)}")
        if min(ratios.values(), default=0) < 0 or not sum(ratios.values()) > 0:
            raise ConfigError(f"ratios must be positive or 0, and not all 0; got {dict(ratios)}")
        self.streams, self.seed, self.accumulate = dict(streams), seed, accumulate
        self._names = sorted(streams)
        self._shares = np.array([ratios[name] for name in self._names]) / sum(ratios.values())
        self._step = 0
        parts = {name: [streams[name].fingerprint, ratios[name]] for name in self._names}
        self.fingerprint = hashlib.sha256(json.dumps([parts, seed, accumulate]).encode()).hexdigest()

    def stream_of(self, step: int) -> str:
        """Name of the stream that update `step` (from 0) draws from, the same on every process."""
        return str(np.random.default_rng([self.seed, step]).choice(self._names, p=self._shares))

    def next(self) -> list[Batch]:
        """This process's micro-batches of the next update."""
        return self.draw()()

    def draw(self) -> Callable[[], list[Batch]]:
        """Go on by one update; what is returned makes its micro-batches, in any thread and at any later time."""
        stream = self.streams[self.stream_of(self._step)]
        self._step += 1
        drawn = [stream.draw() for _ in range(self.accumulate)]
        return lambda: [make() for make in drawn]

    def updates_per_epoch(self) -> float:
        """Updates that go once through the samples of the only stream; the last may go on into the next epoch.

        Raises:
            ConfigError: there are several, each with an epoch of its own.
        """
        drawn = [name for name, share in zip(self._names, self._shares) if share]
        if len(drawn) > 1:
            raise ConfigError(
                f"engine.epochs counts passes over one stream, this run draws from {', '.join(drawn)}; "
                "give engine.steps"
            )
        return self.streams[drawn[0]].epoch_batches / self.accumulate

    def state(self) -> dict[str, Any]:
        """Position, as JSON: updates drawn and where each stream stands."""
        return {"step": self._step, "streams": {name: s.state() for name, s in self.streams.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a position that `state` gave. Raises DataError when it is of other streams."""
        if set(state["streams"]) != set(self.streams):
            raise DataError(f"saved position is of streams {sorted(state['streams'])}, here are {self._names}")
        self._step = state["step"]
        for name, stream in self.streams.items():
            stream.restore(state["streams"][name])
