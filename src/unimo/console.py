"""The group of commands at the top of `unimo` and of `python -m data_prep`: what they say to people, and heed."""

import os
import signal
import sys
import warnings
from contextlib import redirect_stderr, suppress
from typing import Any, TextIO, cast

import click

from unimo.errors import Stopped, UnimoError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # that ask a command to stop


def heeded() -> list[signal.Signals]:
    """The signals that this process heeds: all, but not a lost terminal if it was started to outlive it (nohup)."""
    outlives = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (outlives and number == signal.SIGHUP)]


def say(line: str) -> None:
    """Print a line on standard error, if there is one: a terminal or a pipe that is gone stops no work."""
    try:
        print(printable(line), file=sys.stderr, flush=True)
    except OSError:
        pass


def printable(text: str) -> str:
    """The text with control characters spelt out: ids and names of other people's files must not steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class _Lasting:
    """Standard error that outlives its terminal or pipe: bars and notices are shown as long as somebody sees them."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of a text stream."""
        try:
            self._stream.write(text)
        except OSError:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """As of a text stream."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        """Send all further output to nobody: what is left in a buffer would give the process the exit code 120."""
        with suppress(OSError):  # a stream without a descriptor, such as a test's
            descriptor, nobody = self._stream.fileno(), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, descriptor)
            os.close(nobody)


def _open_what_is_closed() -> None:
    """Give closed standard streams to nobody: the next file that is opened would get what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


class Console(click.Group):
    """Turns our errors and a full disk into one message and an exit code.

    Args:
        extra: of this project's extras, the one whose packages the commands import: one that is missing is named, too.
    """

    def __init__(self, *args: Any, extra: str | None = None, **options: Any):
        super().__init__(*args, **options)
        self._extra = extra

    def invoke(self, ctx: click.Context) -> None:
        """Run the command that was asked for."""
        warnings.filterwarnings("ignore", "No ccache found")  # Paddle says so at import; nothing is compiled here
        try:
            _open_what_is_closed()
            with redirect_stderr(cast(TextIO, _Lasting(sys.stderr))):
                super().invoke(ctx)
            return
        except (UnimoError, Stopped) as error:
            problem, code = str(error), error.exit_code
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if self._extra is None or package in ("", "unimo", "data_prep"):  # a fault of ours, to be seen whole
                raise
            problem = f"{ctx.invoked_subcommand} needs the package {package}: pip install -e '.[{self._extra}]'"
            code = 2
        except BrokenPipeError:  # `| head` has read enough; click leaves quietly
            raise
        except OSError as error:  # a folder that cannot be made, a disk that is full
            problem, code = f"{error.filename or ctx.invoked_subcommand}: {error.strerror or error}", 2
        say(f"error: {problem}")
        ctx.exit(code)
