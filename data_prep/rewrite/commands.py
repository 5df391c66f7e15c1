"""Commands `rewrite build|quality`."""

from pathlib import Path
from typing import Any

import click

from data_prep.stage import PATH, shard_option


@click.group()
def rewrite() -> None:
    """Rewrites of captions: hard negatives, and how good people find a sample of rewrites."""


@rewrite.command()
@click.option("--pairs", type=PATH, required=True, help="Pictures with captions (pairs.jsonl).")
@click.option("--out", type=PATH, required=True, help="The file to write (rewrites.jsonl).")
@click.option("--negatives", type=click.IntRange(min=0), default=8, help="Swaps of each kind a caption, at most.")
@click.option("--tfidf", type=click.IntRange(min=0), default=8, help="Similar captions of other images a caption.")
@click.option("--seed", type=int, default=0)
@shard_option
def build(**settings: Any) -> None:
    """Parse captions into scene graphs and make hard negatives: swapped phrases, similar captions. Resumable.

    \b
    Example: python -m data_prep rewrite build --pairs data/demo/pairs.jsonl --out data/demo/rewrites.jsonl
    """
    from data_prep.rewrite.build import build

    click.echo(build(**settings))


@rewrite.command()
@click.argument("sample", type=PATH)
@click.argument("labels_a", type=PATH)
@click.argument("labels_b", type=PATH)
def quality(sample: Path, labels_a: Path, labels_b: Path) -> None:
    """Rates of fluent and valid rewrites in SAMPLE after two people's labels, and how far they agree.

    \b
    Example: python -m data_prep rewrite quality sample.jsonl labels_a.jsonl labels_b.jsonl
    """
    from data_prep.rewrite.quality import quality

    click.echo(quality(sample, labels_a, labels_b))
