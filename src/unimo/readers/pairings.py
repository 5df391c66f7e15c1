"""Captions scored jointly with pictures, in calls that hold few pads."""

import numpy as np

from unimo.errors import DataError

CALL = 128  # positions that one call more is worth (ours, not tuned)


def group_by_cost(slots: np.ndarray, tokens: np.ndarray, budget: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Divide pairings into calls so that padded positions, and CALL for each call, are fewest.

    Pairings are sorted by the slots of their picture, then by the tokens of their caption; a call is a run of them,
    padded to its longest of both. Which runs is decided by dynamic programming.

    Args:
        slots, tokens: [P] int, positions of the picture and of the caption of each pairing.
        budget: the most padded positions of a call.

    Returns:
        order: [P] int64, pairings in the order of the calls.
        calls: [C, 3] int64, of each call the number of pairings, slots and tokens.

    Raises:
        DataError: one pairing alone exceeds the budget.
    """
    order = np.lexsort((tokens, slots))
    slots, tokens = slots[order], tokens[order]
    if budget is not None and len(order) and (slots + tokens).max() > budget:
        raise DataError(f"one pairing takes {(slots + tokens).max()} positions, the batch budget is {budget}; raise it")
    least, starts = np.zeros(len(order) + 1), np.zeros(len(order) + 1, np.int64)
    for end in range(1, len(order) + 1):  # runs that end there, the shortest first
        widths = slots[end - 1] + np.maximum.accumulate(tokens[end - 1 :: -1])
        positions = widths * np.arange(1, end + 1)
        if budget is not None:
            positions = positions[positions <= budget]  # it grows with every pairing
        costs = least[end - 1 :: -1][: len(positions)] + positions + CALL
        best = int(costs.argmin())
        least[end], starts[end] = costs[best], end - 1 - best
    calls, end = [], len(order)
    while end:
        first = int(starts[end])
        calls.append((end - first, int(slots[end - 1]), int(tokens[first:end].max())))
        end = first
    return order, np.array(calls[::-1], np.int64).reshape(-1, 3)
