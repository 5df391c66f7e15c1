"""SIGTERM, SIGINT and SIGHUP as a request that the loop honours after the running step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from unimo.console import SIGNALS, heeded
from unimo.errors import Stopped


class StopRequest:
    """A context in which the signals only set `made`. The launcher repeats SIGTERM, so repeating changes nothing."""

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in heeded()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Let the signals raise Stopped, where nothing needs to be finished or saved first: before and after training."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Stopped("stopped outside of training; run the same command again")

    before = {number: signal.signal(number, leave) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Let the signals wait until the end of the block, where a system call of this thread must not be interrupted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
