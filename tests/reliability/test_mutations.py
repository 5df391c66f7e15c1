"""The mutation campaign in its short form and its whole one, and whether it finds what it looks for."""

import re
import secrets
import subprocess
import sys

import pytest

from tests.reliability.doors import DOORS
from unimo.config import ROOT

SHORT, WHOLE = 9 * len(DOORS), 100_000  # cases


def run(*words: object, timeout: float) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT)


def campaign(cases: int, first: int, timeout: float) -> str:
    done = run("-m", "tests.reliability.mutation_campaign", "--cases", cases, "--first", first, timeout=timeout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]  # names the cases to run again
    counts = re.findall(r"^([\w-]+): (\d+) cases, (\d+) gave a result, 0 failed", done.stdout, re.MULTILINE)
    assert [name for name, *_ in counts] == list(DOORS) and sum(int(count) for _, count, _ in counts) >= cases
    assert sum(int(good) for *_, good in counts) > cases // 20, "nearly all was refused: nothing was tried in depth"
    return done.stdout


@pytest.mark.xdist_group("fuzz")
def test_every_door_answers_a_few_damaged_inputs():
    campaign(SHORT, first=0, timeout=300)


@pytest.mark.heavy
def test_every_door_answers_a_hundred_thousand_damaged_inputs():
    print(campaign(WHOLE, first=secrets.randbelow(2**40), timeout=7200))


FAULTS = """
import multiprocessing, os, subprocess, sys, time
from tests.reliability import mutation_campaign as campaign
from tests.reliability.door import Door
from unimo.errors import DataError

def refuse():
    raise DataError("no")

def compute():
    while time.process_time() < 60:
        pass

acts = {"refuses": refuse, "raises": lambda: {}["x"], "says": lambda: (_ for _ in ()).throw(DataError("")),
        "grows": lambda: b"x" * (200 << 20), "starts": lambda: subprocess.run(["true"]), "dies": os.abort,
        "hangs": lambda: time.sleep(60), "leaves": lambda: sys.exit(0)}
campaign.CONTEXT, campaign.HANGS = multiprocessing.get_context("fork"), 3.0
campaign.CONTEXT.set_forkserver_preload = lambda names: None
campaign.DOORS.clear()
for name, act in acts.items():
    def make(scratch, act=act):
        answers = iter([lambda: "the valid input"])
        return Door([{"file": b"abc"}], lambda folder: next(answers, act)())
    campaign.DOORS[name] = make
sys.argv[1:] = ["--cases", str(2 * len(acts))]
sys.exit(campaign.main())
"""


def test_what_it_looks_for_is_found():
    done = run("-c", FAULTS, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr[-2000:]
    failed = {name: int(count) for name, count in re.findall(r"^(\w+): 2 .* (\d) failed", done.stdout, re.MULTILINE)}
    others = ("raises", "says", "grows", "starts", "dies", "hangs", "leaves")
    assert failed == {"refuses": 0, **dict.fromkeys(others, 2)}, done.stdout
    words = (
        "KeyError: 'x'",
        "an error without a word",
        "MiB of memory, expected 64 at most",
        "side effects",
        "(-6)",
        "SystemExit",
    )
    assert all(word in done.stdout for word in words), done.stdout
    assert "FAILED --door hangs --first 1 --cases 1 --show: it ended the process (1)" in done.stdout
