"""Commands `regions extract|...`."""

from typing import Any

import click

from data_prep.regions.extractor import EXTRACTORS
from data_prep.stage import PATH, cache_option, shard_option


@click.group()
def regions() -> None:
    """Regions of pictures: boxes, classes and pooled features, in a feature store."""


@regions.command()
@click.option("--pairs", type=PATH, help="Pictures with captions (pairs.jsonl).")
@click.option("--images", type=PATH, help="Pictures without (images.jsonl).")
@click.option("--out", type=PATH, required=True, help="Folder of the feature store.")
@click.option(
    "--extractor",
    type=click.Choice(list(EXTRACTORS)),
    default="opencv-ssd",
    help="What finds regions and makes their features (docs/regions.md). An option that it does not have is refused.",
)
@click.option("--model-dir", type=PATH, help="Of paddlex: a folder of its kind. Of grid: a model with a ViT.")
@click.option("--min-boxes", type=click.IntRange(min=1), help="Regions kept even below the threshold.  [default: 10]")
@click.option("--max-boxes", type=click.IntRange(min=1), help="Regions kept at most, best first.  [default: 36]")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Score above which one is kept.  [default: 0.2]")
@shard_option
@cache_option
def extract(**settings: Any) -> None:
    """Detect objects in pictures and store their boxes, classes and features. Resumable.

    \b
    Example: python -m data_prep regions extract --pairs data/demo/pairs.jsonl --images data/demo/images.jsonl \\
                 --out data/demo/regions
    """
    from data_prep.regions.build import build

    click.echo(build(**settings))
