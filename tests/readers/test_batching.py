import hashlib
import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.errors import ConfigError, DataError
from unimo.readers.batching import Batch, Stream, fingerprint, pad_share, plan_epoch
from unimo.readers.mixing import Mixer


@dataclass
class Numbers:
    """A source whose batches show which samples, and which random numbers, they were made of."""

    name: str
    lengths: np.ndarray
    fingerprint: str = "numbers"

    def batch(self, samples, rngs, batch_rng) -> Batch:
        shared = int(batch_rng.integers(1 << 30))
        ids = [f"{i} {rng.integers(1 << 30)}" for i, rng in zip(samples, rngs, strict=True)]
        return Batch(self.name, ids, {"shared": shared})


def source(n: int = 100, name: str = "numbers", seed: int = 0) -> Numbers:
    rng = np.random.default_rng(seed)
    return Numbers(name, np.stack([rng.integers(2, 40, n), rng.integers(3, 20, n)], axis=1))


def plan(lengths: np.ndarray, budget: int, seed: int = 0, **options) -> list[np.ndarray]:
    return plan_epoch(lengths, budget, np.random.default_rng(seed), **options)


def padded(lengths: np.ndarray, batches: list[np.ndarray]) -> list[int]:
    return [len(b) * int(lengths[b].max(axis=0).sum()) for b in batches]


@settings(deadline=None, max_examples=200)
@given(
    parts=st.integers(1, 3),
    n=st.integers(1, 150),
    longest=st.integers(1, 60),
    extra=st.integers(0, 3000),
    pool=st.sampled_from([7, 32, 8192]),
    seed=st.integers(0, 99),
)
def test_every_sample_once_within_the_budget(parts, n, longest, extra, pool, seed):
    lengths = np.random.default_rng(seed).integers(1, longest + 1, (n, parts))
    budget = int(lengths.sum(axis=1).max()) + extra
    batches = plan(lengths, budget, seed, pool=pool)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert max(padded(lengths, batches)) <= budget
    again = plan(lengths, budget, seed, pool=pool)
    assert [b.tolist() for b in again] == [b.tolist() for b in batches]


@settings(deadline=None)
@given(n=st.integers(16, 300), seed=st.integers(0, 99), pool=st.sampled_from([40, 8192]))
def test_sizes_are_multiples_of_eight_but_for_the_last(n: int, seed: int, pool: int):
    lengths = np.random.default_rng(seed).integers(5, 30, (n, 2))
    batches = plan(lengths, 8 * 60, seed, pool=pool)
    assert sum(len(b) % 8 != 0 for b in batches) <= 2  # a small last batch shares with its neighbour
    assert min(map(len, batches)) >= 4


def test_epochs_differ_and_are_shuffled():
    lengths = source(400).lengths
    first, second = plan(lengths, 800, seed=1), plan(lengths, 800, seed=2)
    assert {tuple(sorted(b)) for b in first} != {tuple(sorted(b)) for b in second}
    sums = [lengths[b].sum(axis=1).mean() for b in first]
    assert sums != sorted(sums) and sums != sorted(sums, reverse=True)


@pytest.mark.parametrize("parts", [1, 2])
def test_bucketing_saves_padding(parts: int):
    rng = np.random.default_rng(0)
    lengths = np.stack([rng.integers(11, 102, 8000), rng.integers(6, 30, 8000)], axis=1)[:, :parts]
    bucketed = lengths.sum() / sum(padded(lengths, plan(lengths, 4096)))
    order = rng.permutation(len(lengths))
    random = lengths.sum() / sum(padded(lengths, np.split(order, len(order) // 40)))
    assert 1 - bucketed < 0.25 * (1 - random)


def test_a_sample_beyond_the_budget_is_an_error():
    lengths = np.array([[3, 4], [30, 10], [5, 5]])
    with pytest.raises(DataError, match="sample 1 alone takes 40 padded positions, the batch budget is 39"):
        plan(lengths, 39)
    with pytest.raises(DataError, match="no samples"):
        plan(lengths[:0], 47)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), n=st.integers(8, 120), skip=st.integers(0, 30))
def test_ranks_share_the_batches_of_one_process(seed: int, n: int, skip: int):
    def batches(rank: int, world: int) -> list[Batch]:
        stream = Stream(source(n), 480, seed, rank, world)
        return [stream.next() for _ in range(skip + 5)]

    alone = batches(0, 1)
    for world in (2, 4):
        ranks = [batches(rank, world) for rank in range(world)]
        for whole, *shares in zip(alone, *ranks, strict=True):
            assert [share.ids for share in shares] == [whole.ids[rank::world] for rank in range(world)]
            assert {share.inputs["shared"] for share in shares} == {whole.inputs["shared"]}


def test_a_stream_walks_whole_epochs_with_new_random_numbers():
    stream = Stream(source(), 480, seed=3)
    epochs = []
    for _ in range(2):
        seen = []
        while not seen or len(seen) < 100:
            seen += stream.next().ids
        epochs.append(seen)
    samples = [[int(i.split()[0]) for i in seen] for seen in epochs]
    assert samples[0] != samples[1] and sorted(samples[0]) == sorted(samples[1]) == list(range(100))
    assert not set(epochs[0]) & set(epochs[1])


def test_too_few_samples_for_the_processes():
    with pytest.raises(DataError, match=r"stream numbers: a batch of epoch 0 has 2 sample\(s\) for 4 processes"):
        Stream(source(2), 480, seed=0, world=4)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), n=st.integers(8, 120), world=st.integers(2, 5), multiple=st.sampled_from([1, 4]))
def test_an_even_stream_gives_all_ranks_as_many(seed: int, n: int, world: int, multiple: int):
    """What is left over from a batch is left out; everything else is what the uneven stream gives."""

    def streams(even: bool) -> list[Stream]:
        return [Stream(source(n), 480, seed, rank, world, multiple, even=even) for rank in range(world)]

    try:
        even, uneven = streams(True), streams(False)
    except DataError:  # a batch of fewer samples than processes
        return
    for _ in range(even[0].epoch_batches):
        parts, wholes = ([stream.next().ids for stream in some] for some in (even, uneven))
        total = sum(map(len, wholes))
        assert {len(part) for part in parts} == {total // world}
        assert all(part == whole[: len(part)] for part, whole in zip(parts, wholes))
    assert even[0].fingerprint != uneven[0].fingerprint


def test_updates_per_epoch():
    stream = Stream(source(), 480, seed=0)
    assert len({*drawn_epoch(stream)}) == 100
    alone = Mixer({"a": stream, "never": Stream(source(), 480, 0)}, {"a": 1, "never": 0}, 0, accumulate=3)
    assert alone.updates_per_epoch() == stream.epoch_batches / 3
    with pytest.raises(ConfigError, match="one stream, this run draws from image, pair, text; give engine.steps"):
        mixer().updates_per_epoch()


def drawn_epoch(stream: Stream) -> list[str]:
    """The samples of the first epoch."""
    return [i.split()[0] for _ in range(stream.epoch_batches) for i in stream.next().ids]


def test_stream_fingerprints():
    base = Stream(source(), 480, seed=0).fingerprint
    assert base == Stream(source(), 480, seed=0, rank=1, world=2).fingerprint
    changed = Numbers("numbers", source().lengths, fingerprint="other")
    assert len({base, Stream(source(), 481, 0).fingerprint, Stream(changed, 480, 0).fingerprint}) == 3


def test_pad_share():
    inputs = {
        "text": {"mask": np.array([[1, 1], [1, 0]]), "ids": np.zeros((2, 9))},
        "regions": {"mask": np.ones((1, 4))},
    }
    assert pad_share([Batch("s", ["a"], inputs)] * 3) == pytest.approx(1 / 8)
    assert pad_share([Batch("s", ["a"], {})]) == 0


def mixer(seed: int = 0, rank: int = 0, world: int = 1, accumulate: int = 1, **ratios: float) -> Mixer:
    ratios = ratios or {"text": 1.0, "image": 1.0, "pair": 2.0}
    streams = {name: Stream(source(50, name), 480, seed, rank, world) for name in ratios}
    return Mixer(streams, ratios, seed, accumulate)


def drawn(mixer: Mixer, steps: int) -> list[tuple[str, list[list[str]]]]:
    updates = [mixer.next() for _ in range(steps)]
    assert all(len({b.stream for b in update}) == 1 for update in updates)
    return [(update[0].stream, [b.ids for b in update]) for update in updates]


@settings(deadline=None, max_examples=25)
@given(stops=st.lists(st.integers(0, 15), max_size=3), accumulate=st.integers(1, 3), seed=st.integers(0, 50))
def test_a_restored_mixer_goes_on_as_if_never_stopped(stops: list[int], accumulate: int, seed: int):
    straight = drawn(mixer(seed, accumulate=accumulate), sum(stops) + 10)
    current, updates = mixer(seed, accumulate=accumulate), []
    for stop in stops:
        updates += drawn(current, stop)
        state = json.loads(json.dumps(current.state()))
        current = mixer(seed, accumulate=accumulate)
        current.restore(state)
    assert updates + drawn(current, 10) == straight


def test_all_ranks_draw_the_same_stream():
    alone = drawn(mixer(5, accumulate=2), 40)
    ranks = [drawn(mixer(5, rank, 2, accumulate=2), 40) for rank in range(2)]
    for (name, whole), *shares in zip(alone, *ranks, strict=True):
        assert [s[0] for s in shares] == [name, name]
        assert [[ids[rank::2] for ids in whole] for rank in range(2)] == [s[1] for s in shares]


def test_long_run_ratios():
    counts = {name: 0 for name in ("text", "image", "pair", "never")}
    mixed = mixer(7, text=1, image=3, pair=4, never=0)
    for step in range(4000):
        counts[mixed.stream_of(step)] += 1
    assert counts["never"] == 0
    for name, share in {"text": 1 / 8, "image": 3 / 8, "pair": 4 / 8}.items():
        assert counts[name] / 4000 == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize("items", [[], ["é"], [None, 1.5, "b"]])
def test_an_iterator_has_the_fingerprint_of_its_list(items: list):
    printed = f"'a'\0{items!r}\0003"
    assert fingerprint("a", iter(items), 3) == fingerprint("a", items, 3)
    assert fingerprint("a", items, 3) == hashlib.sha256(printed.encode()).hexdigest()


def test_mixer_fingerprint_and_mistakes():
    base = mixer(0).fingerprint
    assert base == mixer(0, 1, 2).fingerprint
    assert len({base, mixer(1).fingerprint, mixer(0, accumulate=2).fingerprint, mixer(0, text=1).fingerprint}) == 4
    stream = Stream(source(), 480, 0)
    with pytest.raises(ConfigError, match=r"streams \['text'\] but ratios for \['pair', 'text'\]"):
        Mixer({"text": stream}, {"text": 1, "pair": 1}, 0)
    for ratio in (0, -1):
        with pytest.raises(ConfigError, match="ratios must be positive"):
            Mixer({"text": stream}, {"text": ratio}, 0)
    with pytest.raises(DataError, match=r"saved position is of streams \['text'\]"):
        mixer(0).restore(mixer(0, text=1).state())


@given(st.integers(2, 300), st.sampled_from([1, 8]))
@settings(deadline=None)
def test_no_batch_is_left_with_a_single_sample(count, multiple):
    """A last batch of one sample could not be shared among processes: 12 captions a batch, 889 captions."""
    plan = plan_epoch(np.ones([count, 1], np.int64), 12, np.random.default_rng(count), multiple)
    assert min(map(len, plan)) >= 2
    assert sorted(np.concatenate(plan).tolist()) == list(range(count))
