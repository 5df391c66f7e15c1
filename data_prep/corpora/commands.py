"""Commands `corpora text|pairs|images`."""

from pathlib import Path
from typing import Any

import click

from data_prep.stage import PATH, shard_option


@click.group()
def corpora() -> None:
    """Take over public corpora: texts as token shards, pictures with and without captions (docs/corpora.md)."""


@corpora.command()
@click.argument("sources", type=PATH, nargs=-1, required=True)
@click.option("--tokenizer", type=PATH, required=True, help="Folder of a vocabulary or a model, as in the recipe.")
@click.option("--out", type=PATH, required=True, help="Folder of the token shards.")
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
                 --exclude data/coco/pairs.jsonl --out data/tokens
    """
    from data_prep.corpora.text import build

    click.echo(build(sources, **settings))
