"""Commands `corpora text|pairs|images|pack`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from data_prep.stage import PATH, shard_option

POSITIVE = click.FloatRange(min=0, min_open=True)


@click.group()
def corpora() -> None:
    """Take over public corpora: texts as token shards, pictures with and without captions (docs/corpora.md)."""


@corpora.command()
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--tokenizer", type=PATH, required=True, help="Folder of a vocabulary or a model, as in the recipe.")
@click.option("--output", "--out", "out", type=PATH, required=True, help="Folder of the token shards.")
@click.option(
    "--by",
    type=click.Choice(["line", "passage"]),
    default="line",
    help="What a text of a plain file is: each line, or the lines up to a blank one.",
)
@click.option("--key", default="text", help="Key of the text in .jsonl files.")
@click.option("--exclude", type=PATH, help="pairs.jsonl: leave out texts close to captions of its dev and test.")
@click.option("--licence", default="not stated", help="Of the texts, for the manifest.")
@shard_option
def text(sources: tuple[Path, ...], **settings: Any) -> None:
    """Tokenize text files, .jsonl files and folders of them, plain or .gz, into packed token shards. Resumable.

    \b
    Example: python -m data_prep corpora text books/ news.jsonl.gz --tokenizer model_files/dict --by passage \\
                 --exclude data/coco/pairs.jsonl --output data/tokens
    """
    from data_prep.corpora.text import build

    click.echo(build(sources, **settings))


def fetching(command: Callable) -> Callable:
    """The options of both commands that list pictures."""
    options = [
        click.option("--output", "--out", "out", type=PATH, required=True, help="Folder of the list and its pictures."),
        click.option("--images", type=PATH, help="Folder with the pictures, at any depth; nothing is fetched then."),
        click.option("--name", help="What image ids begin with, and the records' source.  [default: FORMAT]"),
        click.option("--exclude", type=PATH, help="pairs.jsonl: leave out pictures of its dev and test."),
        click.option(
            "--longest", type=click.IntRange(min=32), default=1024, help="Pixels of the longer side, at most."
        ),
        click.option("--threads", type=click.IntRange(min=1), default=16, help="Pictures fetched at once."),
        click.option("--per-host", type=click.IntRange(min=1), default=4, help="Of these, from one host."),
        click.option(
            "--timeout", type=click.FloatRange(min=0, min_open=True), default=20, help="Seconds without a byte."
        ),
        click.option("--deadline", type=POSITIVE, default=60, help="Seconds a picture."),
        click.option(
            "--max-mb", type=click.FloatRange(min=0, min_open=True), default=20, help="Size of a file, at most."
        ),
        click.option("--attempts", type=click.IntRange(min=1), default=3, help="Tries where a failure may pass."),
        click.option("--retry-failed", is_flag=True, help="Fetch again what failed in passing, such as by a timeout."),
        click.option("--allow-private", is_flag=True, help="Also from loopback and private networks."),
        shard_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@corpora.command()
@click.argument(
    "form",
    metavar="FORMAT",
    type=click.Choice(["coco", "flickr30k", "visual-genome", "conceptual-captions", "sbu"]),
)
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option(
    "--split",
    type=click.Choice(["train", "dev", "test"]),
    help="Of lists without splits.  [default: train; of coco what the files' names tell]",
)
@fetching
def pairs(form: str, sources: tuple[Path, ...], **settings: Any) -> None:
    """Make pairs.jsonl of a public set of pictures with captions. Resumable.

    FORMAT: coco (captions_*.json, dataset_coco.json), flickr30k (dataset_flickr30k.json), visual-genome
    (region_descriptions.json image_data.json), conceptual-captions (.tsv), sbu (.json, or two .txt).

    \b
    Example: python -m data_prep corpora pairs coco captions_train2014.json captions_val2014.json \\
                 dataset_coco.json --images coco/ --output data/coco
             python -m data_prep corpora pairs conceptual-captions Train_GCC-training.tsv --output data/cc3m
    """
    from data_prep.corpora.pairs import build

    click.echo(build(form, sources, **_with_rules(settings)))


@corpora.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(["openimages"]))
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--small", is_flag=True, help="Fetch the thumbnails (300,000 pixels), where there are any.")
@fetching
def images(form: str, sources: tuple[Path, ...], **settings: Any) -> None:
    """Make images.jsonl of a public list of pictures without captions. Resumable.

    FORMAT: openimages (image_ids_and_rotation.csv; its training subset is used).

    \b
    Example: python -m data_prep corpora images openimages image_ids_and_rotation.csv --small --output data/openimages
    """
    from data_prep.corpora.pairs import build

    click.echo(build(form, sources, **_with_rules(settings)))


@corpora.command()
@click.option("--pairs", type=PATH, multiple=True, help="pairs.jsonl; may be given several times.")
@click.option("--images", type=PATH, multiple=True, help="images.jsonl; may be given several times.")
@click.option("--output", "--out", "out", type=PATH, required=True, help="Folder of the shards.")
@click.option("--longest", type=click.IntRange(min=32), help="Pixels of the longer side, at most.  [default: any]")
@click.option("--shard-mb", type=click.IntRange(min=1), default=256, help="Size of a shard.")
def pack(pairs: tuple[Path, ...], images: tuple[Path, ...], **settings: Any) -> None:
    """Pack pictures into tar shards of the WebDataset layout, with an index, for models that read pixels. Resumable.

    \b
    Example: python -m data_prep corpora pack --pairs data/coco/pairs.jsonl --longest 512 --output data/coco/shards
    """
    from data_prep.corpora.pack import build

    if not pairs and not images:
        raise click.UsageError("name the pictures: --pairs, --images, or both")
    click.echo(build(pairs, images, **settings))


def _with_rules(settings: dict[str, Any]) -> dict[str, Any]:
    """The options as `build` takes them: what concerns fetching in one object."""
    from data_prep.corpora.fetch import Rules

    keys = ("longest", "threads", "per_host", "timeout", "deadline", "attempts", "allow_private")
    rules = {key: settings.pop(key) for key in keys}
    return settings | {"rules": Rules(**rules, max_bytes=int(settings.pop("max_mb") * (1 << 20)))}
