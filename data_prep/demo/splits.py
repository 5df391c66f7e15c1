"""Groups of near-duplicates, and their split into train, dev and test before anything is learnt from the data."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from data_prep.near_duplicates import alike, normalise, same_drawing

Use = Literal["train", "dev", "test", "unpaired", "duplicate"]


def groups(captions: Sequence[Sequence[str]], looks: np.ndarray, drawings: np.ndarray | None = None) -> np.ndarray:
    """Group number of each item: items with an equal caption or a near-identical picture share one. [n] int

    With `drawings` those that show the same drawing elsewhere on white do, too.
    """
    edges: list[tuple[int, int]] = []
    first: dict[str, int] = {}
    for i, texts in enumerate(captions):
        edges += [(i, first.setdefault(normalise(text), i)) for text in texts]
    for i in range(len(looks) - 1):
        edges += [(i, i + 1 + j) for j in alike(looks[i + 1 :], looks[i])]
        if drawings is not None:
            edges += [(i, i + 1 + j) for j in same_drawing(drawings[i + 1 :], drawings[i])]
    rows, columns = np.array(edges, np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(looks), len(looks)))
    return connected_components(graph, directed=False)[1]


def ranked(ids: Sequence[str], captioned: Sequence[bool], group: np.ndarray) -> list[list[int]]:
    """Places of the items of each group with captions; the groups by the hash of their first captioned id."""
    members = defaultdict(list)
    for i, number in enumerate(group):
        members[number].append(i)
    return sorted(
        (m for m in members.values() if any(captioned[i] for i in m)),
        key=lambda m: hashlib.sha256(min(ids[i] for i in m if captioned[i]).encode()).digest(),
    )


def assign(ids: Sequence[str], captioned: Sequence[bool], group: np.ndarray, unpaired: float = 0.0) -> list[Use]:
    """What each item is used for; a group never crosses splits.

    Groups go by the hash of their first id: at most 100 and a fifth of them to test, at most 50 and a tenth to dev. Dev
    and test keep one captioned item a group, so that a caption there has one right picture.

    Args:
        unpaired: share of the remaining groups whose pictures are used without their captions.
    """
    ordered = ranked(ids, captioned, group)
    test, dev = min(100, len(ordered) // 5), min(50, len(ordered) // 10)
    plain = int(unpaired * (len(ordered) - test - dev))
    uses: list[Use] = ["unpaired"] * len(ids)
    for rank, items in enumerate(ordered):
        if rank < test + dev:
            kept = next(i for i in items if captioned[i])
            for i in items:
                uses[i] = ("test" if rank < test else "dev") if i == kept else "duplicate"
        elif rank >= test + dev + plain:
            for i in items:
                uses[i] = "train" if captioned[i] else "unpaired"
    return uses
