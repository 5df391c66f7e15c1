"""Commands `regions extract|import|inspect|verify|tags`."""

from pathlib import Path
from typing import Any

import click

from data_prep.regions.importers import FORMATS
from data_prep.regions.registry import EXTRACTORS
from data_prep.stage import PATH, Shard, cache_option, shard_option


@click.group()
def regions() -> None:
    """Regions of pictures: boxes, classes and pooled features, in a feature store."""


@regions.command()
@click.option("--pairs", type=PATH, help="Pictures with captions (pairs.jsonl).")
@click.option("--images", type=PATH, help="Pictures without (images.jsonl).")
@click.option("--output", "--out", "out", type=PATH, required=True, help="Folder of the feature store.")
@click.option(
    "--extractor",
    type=click.Choice(list(EXTRACTORS)),
    default="opencv-ssd",
    help="What finds regions and makes their features (docs/regions.md). An option that it does not have is refused.",
)
@click.option(
    "--model-dir", type=PATH, help="Of butd and paddlex: a folder of their kind. Of grid: a model with a ViT."
)
@click.option("--min-boxes", type=click.IntRange(min=1), help="Regions kept even below the threshold.  [default: 10]")
@click.option(
    "--max-boxes", type=click.IntRange(min=1), help="Regions kept at most, best first.  [default: 36; butd: 100]"
)
@click.option("--threshold", type=click.FloatRange(0, 1), help="Score above which one is kept.  [default: 0.2]")
@click.option(
    "--selection",
    type=click.Choice(["original", "lxmert"]),
    help="Of butd: bottom-up attention's choice of boxes or that of LXMERT's extractor.  [default: original]",
)
@click.option("--class-names", type=PATH, help="Of butd: one a line without background.  [default: class 1, ...]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of butd: of its last stage, most of its work. bfloat16 needs a CPU that has it, and is noted in the store.  "
    "[default: float32]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes, each with a network of its own and the memory for it; the store is the same.",
)
@shard_option
@cache_option
def extract(**settings: Any) -> None:
    """Detect objects in pictures and store their boxes, classes and features. Resumable.

    \b
    Example: python -m data_prep regions extract --pairs data/demo/pairs.jsonl --images data/demo/images.jsonl \\
                 --output data/demo/regions
             python -m data_prep regions extract --extractor butd --model-dir models/butd \\
                 --pairs data/coco/pairs.jsonl --output data/coco/regions
    """
    from data_prep.regions.build import build
    from unimo.hardware import keep_freed_memory, share_freed_memory

    keep_freed_memory()  # returning the pages of large pictures to the kernel costs as much as decoding them
    share_freed_memory()
    click.echo(build(**settings))


@regions.command("import")
@click.argument("form", metavar="FORMAT", type=click.Choice(FORMATS))
@click.argument("source", type=PATH)
@click.option("--output", "--out", "out", type=PATH, required=True, help="Folder of the feature store.")
@click.option(
    "--boxes",
    type=click.Choice(["pixels", "normalised"]),
    help="Unit of box corners. Models see x1/w, y1/h, x2/w, y2/h and the share of the area; files hold pixels, or "
    "these with more columns (5: area; 6: w, h; 7: w, h, area), which are checked.  [default: the format's]",
)
@click.option(
    "--size-order",
    type=click.Choice(["wh", "hw"]),
    help="Order of the two size fields. UNIMO reads Flickr30k as w, h in training and as h, w in dev and test, SNLI-VE "
    "as w, h and COCO as h, w: look with `regions inspect`.  [default: the format's]",
)
@click.option("--sizes", type=PATH, help="Lines of {id, width, height}, where the source does not hold sizes.")
@click.option("--class-names", type=PATH, help="One class a line.  [default: class 1 ... class 1600]")
@click.option("--feature-dim", type=click.IntRange(min=1), default=2048, help="Numbers a region.")
@click.option("--probs", is_flag=True, help="Of uniter and npz: keep class probabilities; every image must have them.")
@click.option(
    "--ids",
    type=click.Choice(["coco", "flickr30k"]),
    help="Give images the ids of `corpora pairs coco|flickr30k`, such as coco-391895.  [default: the source's]",
)
@shard_option
def import_command(form: str, source: Path, out: Path, shard: Shard, **choices: Any) -> None:
    """Take over region features that others made (docs/regions.md). Resumable.

    \b
    Example: python -m data_prep regions import butd trainval_36.tsv --output data/coco/regions
    """
    from data_prep.regions.importers.import_store import Choices, import_features

    click.echo(import_features(form, source, out, Choices(**choices), shard))


@regions.command()
@click.argument("store", type=PATH)
@click.option("--pairs", type=PATH, help="Pictures with captions (pairs.jsonl), to draw the boxes on.")
@click.option("--images", type=PATH, help="Pictures without (images.jsonl).")
@click.option("--output", "--out", "out", type=PATH, help="The page.  [default: STORE.html]")
@click.option("--count", type=click.IntRange(min=1), default=24, help="Images drawn, by chance.")
@click.option("--seed", type=int, default=0)
def inspect(store: Path, out: Path | None, **settings: Any) -> None:
    """Print what a store holds and draw boxes and labels over pictures, in one HTML page.

    Look at it after an import: a swapped width and height shows at once. Without pictures the canvas stays empty.

    \b
    Example: python -m data_prep regions inspect data/demo/regions --pairs data/demo/pairs.jsonl --output regions.html
    """
    from data_prep.regions.store_page import inspect

    for line in inspect(store, out=out or store.with_name(f"{store.name}.html"), **settings):
        click.echo(line)


@regions.command()
@click.argument("store", type=PATH)
def verify(store: Path) -> None:
    """Compare every shard of a store with the hash that was written with it; all that differ are named.

    Training and evaluation compare each shard when they first read it; this finds damage before a long run does.

    \b
    Example: python -m data_prep regions verify data/coco/regions
    """
    from unimo.readers.feature_store import FeatureStore

    opened = FeatureStore(store)
    opened.verify()
    click.echo(f"{store}: {len(opened):,} images in {len(opened.header['shards']):,} shards, all as they were written")


@regions.command()
@click.argument("store", type=PATH)
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.35, help="Score from which an object is a tag.")
@click.option("--tokenizer", type=PATH, required=True, help="Folder of a model or vocabulary; UNIMO's is BPE.")
@click.option("--output", "--out", "out", type=PATH, required=True, help="The file, as coco_object_0.35_tot.ids.")
def tags(store: Path, threshold: float, tokenizer: Path, out: Path) -> None:
    """Write the names of detected objects as token ids, as the release's COCO captioning reads them.

    \b
    Example: python -m data_prep regions tags data/coco/regions --threshold 0.35 --tokenizer models/unimo-base \\
                 --output data/coco/coco_object_0.35_tot.ids
    """
    from data_prep.regions.tags import write_tags

    click.echo(write_tags(store, out, tokenizer, threshold))
