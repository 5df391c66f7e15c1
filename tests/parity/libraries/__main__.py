"""Are ported checkpoints the same function in the library they come from? Prints one row a case.

    python tests/parity/libraries [CASE]... [--write docs/porting.md]

Each library runs in an environment of its own (environments.py), makes random weights of real sizes itself, and
records its outputs; ours are computed from the ported file. The exit code is 1 if a row is above 1e-5 of the largest
activation, an argmax differs, or a library could not be run.
"""

import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import cases_paddle
import cases_text
import cases_vit
import click
from case import Case, Result

from unimo.errors import UnimoError
from unimo.hardware import describe, use_fast_gemm
from unimo.storage.atomic import atomic_write

CASES = {case.name: case for case in (*cases_paddle.CASES, *cases_text.CASES, *cases_vit.CASES)}
HEAD = "| format | direction | library | sizes | largest difference / largest activation | equal argmax |"
BEGIN, END = "<!-- written by tests/parity/libraries: begin -->", "<!-- written by tests/parity/libraries: end -->"


@click.command(help=__doc__)
@click.argument("names", metavar="[CASE]...", nargs=-1, type=click.Choice(list(CASES)))
@click.option(
    "--write",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replace the table between the two marker lines of this page; all cases only.",
)
def main(names: tuple[str, ...], write: Path | None) -> None:
    if names and write:
        raise click.UsageError("--write takes the table of all cases: name none")
    use_fast_gemm()
    rows, failed = [HEAD, "|---" * HEAD.count(" | ") + "|---|"], []
    print("\n".join(rows), flush=True)
    for case in (CASES[name] for name in names or CASES):
        start = time.monotonic()
        try:
            with tempfile.TemporaryDirectory() as folder:
                result = case.run(Path(folder))
        except (UnimoError, subprocess.CalledProcessError, OSError) as error:
            print(f"{case.name}: {error}", file=sys.stderr)
            result = Result(float("nan"), False)
        rows.append(row(case, result))
        failed += [] if result.passed else [case.name]
        print(rows[-1], flush=True)
        print(f"{case.name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    if write:
        replace_table(write, [machine(), "", *rows])
    if failed:
        sys.exit(f"not equal: {', '.join(failed)}")


def row(case: Case, result: Result) -> str:
    difference = "0 (bit-equal)" if result.difference == 0 else f"{result.difference:.1e}"
    cells = (case.format, case.direction, case.library, case.sizes, difference, "yes" if result.same_argmax else "NO")
    return f"| {' | '.join(cells)} |"


def machine() -> str:
    facts = describe() | {"paddle": version("paddlepaddle")}
    return "Measured with " + ", ".join(f"{k} {v}" for k, v in facts.items()) + "."


def replace_table(page: Path, lines: list[str]) -> None:
    """Put `lines` between the marker lines of `page`."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{page} has no lines {BEGIN!r} and {END!r} to write the table between")
    with atomic_write(page) as file:
        file.write("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]).encode())


if __name__ == "__main__":
    main()
