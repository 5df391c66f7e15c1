"""Commands `retrieve fit` and `retrieve apply`."""

from typing import Any

import click

from data_prep.stage import PATH, shard_option

COUNT = click.IntRange(min=0)
SHARE = click.FloatRange(0, 1)


@click.group()
def retrieve() -> None:
    """Find similar sentences and similar images for training captions, in two phases (docs/retrieval.md)."""


@retrieve.command()
@click.option("--pairs", type=PATH, required=True, help="Pictures with captions; what is dev or test is held out.")
@click.option("--texts", type=PATH, help="Sentences to retrieve from, besides the training captions (texts.jsonl).")
@click.option("--images", type=PATH, help="Pictures to retrieve from, besides the training ones (images.jsonl).")
@click.option("--regions", type=PATH, help="Their feature store; without it no images are retrieved.")
@click.option("--output", "--out", "out", type=PATH, required=True, help="The folder to write the index into.")
@click.option("--min-words", type=click.IntRange(min=1), default=3, help="Shorter texts are left out.")
@click.option("--object-score", type=SHARE, default=0.3, help="Regions count as objects from this score on.")
@click.option("--object-weight", type=SHARE, default=0.5, help="Share of object overlap in the likeness of images.")
def fit(**settings: Any) -> None:
    """Index sentences and images for `retrieve apply`; leaves out what is, or looks like, dev and test.

    \b
    Example: python -m data_prep retrieve fit --pairs data/demo/pairs.jsonl --texts data/demo/texts.jsonl \\
        --images data/demo/images.jsonl --regions data/demo/regions --output data/demo/neighbours
    """
    from data_prep.retrieve.build import fit

    click.echo(fit(**settings))


@retrieve.command()
@click.option("--index", type=PATH, required=True, help="What `retrieve fit` wrote.")
@click.option("--pairs", type=PATH, required=True, help="The same pairs.jsonl as there.")
@click.option("--rewrites", type=PATH, help="Fill the lists of these; without it, of records that hold nothing else.")
@click.option("--output", "--out", "out", type=PATH, required=True, help="The file to write (rewrites.jsonl).")
@click.option("--similar-texts", type=COUNT, default=20, help="Sentences a caption, at most.")
@click.option("--similar-images", type=COUNT, default=20, help="Images a caption, at most.")
@click.option("--text-threshold", type=SHARE, default=0.3, help="Least likeness of a sentence.")
@click.option("--image-threshold", type=SHARE, default=0.3, help="Least likeness of an image.")
@shard_option
def apply(**settings: Any) -> None:
    """Fill similar_texts and similar_images of every training caption; those of dev and test stay empty. Resumable.

    \b
    Example: python -m data_prep retrieve apply --index data/demo/neighbours --pairs data/demo/pairs.jsonl \\
        --rewrites data/demo/rewrites.jsonl --output data/demo/augmented.jsonl
    """
    from data_prep.retrieve.build import apply

    click.echo(apply(**settings))
