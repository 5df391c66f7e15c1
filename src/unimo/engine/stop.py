"""SIGTERM and SIGINT as a request that the loop honours after the running step."""

import signal
from types import FrameType


class StopRequest:
    """A context in which both signals only set `made`. The launcher repeats SIGTERM, so repeating changes nothing."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
