"""Many pictures from many hosts: in threads, politely, and what is known of each in a log that survives a kill.

The log has a head that names the work, and then a line for each picture that was tried to the end:

    {"row": 7, "sha256": ..., "bytes": ..., "width": ..., "height": ...}    of the file that was written
    {"row": 8, "reason": ..., "detail": ..., "passing": true}               why there is none
"""

import hashlib
import heapq
import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from data_prep.corpora.fetch import FetchError, Rules, Watch, fetch, picture
from unimo.errors import DataError
from unimo.readers.pictures import write_picture
from unimo.storage.locks import lock

AHEAD = 64  # pictures looked at ahead for each thread, so that one slow host does not stop the others
_DECODERS = threading.BoundedSemaphore(os.cpu_count() or 1)  # a decoded picture takes up to 600 MB


@dataclass(frozen=True)
class Wanted:
    """A picture to fetch."""

    row: int  # in the list that is read
    address: str
    file: Path
    md5: str | None = None


class Log:
    """What became of each row of a list of `total` rows.

    Raises:
        DataError: the file is the log of another list, or of other settings, or another process works on it.
    """

    def __init__(self, path: Path, work: Mapping[str, Any], total: int):
        self.path = path
        self.failed: dict[int, tuple[str, str, bool]] = {}  # row -> reason, detail, whether it may pass
        self._fetched = bytearray(total)
        head = json.dumps(work, sort_keys=True).encode() + b"\n"
        self._file = open(path, "a+b")
        if not lock(self._file.fileno()):
            raise DataError(f"another process fetches the list of {path}; wait for its end or name another folder")
        self._file.seek(0)
        found = self._file.readline()
        if found != head and found.endswith(b"\n"):
            raise DataError(f"{path} is of another list or of other settings; write to a new folder")
        size = len(found) if found == head else 0
        for line in self._file if size else ():
            if not line.endswith(b"\n"):  # torn by a kill
                break
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, LookupError) as error:
                raise DataError(f"{path} is damaged at byte {size}; delete it to fetch all again") from error
            size += len(line)
        self._file.truncate(size)
        if not size:
            self._file.write(head)

    def __contains__(self, row: int) -> bool:
        return bool(self._fetched[row])

    @property
    def count(self) -> int:
        """Rows that were tried to the end."""
        return sum(self._fetched) + len(self.failed)

    def add(self, record: dict[str, Any]) -> None:
        """Append a line; a kill does not lose it."""
        self._take(record)
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Sync and close."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _take(self, record: dict[str, Any]) -> None:
        row = record["row"]
        self.failed.pop(row, None)
        self._fetched[row] = "sha256" in record
        if "reason" in record:
            self.failed[row] = record["reason"], record["detail"], record["passing"]


def crawl(wanted: Iterable[Wanted], total: int, rules: Rules, log: Log) -> int:
    """Fetch the pictures and write them as JPEG; returns how many came. Each ends in the log.

    At most `rules.threads` at once and `rules.per_host` from one host. A failure that may pass is tried again after a
    pause, while others go on.
    """
    queue, watch, fetched = _Queue(wanted, rules), Watch(), 0
    running: dict[Future, _Try] = {}
    with ThreadPoolExecutor(rules.threads, "fetch") as pool, tqdm(desc="fetch", total=total, unit="picture") as bar:
        try:
            while True:
                while len(running) < rules.threads and (attempt := queue.take()):
                    running[pool.submit(_bring, attempt.wanted, rules, watch)] = attempt
                if not running and not queue:
                    return fetched
                done, _ = wait(running, timeout=queue.pause(), return_when=FIRST_COMPLETED)
                if not running:
                    time.sleep(queue.pause())
                for future in done:
                    attempt = running.pop(future)
                    record = queue.judge(attempt, future)
                    if record:
                        log.add({"row": attempt.wanted.row, **record})
                        fetched += "sha256" in record
                        bar.update()
                        bar.set_postfix(failed=len(log.failed), refresh=False)
        except BaseException:
            watch.cut()  # threads end at once, and what they brought is not logged
            raise


def _bring(wanted: Wanted, rules: Rules, watch: Watch) -> dict[str, Any]:
    content = fetch(wanted.address, rules, watch)
    with _DECODERS:
        shown = picture(content, rules.longest, wanted.md5)
        write_picture(shown, wanted.file)
    written = wanted.file.read_bytes()
    height, width = shown.shape[:2]
    return {"sha256": hashlib.sha256(written).hexdigest(), "bytes": len(written), "width": width, "height": height}


@dataclass
class _Try:
    wanted: Wanted
    host: str
    number: int = 1


class _Queue:
    """What to fetch next: the next picture of a host that is not busy, or one whose pause is over."""

    def __init__(self, wanted: Iterable[Wanted], rules: Rules):
        self.rules = rules
        self._rest: Iterator[Wanted] = iter(wanted)
        self._hosts: dict[str, deque[_Try]] = {}  # that have something to fetch
        self._free: deque[str] = deque()  # of these, the ones that are not busy
        self._busy: Counter[str] = Counter()
        self._paused: list[tuple[float, int, _Try]] = []
        self._size = 0  # pictures in hosts and pauses
        self._ended = False

    def __bool__(self) -> bool:
        self._fill()
        return self._size > 0

    def take(self) -> _Try | None:
        """One to fetch now, if there is one."""
        while self._paused and self._paused[0][0] <= time.monotonic():
            self._put(heapq.heappop(self._paused)[2])
            self._size -= 1
        self._fill()
        if not self._free:
            return None
        host = self._free.popleft()
        attempt = self._hosts[host].popleft()
        self._size -= 1
        self._busy[host] += 1
        if not self._hosts[host]:
            del self._hosts[host]
        elif self._busy[host] < self.rules.per_host:
            self._free.append(host)
        return attempt

    def pause(self) -> float:
        """Seconds after which `take` may have something that it has not now."""
        return min(1.0, max(0.0, self._paused[0][0] - time.monotonic())) if self._paused else 1.0

    def judge(self, attempt: _Try, future: Future) -> dict[str, Any] | None:
        """What the log says of a finished try; None if it is put off to be tried again."""
        host = attempt.host
        if self._busy[host] == self.rules.per_host and host in self._hosts:
            self._free.append(host)
        self._busy[host] -= 1
        if not self._busy[host]:
            del self._busy[host]
        error = future.exception()
        if error is None:
            return future.result()
        if not isinstance(error, FetchError):
            raise error
        after = max(error.after or 0, self.rules.wait * 2 ** (attempt.number - 1))
        if error.passing and attempt.number < self.rules.attempts and after <= self.rules.patience:
            attempt.number += 1
            heapq.heappush(self._paused, (time.monotonic() + after, attempt.wanted.row, attempt))
            self._size += 1
            return None
        return {"reason": error.reason, "detail": error.detail, "passing": error.passing}

    def _fill(self) -> None:
        while self._size < AHEAD * self.rules.threads and not self._ended:
            wanted = next(self._rest, None)
            if wanted is None:
                self._ended = True
            else:
                self._put(_Try(wanted, _host(wanted.address)))

    def _put(self, attempt: _Try) -> None:
        queue = self._hosts.setdefault(attempt.host, deque())
        queue.append(attempt)
        self._size += 1
        if len(queue) == 1 and self._busy[attempt.host] < self.rules.per_host:
            self._free.append(attempt.host)


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""
