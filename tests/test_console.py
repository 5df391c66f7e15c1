"""What the group of commands makes of errors: one message and the exit code of their type, or the error itself."""

import errno
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from unimo.console import Console
from unimo.errors import ConfigError, NonFiniteError, Preempted, Stopped


def outcome(error: BaseException, extra: str | None = None):
    @click.group(cls=Console, extra=extra)
    def main() -> None:
        pass

    @main.command()
    def work() -> None:
        raise error

    return CliRunner().invoke(main, ["work"])


@pytest.mark.parametrize(
    "error, code, message",
    [
        (ConfigError("no such key"), 2, "error: no such key"),
        (Preempted("stopped"), 75, "error: stopped"),
        (Stopped("at once"), 75, "error: at once"),
        (NonFiniteError("nan"), 76, "error: nan"),
        (OSError(errno.ENOSPC, "No space left on device", "/full"), 2, "error: /full: No space left on device"),
        (OSError("odd"), 2, "error: work: odd"),
    ],
)
def test_our_errors_and_the_systems(error, code, message):
    result = outcome(error)
    assert (result.exit_code, result.stderr.strip()) == (code, message)


def test_names_of_other_people_do_not_steer_the_terminal():
    result = outcome(ConfigError("image '\x1b]0;owned\x07\x9b2J\ud800é 猫\t'\nis unknown"))
    assert result.stderr == "error: image '\\x1b]0;owned\\x07\\x9b2J\\ud800é 猫\t'\nis unknown\n"


def test_a_missing_package_of_the_extra_is_named():
    result = outcome(ModuleNotFoundError("no", name="sklearn.feature_extraction"), extra="data")
    assert result.exit_code == 2 and "work needs the package sklearn: pip install -e '.[data]'" in result.stderr


@pytest.mark.parametrize("name, extra", [("unimo.lost", "data"), ("safetensors", None), (None, "data")])
def test_any_other_missing_module_is_a_fault_to_be_seen_whole(name, extra):
    assert isinstance(outcome(ModuleNotFoundError("no", name=name), extra).exception, ModuleNotFoundError)


def test_a_closed_pipe_is_left_to_click():
    assert isinstance(outcome(BrokenPipeError()).exception, BrokenPipeError | SystemExit)


PROGRAM = """
import click, os, sys, time
from contextlib import suppress
from tqdm import tqdm
from unimo.console import Console, say

@click.group(cls=Console)
def main(): pass

@main.command()
@click.argument("out")
def work(out):
    with open(out, "w") as file:
        with suppress(OSError):
            os.write(2, b"from a library\\n")
        for n in tqdm(range(50), mininterval=0):
            time.sleep(0.002)
            say(f"notice {n}")
            print("step", n, file=sys.stderr)
        file.write("done")

main()
"""


@pytest.mark.parametrize("redirection", ["", "2>&-", "<&- >&- 2>&-", "2>/dev/full", "2> >(head -c 5 >/dev/null)"])
def test_work_outlives_whoever_watches_it(redirection, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f"{sys.executable} {tmp_path}/program.py work {tmp_path}/out {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "done"
