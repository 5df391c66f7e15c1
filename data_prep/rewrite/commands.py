"""Commands `rewrite fit|build|sample|quality|difficulty`."""

from pathlib import Path
from typing import Any

import click

from data_prep.stage import PATH, cache_option, shard_option

COUNT = click.IntRange(min=0)


@click.group()
def rewrite() -> None:
    """Rewrites of captions: paraphrases, hard negatives, and how good people find a sample (docs/rewriting.md)."""


@rewrite.command()
@click.option("--pairs", type=PATH, required=True, help="Pictures with captions (pairs.jsonl).")
@click.option("--output", "--out", "out", type=PATH, required=True, help="The folder to write the index into.")
def fit(**settings: Any) -> None:
    """Parse all captions and count their words, once for all parts of `rewrite build --index`. Resumable.

    \b
    Example: python -m data_prep rewrite fit --pairs data/demo/pairs.jsonl --output data/demo/words
    """
    from data_prep.rewrite.build import fit

    click.echo(fit(**settings))


@rewrite.command()
@click.option("--pairs", type=PATH, required=True, help="Pictures with captions (pairs.jsonl).")
@click.option("--index", type=PATH, help="What `rewrite fit` wrote for them; without it they are parsed here.")
@click.option("--output", "--out", "out", type=PATH, required=True, help="The file to write (rewrites.jsonl).")
@click.option("--paraphrases", type=COUNT, default=3, help="Back-translations a caption, at most.")
@click.option("--negatives", type=COUNT, default=8, help="Swaps of each kind a caption, at most.")
@click.option("--tfidf", type=COUNT, default=8, help="Similar captions of other images a caption, at most.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    default=("auto",),
    help="bergamot-pt or apertium-es, or both; auto: those that can be had here.",
)
@click.option("--similarity", type=click.FloatRange(0, 1), default=0.85, help="Least likeness of a paraphrase.")
@click.option("--regions", type=PATH, help="A feature store: what is seen in an image is not swapped in.")
@click.option("--seed", type=int, default=0)
@shard_option
@cache_option
def build(paraphrases: int, negatives: int, tfidf: int, **settings: Any) -> None:
    """Make paraphrases and hard negatives of captions: back-translations, swapped phrases, similar captions. Resumable.

    \b
    Example: python -m data_prep rewrite build --pairs data/demo/pairs.jsonl --regions data/demo/regions \\
                 --output data/demo/rewrites.jsonl
    """
    from data_prep.rewrite.build import Amounts, build

    click.echo(build(amounts=Amounts(paraphrases, negatives, tfidf), **settings))


@rewrite.command()
@click.argument("rewrites", type=PATH)
@click.option("--output", "--out", "out", type=PATH, required=True, help="The sample; beside it, the sheet for people.")
@click.option("--captions", type=click.IntRange(min=1), default=200, help="Captions whose rewrites are judged.")
@click.option("--seed", type=int, default=0)
def sample(**settings: Any) -> None:
    """Draw rewrites for two people to judge, and write a sheet that does not tell what each is meant to be.

    \b
    Example: python -m data_prep rewrite sample data/demo/rewrites.jsonl --output sample.jsonl
    """
    from data_prep.rewrite.quality import draw

    click.echo(draw(**settings))


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


@rewrite.command()
@click.argument("sample", type=PATH)
@cache_option
def difficulty(**settings: Any) -> None:
    """How often a language model tells the rewrites of SAMPLE without the picture; fetches one (93 MB).

    \b
    Example: python -m data_prep rewrite difficulty sample.jsonl
    """
    from data_prep.rewrite.difficulty import difficulty

    click.echo(difficulty(**settings))
