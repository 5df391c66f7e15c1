"""The updates since the last record of the log, summed on the host: a record says means, not what one update gave."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Sums:
    """Sums over some updates."""

    updates: int = 0
    samples: float = 0.0
    seconds: float = 0.0
    total: float = 0.0
    grad_norm: float = 0.0
    pad_share: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)  # objective -> over all its items
    items: dict[str, float] = field(default_factory=dict)  # objective -> how many

    def add(self, other: "Sums") -> None:
        """Add the sums of further updates."""
        for name, value in asdict(other).items():
            mine = getattr(self, name)
            if isinstance(mine, dict):
                mine.update({key: mine.get(key, 0.0) + part for key, part in value.items()})
            else:
                setattr(self, name, mine + value)

    @property
    def means(self) -> dict[str, Any]:
        """Losses are means over the items of an objective, in the updates in which it ran; `total`, `grad_norm` and
        `pad_share` over the updates; `seconds` is their sum."""
        return {
            "updates": self.updates,
            "losses": {name: loss / self.items[name] for name, loss in self.losses.items()},
            "total": self.total / self.updates,
            "grad_norm": self.grad_norm / self.updates,
            "items_per_s": self.samples / self.seconds,
            "pad_share": self.pad_share / self.updates,
            "seconds": self.seconds,
        }


class Interval:
    """Sums by stream. All numbers are those that an update has read from the device anyway, equal on all ranks."""

    def __init__(self, streams: Mapping[str, Mapping[str, Any]] = {}):
        self._streams = {name: Sums(**sums) for name, sums in streams.items()}

    def add(self, stream: str, update: Sums) -> None:
        """Add an update."""
        self._streams.setdefault(stream, Sums()).add(update)

    @property
    def record(self) -> dict[str, Any]:
        """The means over all updates, and under `streams` those of each stream alone."""
        together = Sums()
        for sums in self._streams.values():
            together.add(sums)
        return together.means | {"streams": {name: sums.means for name, sums in self._streams.items()}}

    def state(self) -> dict[str, Any]:
        """The sums, as JSON."""
        return {name: asdict(sums) for name, sums in self._streams.items()}
