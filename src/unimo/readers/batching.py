"""Samples of similar length -> batches, the same for every number of processes, at any point of any epoch."""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from unimo.errors import DataError


@dataclass
class Batch:
    """One micro-batch of one process, in numpy."""

    stream: str
    ids: list[str]
    inputs: dict[str, Any]  # arrays, in nested dicts by model stream; every padded stream has its `mask`


class Source(Protocol):
    """What a stream draws its batches from: samples 0 .. n - 1, each of known length."""

    name: str
    lengths: np.ndarray  # [n, parts] positions of each sample; parts are padded separately, as regions and text are
    fingerprint: str  # changes when the samples do

    def batch(self, samples: np.ndarray, rngs: Sequence[np.random.Generator], batch_rng: np.random.Generator) -> Batch:
        """These samples, made ready. Randomness comes from `rngs`, one a sample, and from `batch_rng` for choices
        that the whole global batch must share."""
        ...


def fingerprint(*parts: Any) -> str:
    """Identity of a source: changes when any of its parts does. Parts are told apart by how they print.

    An iterator prints as the list of its items, of which one is held at a time.
    """
    digest = hashlib.sha256()
    for number, part in enumerate(parts):
        digest.update(b"\0" if number else b"")
        for text in _printed(part):
            digest.update(text.encode())
    return digest.hexdigest()


def _printed(part: Any) -> Iterator[str]:
    if not isinstance(part, Iterator):
        yield repr(part)
        return
    yield "["
    for number, item in enumerate(part):
        yield f", {item!r}" if number else repr(item)
    yield "]"


def plan_epoch(
    lengths: np.ndarray,
    budget: int,
    rng: np.random.Generator,
    multiple: int = 8,
    pool: int = 8192,
) -> list[np.ndarray]:
    """Cut a random order of all samples into batches of similar length; each is an array of sample numbers.

    A batch costs samples * (sum over parts of its longest sample), and never more than `budget`. Its size
    is a multiple of `multiple` where the budget allows one, but for the epoch's last. Batches come in random order.

    Args:
        lengths: [n, parts] int, positions of each sample.
        pool: samples that are sorted together; more waste less and mix less.

    Raises:
        DataError: there is no sample, or one does not fit the budget alone.
    """
    if not len(lengths):
        raise DataError("there are no samples to make batches of")
    longest = int(lengths.sum(axis=1).argmax())
    if lengths[longest].sum() > budget:
        raise DataError(
            f"sample {longest} alone takes {lengths[longest].sum()} padded positions, the batch budget is {budget}; "
            "raise the budget or cut samples shorter"
        )
    batches: list[np.ndarray] = []
    rest: np.ndarray = np.zeros(0, np.int64)
    order = rng.permutation(len(lengths))
    for start in range(0, len(order), pool):
        together = np.append(rest, order[start : start + pool])
        batches += _cut(_sorted(together, lengths, budget), lengths, budget, multiple)
        rest = batches.pop()  # may be small: it goes on into the next pool
    if batches and 2 * len(rest) < len(batches[-1]):  # share, so that several processes get something each
        both = np.append(batches[-1], rest)
        halves = both[: len(both) // 2], both[len(both) // 2 :]
        if max(_cost(lengths[half]) for half in halves) <= budget:
            batches[-1], rest = halves
    batches.append(rest)
    return [batches[i] for i in rng.permutation(len(batches))]


def _cost(lengths: np.ndarray) -> int:
    return len(lengths) * int(lengths.max(axis=0).sum())


def _sorted(samples: np.ndarray, lengths: np.ndarray, budget: int) -> np.ndarray:
    """Longest first: in strips by the part that varies most, and within a strip by the other parts, up in one and down
    in the next, so that neighbours are alike across strips too.

    A batch should be as short in one direction as in the other, hence the square root; the factor 2 is the best of 1,
    1.4 and 2 over lengths of several shapes. With one part the strips are single lengths.
    """
    chosen = lengths[samples]
    part = int(chosen.std(axis=0).argmax())
    main, others = chosen[:, part], chosen.sum(axis=1) - chosen[:, part]
    batches, ratio = chosen.sum() / budget, main.std() / max(others.std(), 1e-9)
    strips = max(1.0, 2 * np.sqrt(batches * ratio))
    strip = -(main // math.ceil((np.ptp(main) + 1) / strips))
    return samples[np.lexsort((np.where(strip % 2, others, -others), strip))]


def _cut(samples: np.ndarray, lengths: np.ndarray, budget: int, multiple: int) -> Iterator[np.ndarray]:
    """Consecutive batches, each as large as the budget and the multiple allow."""
    window = max(1, budget // int(lengths[samples].sum(axis=1).min()))  # no batch can hold more samples
    while len(samples):
        ahead = np.maximum.accumulate(lengths[samples[:window]], axis=0).sum(axis=1)
        fitting = int((ahead * np.arange(1, len(ahead) + 1) <= budget).sum())  # the cost grows with every sample
        if multiple <= fitting < len(samples):
            fitting -= fitting % multiple
        yield samples[:fitting]
        samples = samples[fitting:]


class Stream:
    """Endless batches of one source; process `rank` of `world` gets every `world`-th sample of each.

    All randomness is a function of (seed, source name, epoch, sample or batch), so batches depend neither on the number
    of processes nor on where a run was resumed.

    Args:
        even: give every process the same number of samples, which gathering over processes needs. The up to world - 1
            samples that are left over from a batch are left out in this epoch, others in the next.

    Raises:
        DataError: a batch has fewer samples than there are processes.
    """

    def __init__(
        self,
        source: Source,
        budget: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        multiple: int = 8,
        even: bool = False,
    ):
        self.source, self.budget, self.rank, self.world, self.even = source, budget, rank, world, even
        self.multiple = multiple
        self._key = [seed, zlib.crc32(source.name.encode())]
        rounding = 1  # of padded lengths, no longer a choice; checkpoints know their data by it
        settings = [source.fingerprint, budget, seed, multiple, rounding, *(["even"] if even else [])]
        self.fingerprint = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
        self._start(0)

    @property
    def epoch_batches(self) -> int:
        """Batches of the first epoch; later ones may have one more or less."""
        return len(self._planned(0))

    def next(self) -> Batch:
        """This process's part of the next global batch."""
        return self.draw()()

    def draw(self) -> Callable[[], Batch]:
        """Go on by one batch; what is returned makes it, in any thread and at any later time."""
        if self._batch == len(self._plan):
            self._start(self._epoch + 1)
        epoch, number, samples = self._epoch, self._batch, self._plan[self._batch]
        self._batch += 1
        if self.even:
            samples = samples[: len(samples) - len(samples) % self.world]
        mine = samples[self.rank :: self.world]
        rngs = [self._rng("sample", epoch, i) for i in mine]
        return partial(self.source.batch, mine, rngs, self._rng("batch", epoch, number))

    def state(self) -> dict[str, int]:
        """Position: epoch, and batches of it that were handed out."""
        return {"epoch": self._epoch, "batch": self._batch}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from a position that `state` gave."""
        self._start(state["epoch"])
        self._batch = state["batch"]

    def _start(self, epoch: int) -> None:
        self._epoch, self._batch, self._plan = epoch, 0, self._planned(epoch)
        smallest = min(map(len, self._plan))
        if smallest < self.world:
            raise DataError(
                f"stream {self.source.name}: a batch of epoch {epoch} has {smallest} sample(s) for {self.world} "
                "processes; raise the batch budget or use fewer processes"
            )

    def _planned(self, epoch: int) -> list[np.ndarray]:
        rng = self._rng("plan", epoch, 0)
        return plan_epoch(self.source.lengths, self.budget, rng, self.multiple)

    def _rng(self, purpose: str, epoch: int, index: int) -> np.random.Generator:
        return np.random.default_rng([*self._key, zlib.crc32(purpose.encode()), epoch, index])


def pad_share(batches: Iterable[Batch]) -> float:
    """Share of padded positions among all positions of some batches, over every input that has a `mask`."""
    masks = [mask for batch in batches for mask in _masks(batch.inputs)]
    return sum(m.size - float(m.sum()) for m in masks) / max(1, sum(m.size for m in masks))


def _masks(inputs: dict[str, Any]) -> Iterator[np.ndarray]:
    for name, value in inputs.items():
        if isinstance(value, dict):
            yield from _masks(value)
        elif name == "mask":
            yield value
