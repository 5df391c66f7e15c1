"""Command `rewrite`."""

from typing import Any

import click

from data_prep.stage import PATH, shard_option


@click.command()
@click.option("--pairs", type=PATH, required=True, help="Pictures with captions (pairs.jsonl).")
@click.option("--out", type=PATH, required=True, help="The file to write (rewrites.jsonl).")
@click.option("--negatives", type=click.IntRange(min=0), default=8, help="Swaps of each kind a caption, at most.")
@click.option("--tfidf", type=click.IntRange(min=0), default=8, help="Similar captions of other images a caption.")
@click.option("--seed", type=int, default=0)
@shard_option
def rewrite(**settings: Any) -> None:
    """Parse captions into scene graphs and make hard negatives: swapped phrases, similar captions. Resumable.

    \b
    Example: python -m data_prep rewrite --pairs data/demo/pairs.jsonl --out data/demo/rewrites.jsonl
    """
    from data_prep.rewrite.build import build

    click.echo(build(**settings))
