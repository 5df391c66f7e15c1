"""Commands `benchmarks sst-2|cola|mnli|sts-b|snli-ve|vqa|imagenet|folders`."""

from pathlib import Path
from typing import Any

import click

from data_prep.stage import PATH

SPLITS = click.Choice(["train", "dev", "test"])


@click.group()
def benchmarks() -> None:
    """Take over benchmarks of understanding as examples.jsonl, with images.jsonl (docs/understanding_data.md)."""


def places(command: Any) -> Any:
    """From where to where, and the option that names the splits."""
    shown = "Only this; may be given several times.  [default: all]"
    command = click.option("--split", "splits", type=SPLITS, multiple=True, help=shown)(command)
    return click.argument("source", type=PATH)(click.argument("out", type=PATH)(command))


labels_option = click.option(
    "--labels", help="Of the release's files: classes in the order of its integers, as a,b,c.  [default: GLUE's]"
)


def _glue(name: str, folder: str) -> None:
    """Make the command of one task of GLUE."""

    def command(source: Path, out: Path, **settings: Any) -> None:
        from data_prep.benchmarks.glue_tsv import convert

        click.echo(convert(name, source, out, **settings))

    command.__doc__ = f"""Take over {folder}, in GLUE's tables or the release's, from the folder SOURCE into OUT.

    \b
    Example: python -m data_prep benchmarks {name} glue_data/{folder} data/{name}
    """
    command = click.option("--lower-case", is_flag=True, help="Texts in small letters.")(command)
    command = labels_option(command) if name != "sts-b" else command
    benchmarks.command(name)(places(command))


for name, folder in (("sst-2", "SST-2"), ("cola", "CoLA"), ("mnli", "MNLI"), ("sts-b", "STS-B")):
    _glue(name, folder)


@benchmarks.command("snli-ve")
@places
@click.option("--images", type=PATH, help="Flickr30k's pictures, at any depth, for images.jsonl.")
@click.option("--premise", is_flag=True, help="Of the public lists: the caption before the hypothesis.")
@labels_option
@click.option("--tokenizer", type=PATH, help="Of the release's files: folder of the vocabulary, model_files/dict.")
def snli_ve(source: Path, out: Path, **settings: Any) -> None:
    """Take over SNLI-VE, the public lists or the release's files, from the folder SOURCE into OUT.

    \b
    Example: python -m data_prep benchmarks snli-ve SNLI-VE/ data/snli-ve --images flickr30k-images/
    """
    from data_prep.benchmarks.snli_ve_lists import convert

    click.echo(convert(source, out, **settings))


@benchmarks.command()
@places
@click.option("--images", type=PATH, help="COCO's pictures, at any depth, for images.jsonl.")
@click.option("--answers", type=PATH, help="A published list of answers: lines, a JSON array or answer -> class.")
@click.option(
    "--mentions",
    type=click.IntRange(min=1),
    default=9,
    help="Questions that an answer of the list is the consensus of, at least, where none is given.",
)
@click.option("--genome", type=PATH, help="question_answers.json, image_data.json beside it: more examples of train.")
def vqa(source: Path, out: Path, **settings: Any) -> None:
    """Take over VQA v2 from the folder SOURCE of its json files into OUT, with a list of answers.

    \b
    Example: python -m data_prep benchmarks vqa vqa_v2/ data/vqa --images coco/
    """
    from data_prep.benchmarks.vqa_json import convert

    click.echo(convert(source, out, **settings))


@benchmarks.command()
@places
@click.option("--ground-truth", type=PATH, help="Of a val without folders: ILSVRC2012_validation_ground_truth.txt.")
@click.option("--synsets", type=PATH, help="What its numbers stand for: meta.mat, or a text of WordNet ids from 1 on.")
def imagenet(source: Path, out: Path, **settings: Any) -> None:
    """Take over ImageNet from the folder SOURCE, with train/CLASS/ and val/CLASS/ or a val without folders, into OUT.

    \b
    Example: python -m data_prep benchmarks imagenet ILSVRC2012/ data/imagenet
    """
    from data_prep.benchmarks.class_folders import convert

    click.echo(convert("imagenet", source, out, **settings))


@benchmarks.command()
@places
def folders(source: Path, out: Path, **settings: Any) -> None:
    """Take over own pictures from the folder SOURCE, train/CLASS/ and perhaps val/CLASS/ and test/CLASS/, into OUT.

    \b
    Example: python -m data_prep benchmarks folders flowers/ data/flowers
    """
    from data_prep.benchmarks.class_folders import convert

    click.echo(convert("folders", source, out, **settings))
