"""Several networks beside each other, each in a process of its own: Paddle's engine lets one thread compute at a time.

Order and values are as of one network.
"""

import os
import signal
import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data_prep.regions.extractor import Extractor, extracted_from
from data_prep.regions.registry import make
from data_prep.regions.threads import in_order, tried
from unimo.console import heeded
from unimo.errors import DataError, UnimoError
from unimo.hardware import keep_freed_memory
from unimo.readers.feature_store import RegionRecord

_extract: Extractor  # of a worker process


def extracted(
    files: Mapping[str, Path], extractor: str, options: Mapping[str, Any], workers: int
) -> Generator[tuple[str, RegionRecord | DataError], None, None]:
    """Image id and regions, or why the picture cannot be decoded, in the order of `files`. Close it to end the workers.

    Raises:
        UnimoError: a worker died.
    """
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _open, (extractor, dict(options), os.getpid()))
    try:
        yield from in_order(pool, _record, files, 2 * workers)
    except BrokenProcessPool as error:
        time.sleep(1)  # a signal that ended the workers may be on its way to this process
        raise UnimoError(
            f"one of {workers} workers died, perhaps for want of memory; the same command goes on from here, "
            "with fewer --workers if need be"
        ) from error


def _open(extractor: str, options: Mapping[str, Any], parent: int) -> None:
    """A worker's start: it leaves signals to the parent, and ends when the parent is gone.

    SIGTERM is left as it is: the pool ends the other workers with it when one has died.
    """
    global _extract
    for number in set(heeded()) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import cv2  # half a second where no worker is started

    keep_freed_memory()
    cv2.setNumThreads(1)
    _extract = make(extractor, options)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _record(image_id: str, file: Path) -> RegionRecord | DataError:
    return extracted_from(image_id, tried(file), _extract)
