"""Does every door (doors.py) answer every damaged input with a result or one clear error?

    python -m tests.reliability.mutation_campaign --cases 100000             # divided among the doors
    python -m tests.reliability.mutation_campaign --door recipes --first 1234 --cases 1 --show       # one case again

Case n of a door is the same mutation of the same valid input wherever it is run. It passes if the door gives a result
or a UnimoError, within SECONDS of computing and the door's memory, without a connection or another program. Each door
has a process of its own; one that a case kills is started again behind it. Exit code 1 if any case fails.
"""

import argparse
import faulthandler
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

from tests.reliability.door import Door, Files, write_files
from tests.reliability.doors import DOORS
from tests.reliability.mutations import mutate
from unimo.config import ROOT
from unimo.errors import UnimoError

SECONDS, A_SECOND = 5.0, 1 << 20  # of computing, and bytes of the input for each second more
HANGS = 30.0  # seconds of any kind, after which a case is ended from outside
MOST_DEATHS = 5  # of a door's process; then the door is left
FAILED, SUMS, SAID = "failed", "sums", "said"  # files of a door's process
CONTEXT = multiprocessing.get_context("forkserver")
MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
FORBIDDEN = re.compile(r"socket\.connect|subprocess\.|os\.(system|exec|spawn|posix_spawn|fork)|pickle\.find_class")


class Result(NamedTuple):
    """What a door's cases came to."""

    cases: int
    accepted: int  # that gave a result
    failures: list[str]
    seconds: float  # of computing
    peak: int  # MiB that the largest case took


def mutated(door: Door, name: str, number: int) -> tuple[Files, str]:
    """The files of a case, and which one was damaged."""
    rng = random.Random(f"{name}:{number}")
    files = dict(rng.choice(door.inputs))
    target = rng.choice([file for file in files if not file.startswith(door.fixed)] if door.fixed else list(files))
    others = [content[target] for content in door.inputs if target in content]
    files[target] = mutate(files[target], others, rng)
    return files, target


def memory(reset: bool) -> tuple[int, int]:
    """Bytes that this process holds, and the most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    now, most = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) << 10 for key in ("VmRSS", "VmHWM"))
    return now, most


class Watch:
    """Notes audit events that reading has no business with."""

    def __init__(self) -> None:
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if FORBIDDEN.match(event):
            self.events.append(f"{event} {str(arguments)[:100]}")


def run_case(door: Door, folder: Path, watch: Watch) -> tuple[bool, str, int]:
    """Whether the door gave a result, what was wrong with its answer ("" if nothing), and the bytes it took."""
    watch.events.clear()
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    accepted, wrong, started, before = False, "", time.process_time(), memory(reset=True)[0]
    try:
        door.open(folder)
        accepted = True
    except UnimoError as error:
        if not str(error):
            wrong = "an error without a word"
    except BaseException as error:
        places = traceback.extract_tb(error.__traceback__)
        ours = [p for p in places if "/tests/" not in p.filename and f"{ROOT}/" in p.filename] or places
        wrong = f"{type(error).__name__}: {str(error)[:150]} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
    took, seconds = memory(reset=False)[1] - before, time.process_time() - started
    allowed = door.memory + door.a_byte * size
    if took > allowed:
        wrong += f" {took >> 20} MiB of memory, expected {allowed >> 20} at most"
    if seconds > SECONDS + size / A_SECOND:
        wrong += f" {seconds:.1f} s of computing"
    if watch.events:
        wrong += f" side effects: {watch.events[:3]}"
    return accepted, wrong.strip(), took


def run_cases(name: str, first: int, cases: int, folder: Path, show: bool = False) -> None:
    """Run cases in this process. What failed goes into a file of `folder`, and into another one, before each case and
    at the end, the number of the next case and the sums of those before."""
    os.fsync = lambda descriptor: None  # no case is about a power cut
    warnings.simplefilter("ignore")
    (folder / "made").mkdir()
    door, place, watch = DOORS[name](folder / "made"), folder / "case", Watch()
    for files in door.inputs:  # lazy imports are done, and what is valid is read
        write_files(place, files)
        door.open(place)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = size + 2 * door.memory + (1 << 30)  # what is above door.memory is told; this only protects the machine
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    accepted, peak, started = 0, 0, time.process_time()
    with open(folder / FAILED, "a") as failed, open(folder / SUMS, "w") as sums:
        for number in range(first, first + cases + 1):
            sums.seek(0)
            sums.write(f"{number} {accepted} {peak >> 20} {time.process_time() - started:.1f}   \n")
            sums.flush()
            if number == first + cases:
                return
            files, target = mutated(door, name, number)
            write_files(place, files)
            faulthandler.dump_traceback_later(HANGS, exit=True)
            good, wrong, took = run_case(door, place, watch)
            faulthandler.cancel_dump_traceback_later()
            accepted, peak = accepted + good, max(peak, took)
            if wrong:
                print(_failure(name, number, f"{target}: {wrong}"), file=failed, flush=True)
            if show:
                print(f"{target}: {files[target][:2000]!r}\n{wrong or ('accepted' if good else 'refused')}", flush=True)


def _failure(name: str, number: int | str, wrong: str) -> str:
    return f"FAILED --door {name} --first {number} --cases 1 --show: {wrong}"


def _child(name: str, first: int, cases: int, folder: Path) -> None:
    with open(folder / SAID, "w") as said:
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
    faulthandler.enable()
    run_cases(name, first, cases, folder)


def run_door(name: str, first: int, cases: int) -> Result:
    """Run cases in a process of their own, and in another one behind each case that ends it."""
    failures: list[str] = []
    accepted, peak, seconds, at, deaths, end = 0, 0, 0.0, first, 0, first + cases
    while at < end and deaths < MOST_DEATHS:
        with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as scratch:
            folder = Path(scratch)
            process = CONTEXT.Process(target=_child, args=(name, at, end - at, folder))
            process.start()
            process.join()
            said = " | ".join(line for line in (folder / SAID).read_text(errors="replace").splitlines() if line.strip())
            if not (folder / SUMS).exists():
                return Result(0, 0, [f"FAILED --door {name}: its valid inputs are refused: {said[-1000:]}"], 0, 0)
            number, good, most, took = (folder / SUMS).read_text().split()
            failures += (folder / FAILED).read_text().splitlines()
        accepted, peak, seconds, at = accepted + int(good), max(peak, int(most)), seconds + float(took), int(number)
        if at < end:
            deaths, at = deaths + 1, at + 1
            failures.append(_failure(name, number, f"it ended the process ({process.exitcode}): {said[-600:]}"))
    return Result(at - first, accepted, failures, seconds, peak)


def main() -> int:
    CONTEXT.set_forkserver_preload(["tests.reliability.doors"])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="of all doors together, or of the one that is named")
    parser.add_argument("--door", help="one door alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--show", action="store_true", help="print each damaged file and the answer, in this process")
    options = parser.parse_args()
    if options.show:
        with tempfile.TemporaryDirectory() as folder:
            run_cases(options.door, options.first, options.cases, Path(folder), show=True)
        return 0
    names = [options.door] if options.door else list(DOORS)
    results = []
    for name in names:
        result = run_door(name, options.first, -(-options.cases // len(names)))
        results.append(result)
        print(*result.failures, sep="\n", end="\n" if result.failures else "")
        print(
            f"{name}: {result.cases} cases, {result.accepted} gave a result, {len(result.failures)} failed, "
            f"{result.seconds:.0f} s, at most {result.peak} MiB",
            flush=True,
        )
    print(f"{sum(r.cases for r in results)} cases, {sum(len(r.failures) for r in results)} failed")
    return 1 if any(result.failures for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
