"""Commands `regions extract|...`."""

from typing import Any

import click

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
    type=click.Choice(["opencv-ssd", "resnet50"]),
    default="opencv-ssd",
    help="Features of the detector's own last map (1280-d), or of ResNet-50 under its boxes (2048-d, needs npm once).",
)
@click.option("--min-boxes", type=click.IntRange(min=1), default=10, help="Regions kept even below the threshold.")
@click.option("--max-boxes", type=click.IntRange(min=1), default=36, help="Regions kept at most, best first.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.2, help="Score above which a region is kept.")
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
