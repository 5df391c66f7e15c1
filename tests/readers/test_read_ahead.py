"""Batches made ahead: the same with any number of threads, at any depth, after any number of resumes."""

import json
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.errors import DataError
from unimo.readers.batching import Batch, Stream
from unimo.readers.mixing import Mixer
from unimo.readers.read_ahead import Prefetch


class Slow:
    """A source whose batches take long at random, so that threads finish out of order."""

    lengths = np.ones([60, 1], np.int64)

    def __init__(self, name: str, broken: int = -1):
        self.name, self.fingerprint, self.broken = name, name, broken
        self.threads: set[str] = set()

    def batch(self, samples, rngs, batch_rng) -> Batch:
        self.threads.add(threading.current_thread().name)
        time.sleep(float(np.random.default_rng(samples[0]).random()) * 0.004)
        if self.broken in samples:
            raise DataError(f"sample {self.broken} is broken")
        drawn = [int(rng.integers(1 << 30)) for rng in rngs]
        return Batch(self.name, [str(i) for i in samples], {"drawn": drawn, "shared": int(batch_rng.integers(99))})


def mixer(accumulate: int = 2, **broken: int) -> Mixer:
    streams = {name: Stream(Slow(name, broken.get(name, -1)), 7, seed=5, multiple=1) for name in ("a", "b")}
    return Mixer(streams, {"a": 1, "b": 2}, seed=5, accumulate=accumulate)


def shown(updates: list[list[Batch]]) -> list:
    return [[(b.stream, b.ids, b.inputs["drawn"], b.inputs["shared"]) for b in update] for update in updates]


@settings(deadline=None, max_examples=15)
@given(threads=st.integers(1, 4), depth=st.integers(1, 6), stops=st.lists(st.integers(0, 8), max_size=3))
def test_bit_equal_with_any_number_of_threads_and_after_resumes(threads, depth, stops):
    plain = mixer()
    straight = shown([plain.next() for _ in range(sum(stops) + 12)])
    ahead, found = Prefetch(mixer(), threads, depth), []
    assert ahead.fingerprint == plain.fingerprint
    for stop in stops:
        found += shown([ahead.next() for _ in range(stop)])
        state = json.loads(json.dumps(ahead.state()))
        ahead = Prefetch(mixer(), threads, depth)
        ahead.restore(state)
    found += shown([ahead.next() for _ in range(12)])
    assert found == straight
    assert ahead.state() == plain.state()


def test_restoring_drops_what_was_made_ahead():
    ahead = Prefetch(mixer(), threads=2, depth=4)
    start = ahead.state()
    first = shown([ahead.next() for _ in range(5)])
    ahead.restore(start)
    assert shown([ahead.next() for _ in range(5)]) == first


def test_several_threads_make_batches_and_stay_ahead():
    made = mixer()
    ahead = Prefetch(made, threads=3, depth=3)
    for _ in range(12):
        ahead.next()
    names = set.union(*(stream.source.threads for stream in made.streams.values()))
    assert len(names) >= 2 and all(name.startswith("read-ahead") for name in names)


def test_an_error_comes_in_its_turn():
    """What was made before the broken sample is still handed out."""
    whole = shown([mixer(1).next()] + [])
    broken = int(mixer(1).next()[0].ids[0])
    stream = mixer(1).stream_of(0)
    ahead = Prefetch(mixer(1, **{stream: broken}), threads=2, depth=4)
    with pytest.raises(DataError, match=f"sample {broken} is broken"):
        ahead.next()
    later = Prefetch(mixer(1, **{stream: -2}), threads=2, depth=4)
    assert shown([later.next()]) == whole


class Plain:
    """A data object of the contract's four members, which cannot say what to make before it makes it."""

    fingerprint = "plain"

    def __init__(self) -> None:
        self.step, self.readers = 0, set()

    def next(self) -> list[Batch]:
        self.readers.add(threading.current_thread().name)
        self.step += 1
        return [Batch("s", [str(self.step)], {})]

    def state(self) -> dict[str, int]:
        return {"step": self.step}

    def restore(self, state: dict[str, int]) -> None:
        self.step = state["step"]


def test_a_data_object_without_draw_is_read_by_one_thread():
    plain = Plain()
    ahead = Prefetch(plain, threads=4, depth=5)
    assert [ahead.next()[0].ids for _ in range(20)] == [[str(i)] for i in range(1, 21)]
    assert ahead.state() == {"step": 20} and len(plain.readers) == 1
    ahead.restore({"step": 3})
    assert ahead.next()[0].ids == ["4"]
