"""SNLI-VE's public lists, or the release's files of token ids with region features -> examples.

public      snli_ve_{train,dev,test}.jsonl: {"Flickr30K_ID", "gold_label", "sentence1" (a caption of the picture, the
            premise of SNLI), "sentence2" (the hypothesis), "pairID", ...} a line
release     {train,dev,test}_filelist: files, plain or .gz, of 14 fields a line with `;` between: picture, number,
            label, token ids, ..., and the picture's region features, which `regions import unimo-snli-ve` takes over
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.benchmarks.example_images import ExampleImages
from data_prep.benchmarks.example_sets import (
    EXAMPLES,
    IMAGES,
    NO_GOLD,
    SPLITS,
    Benchmark,
    Part,
    example,
    label_order,
    write_sets,
)
from data_prep.corpora.records import Bad
from data_prep.picture_ids import named, to_corpora
from data_prep.regions.importers.lines import LAYOUTS, lines, source_files
from data_prep.stage import WHOLE, Work
from unimo.console import say
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import Split, write_jsonl
from unimo.readers.examples import Example
from unimo.readers.tokenizer import Tokenizer, load_tokenizer
from unimo.storage.encodings import open_text

SNLI_VE = Benchmark("SNLI-VE", "the SNLI-VE repository of necla-ml on GitHub, its pictures as Flickr30k")
# the repository's table of splits
PUBLISHED: dict[Split, int] = {"train": 529_527, "dev": 17_858, "test": 17_901}
CLASSES = ("entailment", "neutral", "contradiction")
PICTURE = ("Flickr30K_ID", "Flikr30kID")  # the key as the repository spells it, and as older files do
NOT_REPRODUCED = "not_reproduced.jsonl"
FIELDS = len(LAYOUTS["unimo-snli-ve"][1].split())


def convert(
    source: Path,
    out: Path,
    splits: Sequence[Split] = (),
    images: Path | None = None,
    premise: bool = False,
    labels: str | None = None,
    tokenizer: Path | None = None,
) -> str:
    """Write examples.jsonl, and images.jsonl where the pictures are at hand, into `out`; says what was done.

    Args:
        source: folder of the public lists, or of the release's file lists.
        splits: those that are wanted, by default all.
        images: Flickr30k's pictures, at any depth. Without it examples name pictures that a feature store has.
        premise: the caption before the hypothesis; of the public lists.
        labels, tokenizer: of the release's files: classes in the order of its integers, and the vocabulary's folder.

    Raises:
        ConfigError: an option that the files do not have, or no tokenizer where they hold token ids.
        DataError: files are missing or damaged, or `out` holds something else.
    """
    wanted = [split for split in SPLITS if split in (splits or SPLITS)]
    public = {split: source / f"snli_ve_{split}.jsonl" for split in wanted}
    release = {split: source / f"{split}_filelist" for split in wanted}
    is_release = any(path.is_file() for path in release.values())
    files = release if is_release else public
    if missing := [path.name for path in files.values() if not path.is_file()]:
        raise SNLI_VE.missing(source, missing)
    _check_options(is_release, premise, labels, tokenizer)
    order = label_order(CLASSES, labels)
    pictures = ExampleImages(images, out, "snli-ve")
    vocabulary, lossy = load_tokenizer(tokenizer) if tokenizer else None, list[dict[str, Any]]()
    inputs = [path for split in wanted for path in (source_files(release[split]) if is_release else [public[split]])]
    settings: dict[str, Any] = {"form": "release" if is_release else "public", "premise": premise}
    settings |= {"labels": list(order)} if is_release else {}
    settings |= {"tokenizer": vocabulary.fingerprint} if vocabulary else {}
    settings |= {"images": images is not None, "files": {str(path): path.stat().st_size for path in inputs}}
    others = ({IMAGES: pictures.write} if images else {}) | (
        {NOT_REPRODUCED: lambda path: write_jsonl(path, lossy)} if is_release else {}
    )
    work = Work("benchmarks snli-ve", out, settings, inputs, files=(EXAMPLES, *others))
    parts = []
    for split in wanted:
        read = partial(_of_public, public[split], split, premise, pictures)
        if vocabulary:
            read = partial(_of_release, release[split], split, order, vocabulary, pictures, lossy)
        parts.append(Part(split, read, PUBLISHED[split]))
    said = write_sets(work, SNLI_VE, parts, others)
    if is_release:
        _say_of_release(source, order, len(lossy), out)
    return said


def _check_options(is_release: bool, premise: bool, labels: str | None, tokenizer: Path | None) -> None:
    """Raise a ConfigError for options that the files do not have."""
    if is_release and premise:
        raise ConfigError("--premise is not used: the release's files hold one text an example; leave it out")
    if not is_release and (labels or tokenizer):
        raise ConfigError("--labels and --tokenizer are of the release's files, which these are not; leave them out")
    if is_release and not tokenizer:
        raise ConfigError("the release's files hold token ids; give --tokenizer, such as model_files/dict")


def _say_of_release(source: Path, order: Sequence[str], lossy: int, out: Path) -> None:
    """What was chosen, and how the features in the files are taken over."""
    said = f"integers are taken as {', '.join(f'{i} {label}' for i, label in enumerate(order))}"
    if lossy:
        said += f"; {lossy:,} texts give other token ids when they are read again ({out / NOT_REPRODUCED})"
    say(
        f"notice: {said}; take the features over by `python -m data_prep regions import unimo-snli-ve "
        f"{source}/SPLIT_filelist --ids flickr30k --output STORE`, SPLIT by SPLIT"
    )


def _of_public(path: Path, split: Split, premise: bool, pictures: ExampleImages) -> Iterator[Example | Bad]:
    """The examples of a public list. Raises DataError for a line that is none, and an unknown label."""
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _of_record(_record(f"{path}:{number}", line), f"{path}:{number}", split, premise, pictures)
    except UnicodeDecodeError as error:
        raise SNLI_VE.wrong(path, f"is no text in UTF-8 ({error})", "fetch the file again") from error


def _record(place: str, line: str) -> dict[str, Any]:
    """The values of a line."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SNLI_VE.wrong(place, f"is not JSON, perhaps cut short ({error})", "fetch the file again") from error
    values = values if isinstance(values, dict) else {}
    values["picture"] = next((values[key] for key in PICTURE if key in values), None)
    if isinstance(values["picture"], int):
        values["picture"] = str(values["picture"])
    keys = ("picture", "gold_label", "sentence1", "sentence2", "pairID")
    missing = [PICTURE[0] if key == "picture" else key for key in keys if not isinstance(values.get(key), str)]
    if missing:
        raise SNLI_VE.wrong(place, f"has no text {', '.join(missing)}", "give the lists of the set itself")
    return values


def _of_record(
    values: dict[str, Any], place: str, split: Split, premise: bool, pictures: ExampleImages
) -> Example | Bad:
    label, number = values["gold_label"], values["pairID"]
    if label == NO_GOLD:
        return Bad(number, "no gold label", place)
    if label not in CLASSES:
        raise SNLI_VE.wrong(place, f"label {label[:60]!r}, expected {', '.join(CLASSES)}", "correct the line")
    texts = [values["sentence1"].strip()] * premise + [values["sentence2"].strip()]
    file = values["picture"].removesuffix(".jpg")
    made = example(number, split, texts, label, to_corpora(file, "flickr30k"))
    return pictures.pictured(made, f"{file}.jpg")


def _of_release(
    filelist: Path,
    split: Split,
    order: Sequence[str],
    vocabulary: Tokenizer,
    pictures: ExampleImages,
    lossy: list[dict[str, Any]],
) -> Iterator[Example | Bad]:
    """The examples of the release's files; those whose text gives other ids are noted in `lossy`."""
    for place, line in lines(source_files(filelist), WHOLE):
        if isinstance(line, DataError):
            raise SNLI_VE.wrong(place, str(line), "fetch the file again") from line
        fields = line.split(";")
        if len(fields) != FIELDS:
            remedy = "the line is damaged or cut short: fetch the file again"
            raise SNLI_VE.wrong(place, f"{len(fields)} fields, expected {FIELDS}", remedy)
        image, data_id, label, tokens = (field.strip() for field in fields[:4])
        if not (label.isdecimal() and int(label) < len(order)):
            expected = f"an integer from 0 to {len(order) - 1}"
            raise SNLI_VE.wrong(place, f"label {label[:60]!r}, expected {expected}", "correct the line")
        ids = _ids(tokens, vocabulary, place)
        text, number = vocabulary.decode(ids), f"{split}:{image}:{data_id}"
        if (again := vocabulary.encode(text)) != ids:
            lossy.append({"id": number, "text": text, "ids": ids, "again": again})
        known = named(image, "flickr30k")
        file = f"{known[0].number}.jpg" if known else image
        made = example(number, split, [text], order[int(label)], to_corpora(image, "flickr30k"))
        yield pictures.pictured(made, file)


def _ids(tokens: str, vocabulary: Tokenizer, place: str) -> list[int]:
    """The token ids of a text without those that open and close it."""
    try:
        ids = [int(token) for token in tokens.split()]
    except ValueError:
        ids = [-1]
    if not all(0 <= i < vocabulary.vocab_size for i in ids):
        problem = f"token ids {tokens[:60]!r}, expected numbers below {vocabulary.vocab_size}"
        raise SNLI_VE.wrong(place, problem, "give the release's files and the vocabulary that they were made with")
    first, last = ids[:1] == [vocabulary.cls_id], ids[-1:] == [vocabulary.sep_id]
    return ids[int(first) : len(ids) - int(last)]
