"""A minute of tests/port/fuzz.py over all formats, at another place of its endless list of cases in every run."""

import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")


@pytest.mark.xdist_group("fuzz")
def test_no_mutation_of_any_format_gets_through():
    first = secrets.randbelow(2**40)
    command = [sys.executable, "-W", "ignore", str(FUZZ), "--seconds", "60", "--first", str(first)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]  # names the cases to run again
    counts = dict(re.findall(r"^(\w+): (\d+) mutations, \d+ still readable, 0 failed", result.stdout, re.MULTILINE))
    assert len(counts) == 8 and min(map(int, counts.values())) > 100


def test_a_reader_that_lets_something_through_is_found(tmp_path):
    program = (
        "import pickle, sys\n"
        f"sys.path.insert(0, {str(FUZZ.parent)!r})\n"
        "import fuzz\n"
        "fuzz.OPENERS = {'pdparams': lambda path: [pickle.loads(path.read_bytes())] and []}\n"
        "sys.argv = ['fuzz.py', '--mutations', '100']\n"
        "sys.exit(fuzz.main())\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert result.returncode == 1, result.stderr[-2000:]
    assert "FAILED --format pdparams --first" in result.stdout and "pickle.find_class" in result.stdout
