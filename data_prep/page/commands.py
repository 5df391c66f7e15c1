"""Command `page`."""

from typing import Any

import click

from data_prep.stage import PATH


@click.command()
@click.option("--pairs", type=PATH, required=True, help="Pictures with captions (pairs.jsonl).")
@click.option("--rewrites", type=PATH, required=True, help="What `rewrite build` or `retrieve apply` wrote.")
@click.option("--regions", type=PATH, help="Feature store of the pictures; without it no boxes are drawn.")
@click.option("--images", type=PATH, help="Pictures without captions, which similar images may be (images.jsonl).")
@click.option(
    "--neighbours", type=PATH, help="Scores and sources of what is similar.  [default: beside REWRITES, if there]"
)
@click.option("--split", type=click.Choice(["train", "dev", "test", "all"]), default="train", help="Of the captions.")
@click.option("--output", "--out", "out", type=PATH, required=True, help="The page.")
@click.option("--count", type=click.IntRange(min=1), default=50, help="Captions shown, drawn by chance.")
@click.option("--seed", type=int, default=0)
def page(**settings: Any) -> None:
    """Show what was made of some captions in one HTML page: boxes, scene graph, rewrites, neighbours.

    Look at it before training: it shows what a wrong setting or a weak tool does to the data.

    \b
    Example: python -m data_prep page --pairs data/demo/pairs.jsonl --rewrites data/demo/augmented.jsonl \\
                 --regions data/demo/regions --images data/demo/images.jsonl --output page.html
    """
    from data_prep.page.build import write_page

    click.echo(write_page(**settings))
