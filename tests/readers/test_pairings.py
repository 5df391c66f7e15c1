"""Pairings divided into calls: every one once, wide enough, within the budget, and no division is cheaper."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimo.errors import DataError
from unimo.readers.pairings import CALL, group_by_cost

SIZES = st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=9)


def cost(calls: np.ndarray) -> int:
    return int((calls[:, 0] * (calls[:, 1] + calls[:, 2]) + CALL).sum())


def cheapest(slots: np.ndarray, tokens: np.ndarray, budget: int | None) -> float:
    """Of all ways to cut the sorted pairings."""
    n, found = len(slots), [np.inf]
    for k in range(n):
        for cuts in combinations(range(1, n), k):
            runs = list(zip([0, *cuts], [*cuts, n]))
            sizes = [(b - a) * (slots[a:b].max() + tokens[a:b].max()) for a, b in runs]
            if budget is None or max(sizes) <= budget:
                found.append(sum(sizes) + CALL * len(sizes))
    return min(found)


@given(sizes=SIZES, budget=st.none() | st.integers(800, 2500))
def test_calls_hold_every_pairing_and_are_the_cheapest(sizes, budget):
    slots, tokens = np.array(sizes, np.int64).reshape(-1, 2).T
    order, calls = group_by_cost(slots, tokens, budget)
    assert sorted(order.tolist()) == list(range(len(sizes))) and calls[:, 0].sum() == len(sizes)
    first = 0
    for count, most_slots, most_tokens in calls:
        chosen = order[first : first + count]
        assert (slots[chosen].max(), tokens[chosen].max()) == (most_slots, most_tokens)
        assert budget is None or count * (most_slots + most_tokens) <= budget
        first += count
    if sizes:
        assert cost(calls) == cheapest(slots[order], tokens[order], budget)


def test_few_pads_where_pictures_and_captions_differ():
    rng = np.random.default_rng(0)
    slots, tokens = rng.integers(10, 101, 84), rng.integers(5, 40, 84)
    _, calls = group_by_cost(slots, tokens)
    real, padded = int((slots + tokens).sum()), cost(calls) - CALL * len(calls)
    assert 1 - real / (84 * int(slots.max() + tokens.max())) > 0.4 and 1 - real / padded < 0.2


def test_a_pairing_beyond_the_budget_is_an_error():
    with pytest.raises(DataError, match="one pairing takes 30 positions, the batch budget is 29"):
        group_by_cost(np.array([10, 20]), np.array([10, 10]), 29)
