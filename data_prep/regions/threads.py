"""Decoding ahead of the network and writing behind it, in threads; order and values are as one after the other."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from unimo.errors import DataError
from unimo.readers.feature_store import RegionRecord, StoreWriter
from unimo.readers.pictures import read_picture

DECODERS = 2  # threads
AHEAD = 4  # pictures decoded or being decoded; with the network's own, the most that are in memory
BEHIND = 8  # records that wait for the writer
Made = TypeVar("Made")


def decoded(files: Mapping[str, Path]) -> Generator[tuple[str, np.ndarray | DataError], None, None]:
    """Image id and picture, or why it cannot be decoded, in the order of `files`. Close it to stop its threads."""
    return in_order(ThreadPoolExecutor(DECODERS, "decode"), lambda _, file: tried(file), files, AHEAD)


def tried(file: Path) -> np.ndarray | DataError:
    """A picture, or why it cannot be decoded."""
    try:
        return read_picture(file)
    except DataError as error:
        return error


def in_order(
    pool: Executor, work: Callable[[str, Path], Made], files: Mapping[str, Path], ahead: int
) -> Generator[tuple[str, Made], None, None]:
    """Image id and what `work` makes of it and its file, at most `ahead` of them begun; it ends the pool."""
    waiting: deque[tuple[str, Future[Made]]] = deque()
    rest = iter(files.items())
    try:
        while True:
            while len(waiting) < ahead and (item := next(rest, None)):
                waiting.append((item[0], pool.submit(work, *item)))
            if not waiting:
                return
            image_id, future = waiting.popleft()
            made = future.result()
            del future  # it would keep the picture while the next one is waited for
            yield image_id, made
            del made
    finally:
        pool.shutdown(cancel_futures=True)


class Behind:
    """Adds records to a store in the order given, in the one thread that touches the store; see `writing`."""

    def __init__(self, store: StoreWriter):
        self._store, self._failed = store, False
        self._thread = ThreadPoolExecutor(1, "write")
        self._waiting: deque[Future] = deque()

    def add(self, record: RegionRecord) -> None:
        """Queue a record; waits while BEHIND of them are queued. Raises what an earlier one met."""
        if len(self._waiting) == BEHIND:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._add, record))

    def _add(self, record: RegionRecord) -> None:
        if self._failed:
            return  # what comes after a failure would be stored before what failed, which the next run makes
        try:
            self._store.add(record)
        except BaseException:
            self._failed = True
            raise

    def end(self, finished: bool) -> None:
        """Let the thread add what is queued and commit; raises what it met."""
        ending = self._thread.submit(self._store.close if finished else self._store.stop)
        self._thread.shutdown()
        for future in (*self._waiting, ending):
            future.result()


@contextmanager
def writing(store: StoreWriter) -> Iterator[Behind]:
    """A `Behind` that finishes the store at the end; after an error or a signal it commits what is queued.

    A second signal ends only the waiting: the thread commits before the process ends.
    """
    behind = Behind(store)
    try:
        yield behind
    except BaseException:
        behind.end(finished=False)
        raise
    behind.end(finished=True)
