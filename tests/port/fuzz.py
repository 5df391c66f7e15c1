"""Do readers of foreign weight files stay safe on damaged and hostile files?

    python tests/port/fuzz.py --mutations 100000             # of each format
    python tests/port/fuzz.py --seconds 60                   # of all formats together
    python tests/port/fuzz.py --format torch --first 1234 --mutations 1     # one case again

Valid small files of every format are mutated: bits, cuts, insertions, splices, numbers, pickle opcodes, entries of zip
files. A case passes if the file is read in full or refused with a CheckpointError, within CASE_SECONDS and MEMORY
beyond what the process had before, without any event that an audit hook counts as a side effect. Exit code 1 if any
case fails; each is printed with its number.
"""

import argparse
import io
import json
import os
import pickletools
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

import numpy as np
import paddle
import safetensors.numpy

from unimo.errors import CheckpointError
from unimo.port.files.tensor_files import open_tensors
from unimo.port.files.variables import open_combined, open_variable, write_combined, write_folder
from unimo.port.weights import Stored

CASE_SECONDS = 2.0
MEMORY = 64 << 20  # bytes; the files have a few thousand
FIXTURES = Path(__file__).parents[1] / "fixtures" / "torch"
OPENERS: dict[str, Callable[[Path], Iterable[Stored]]] = {
    "variable": lambda path: [open_variable(path)],
    "combined": open_combined,
    **dict.fromkeys(("pdparams", "torch", "legacy", "safetensors", "npz", "index"), lambda p: open_tensors(p).values()),
}
# Audit events that reading a file has no business with; opening for writing is added below.
FORBIDDEN = re.compile(
    r"import|exec|compile|pickle\.find_class|marshal\.|ctypes\.|socket\.|subprocess\.|shutil\.|urllib\.|os\."
    r"(system|exec|spawn|posix_spawn|fork|startfile|remove|rename|mkdir|rmdir|chmod|chown|link|symlink|truncate|putenv)"
)


def originals(folder: Path) -> dict[str, list[bytes]]:
    """Valid files of every format."""
    rng = np.random.default_rng(0)
    arrays = {"word_embedding": rng.normal(size=(3, 4)).astype(np.float32), "b": np.arange(5), "h": np.ones(2, "f2")}
    write_folder(folder / "variables", arrays)
    write_combined(folder / "combined", arrays)
    np.savez(folder / "plain.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", **arrays)
    whole = safetensors.numpy.save(arrays, {"format": "np"})
    (folder / "shard.safetensors").write_bytes(whole)
    index = {"metadata": {"total_size": 96}, "weight_map": dict.fromkeys(arrays, "shard.safetensors")}
    state = {name: paddle.to_tensor(array) for name, array in arrays.items()}
    state["bfloat16"] = paddle.ones([2, 2]).astype("bfloat16")
    optimizer = {"w_moment1_0": paddle.ones([3]), "LR_Scheduler": {"last_epoch": 1, "last_lr": 0.1}}
    saved = [(state, protocol) for protocol in (2, 3, 4)] + [(optimizer, 4), (paddle.ones([2]), 4)]
    for number, (value, protocol) in enumerate(saved):
        paddle.save(value, str(folder / f"{number}.pdparams"), protocol=protocol)
    files = {
        "variable": sorted((folder / "variables").iterdir()),
        "combined": [folder / "combined"],
        "pdparams": sorted(folder.glob("*.pdparams")),
        "torch": [FIXTURES / "tensors.pt", FIXTURES / "linear.bin", FIXTURES / "module.pt"],
        "legacy": [FIXTURES / "tensors_legacy.bin"],
        "npz": sorted(folder.glob("*.npz")),
    }
    found = {name: [path.read_bytes() for path in paths] for name, paths in files.items()}
    return found | {"safetensors": [whole], "index": [json.dumps(index).encode()]}


NUMBERS = [
    0,
    1,
    2,
    127,
    128,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
]
SNIPPETS = [  # pieces of pickles: calls, references, sizes, nesting, objects
    b"cos\nsystem\nX\x08\x00\x00\x00touch x!\x85R",
    b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x031+1\x85R",
    b"\x8c\x0bcollections\x8c\x15__builtins__.__import__\x93\x8c\x02os\x85R",
    b"cnumpy.f2py.crackfortran\nmyeval\nX\x03\x00\x00\x001+1\x85R",
    b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01b\x87R",
    b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x89\x88\x87R",
    b"ccollections\nOrderedDict\n]\x85R",
    b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R",
    b"ctorch\nFloatStorage\n",
    *(b"\x8e" + struct.pack("<Q", n) for n in NUMBERS),
    *(b"\x8d" + struct.pack("<Q", n) for n in NUMBERS),
    *(b"\x95" + struct.pack("<Q", n) for n in NUMBERS),
    *(code + struct.pack("<I", n) for code in (b"r", b"j", b"B", b"X", b"\x8b", b"\x84") for n in NUMBERS if n < 2**32),
    b"2\x86" * 40,  # (x, x) of (x, x) of ...
    b"\x85" * 500,
    b"(" * 500,
    b"]" * 500 + b"a" * 499,
    *(bytes([code]) for code in b"(.012NQRab]ldetus}o\x81\x82\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"),
    b"Pid\n",
    b"(cos\nsystem\no",
    b"(ios\nsystem\n",
    b"I99\n",
    b"L99L\n",
]


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four mutations of a file."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if data.startswith(b"PK") and rng.random() < 0.6:
            data = mutate_entry(data, rng)
        else:
            data = rng.choice(MUTATIONS)(data, others, rng)
    return data


def flip(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def insert(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 4, 30))
    part = rng.choice((rng.randbytes(size), bytes(size), data[at : at + size], b"9" * size, b"[" * 20 * size))
    return data[:at] + part + data[at + rng.choice((0, len(part))) :]


def splice(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def number(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Another binary number, or other decimal digits, in one place."""
    digits = list(re.finditer(rb"[0-9]+", data))
    value = rng.choice(NUMBERS) - rng.choice((0, 0, 1))
    if digits and rng.random() < 0.4:
        found = rng.choice(digits)
        data = data[: found.start()] + str(value).encode() + data[found.end() :]
        is_safetensors = data[8:9] == b"{"  # its length in front may stay right, so that the header is read
        end = max(data.find(b"}}") + 2, 8)
        return struct.pack("<Q", end - 8) + data[8:] if is_safetensors and rng.random() < 0.7 else data
    size, at = rng.choice((1, 2, 4, 8)), rng.randrange(max(len(data), 1))
    return data[:at] + (value % 2 ** (8 * size)).to_bytes(size, "little") + data[at + size :]


def opcode(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A piece of a pickle between two opcodes, or in place of one, or an opcode taken out."""
    if data[:1] != b"\x80":
        return flip(data, others, rng)
    places, stream = [], io.BytesIO(data)
    try:
        while True:  # one pickle after the other
            places += [place for _, _, place in pickletools.genops(stream)]
    except (ValueError, IndexError, OverflowError):
        places = places or [0]
    which = rng.randrange(len(places))
    after = places[which + 1] if which + 1 < len(places) else len(data)
    return data[: places[which]] + rng.choice((*SNIPPETS, b"")) + data[rng.choice((places[which], after)) :]


MUTATIONS = (flip, cut, insert, splice, number, opcode, opcode)


def mutate_entry(data: bytes, rng: random.Random) -> bytes:
    """Change one entry of a zip file, or its name, in a zip file that is whole again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = [(info.filename, info.compress_type, file.read(info)) for info in file.infolist()]
        which, target = rng.randrange(len(entries)), io.BytesIO()
    except Exception:  # an earlier mutation broke it in one of many ways, or left it empty
        return flip(data, [data], rng)
    with zipfile.ZipFile(target, "w") as file:
        for i, (name, kind, content) in enumerate(entries):
            if i == which:
                action = rng.choice((*MUTATIONS, None))
                content = action(content, [content], rng) if action else content
                name = rng.choice((name,) * 8 + ("../x", "/etc/passwd", "data.pkl", entries[0][0] + "2"))
                kind = rng.choice((kind,) * 8 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2))
                content = bytes(10**6) if rng.random() < 0.02 else content
            file.writestr(zipfile.ZipInfo(name), content, kind)
    return target.getvalue()


class Watch:
    """Counts events of the audit hook between `start` and `stop`."""

    def __init__(self) -> None:
        self.active, self.events = False, []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or FORBIDDEN.match(event):
            self.events.append(f"{event} {str(arguments)[:200]}")


def run_case(path: Path, opener: Callable[[Path], Iterable[Stored]], watch: Watch) -> tuple[bool, str]:
    """Read one file in full. Was it accepted, and what is wrong with how it was read ("" if nothing)."""
    watch.events, wrong, accepted, started = [], "", False, time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
    watch.active = True
    try:
        for tensor in opener(path):
            values = np.array(tensor.read())
            if (values.shape, values.dtype) != (tuple(tensor.shape), tensor.dtype):
                wrong = f"{values.dtype} {values.shape} where {tensor.dtype} {tensor.shape} was declared"
        accepted = True
    except CheckpointError as error:
        str(error)
    except BaseException as error:
        wrong = f"{type(error).__name__}: {error}"
    finally:
        watch.active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    if watch.events:
        wrong += f" side effects: {watch.events[:3]}"
    return accepted, wrong or ("slow" if time.monotonic() - started > CASE_SECONDS else "")


def fuzz(name: str, files: list[bytes], folder: Path, numbers: Iterable[int], seconds: float, watch: Watch) -> int:
    """Run cases of one format until the numbers or the time end; print what failed and a summary."""
    path, end = folder / f"fuzzed.{name}", time.monotonic() + seconds
    cases, accepted, failures, slowest = 0, 0, 0, 0.0
    for case in numbers:
        rng = random.Random(f"{name}:{case}")
        data = mutate(rng.choice(files), files, rng)
        path.unlink(missing_ok=True)  # a new file: a mapped one must not change
        path.write_bytes(data)
        started = time.monotonic()
        good, wrong = run_case(path, OPENERS[name], watch)
        cases, accepted, slowest = cases + 1, accepted + good, max(slowest, time.monotonic() - started)
        if wrong:
            failures += 1
            print(f"FAILED --format {name} --first {case} --mutations 1: {wrong}\n  {data[:200].hex()}", flush=True)
        if time.monotonic() > end:
            break
    print(
        f"{name}: {cases} mutations, {accepted} still readable, {failures} failed, slowest {slowest:.3f} s", flush=True
    )
    return failures


def stop_case(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {CASE_SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, help="cases of each format; without a limit of time 1000")
    parser.add_argument("--seconds", type=float, help="time for all formats together")
    parser.add_argument("--format", choices=OPENERS, help="one format alone")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    options = parser.parse_args()
    names = [options.format] if options.format else list(OPENERS)
    count = options.mutations or (1000 if options.seconds is None else sys.maxsize)
    seconds = (options.seconds or float("inf")) / len(names)
    with tempfile.TemporaryDirectory() as folder:
        files, watch = originals(Path(folder)), Watch()
        signal.signal(signal.SIGALRM, stop_case)
        for name in OPENERS:  # every reader once, so that its lazy imports are done
            for number, data in enumerate(files[name]):
                path = Path(folder, f"valid-{number}.{name}")
                path.write_bytes(data)
                try:
                    list(OPENERS[name](path))
                except CheckpointError:  # a file that must be refused, and is interesting to mutate
                    pass
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
        numbers = range(options.first, options.first + count)
        failures = sum(fuzz(name, files[name], Path(folder), numbers, seconds, watch) for name in names)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
