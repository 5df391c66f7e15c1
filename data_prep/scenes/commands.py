"""Command `scenes`."""

from pathlib import Path
from typing import Any

import click

from data_prep.stage import PATH, cache_option


@click.command()
@click.argument("out", type=PATH)
@click.option("--train", type=click.IntRange(min=1), default=20_000, help="Pictures of this split.")
@click.option("--dev", type=click.IntRange(min=1), default=500, help="Of this.")
@click.option("--test", type=click.IntRange(min=1), default=1_000, help="And of this.")
@click.option(
    "--unpaired",
    type=click.IntRange(min=0),
    default=0,
    help="Pictures more, without captions, in images.jsonl, and captions of as many other scenes in texts.jsonl.",
)
@click.option("--side", type=click.IntRange(min=32), default=112, help="Pixels of a picture's side.")
@click.option("--plain", is_flag=True, help="Plain grounds only: no photographs, and one package less to fetch.")
@click.option("--shards", is_flag=True, help="Tar shards in OUT/shards instead of picture files (docs/pixels.md).")
@click.option(
    "--cutouts", type=PATH, help="Own cut-outs, FOLDER/KIND/NAME.png with transparent grounds.  [default: packages']"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed makes other scenes.")
@cache_option
def scenes(out: Path, **settings: Any) -> None:
    """Compose pictures of known things in known places, with captions, rewrites and questions, in the folder OUT.

    \b
    Example: python -m data_prep scenes data/scenes
             python -m data_prep scenes data/small --train 500 --dev 50 --test 100 --plain
    """
    from data_prep.scenes.build import build

    click.echo(build(out, **settings))
