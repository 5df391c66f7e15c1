"""Batches made before they are due, by threads; which batches, and what is in them, does not change."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from unimo.readers.batching import Batch


class Prefetch:
    """A `Data` whose next updates are already there.

    One thread goes through `data` in order, so that it is only ever read by one; what it draws is made by `threads`
    others, as each update is a function of its place alone. A data object without `draw` makes its updates in the one
    thread. `state` is the position behind the last update handed out, so a resumed run reads again what was ahead.

    Args:
        threads: that make batches; their code is numpy and files, which let each other run. As a context manager it
            ends them with the block.
        depth: updates ahead at most; they are in memory.
    """

    def __init__(self, data: Any, threads: int, depth: int):
        self.data, self.depth, self.fingerprint = data, depth, data.fingerprint
        self._order = ThreadPoolExecutor(1, "draw")
        self._makers = ThreadPoolExecutor(threads, "read-ahead")
        self._ahead: deque[Future[tuple[Future[list[Batch]], dict[str, Any]]]] = deque()
        self._state = data.state()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what is still to be made: a process that ends must not wait for it."""
        for pool in (self._order, self._makers):
            pool.shutdown(wait=False, cancel_futures=True)

    def next(self) -> list[Batch]:
        """The micro-batches of the next update; an error of a thread is raised here, in its turn."""
        self._fill()
        made, self._state = self._ahead.popleft().result()
        self._fill()
        return made.result()

    def state(self) -> dict[str, Any]:
        """The position behind what `next` gave last."""
        return self._state

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a position that `state` gave; what was made ahead of another one is dropped."""
        while self._ahead:
            drawn = self._ahead.popleft()
            if not drawn.cancel():
                drawn.exception()  # wait: nothing may draw while the position changes
        self.data.restore(state)
        self._state = state

    def _fill(self) -> None:
        while len(self._ahead) < self.depth:
            self._ahead.append(self._order.submit(self._draw))

    def _draw(self) -> tuple[Future[list[Batch]], dict[str, Any]]:
        draw = getattr(self.data, "draw", None)
        make = draw() if draw else _made(self.data.next())
        return self._makers.submit(make), self.data.state()


def _made(batches: list[Batch]) -> Callable[[], list[Batch]]:
    return lambda: batches
