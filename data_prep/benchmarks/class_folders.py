"""Pictures in a folder for each class -> examples without a text: ImageNet's folders, and anyone's own.

ROOT/{train,val,test}/CLASS/PICTURE   the class is the folder's name: of ImageNet the WordNet id, such as n01440764
ROOT/val/PICTURE                      ImageNet's val as it is published: its classes are in the development kit,
                                      ILSVRC2012_validation_ground_truth.txt and meta.mat
"""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.benchmarks.answer_list import write_answers
from data_prep.benchmarks.example_images import ExampleImages
from data_prep.benchmarks.example_sets import EXAMPLES, IMAGES, Benchmark, Part, write_sets
from data_prep.corpora.records import Bad
from data_prep.stage import Work
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import Split
from unimo.readers.examples import Example
from unimo.storage.encodings import text_of

IMAGENET = Benchmark("ImageNet (ILSVRC 2012)", "image-net.org (Download)")
OWN = Benchmark("A set in folders", "no other place than where you have it")
# ImageNet's paper (arXiv 1409.0575, table 2); pictures of test have no public answers
PUBLISHED: dict[Split, int] = {"train": 1_281_167, "dev": 50_000}
FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "dev": ("val", "dev"), "test": ("test",)}
SUFFIXES = (".jpeg", ".jpg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")  # of readers.pictures.FORMATS
LABELS = "classes.txt"  # in the order of their names
CLASSES = 1000  # of ImageNet


def convert(
    name: str,
    source: Path,
    out: Path,
    splits: Sequence[Split] = (),
    ground_truth: Path | None = None,
    synsets: Path | None = None,
) -> str:
    """Write examples.jsonl, images.jsonl and the classes of train into the folder `out`, and say what was done.

    Args:
        name: "imagenet", which has train and val, or "folders", which has what is there.
        splits: those that are wanted, by default all.
        ground_truth: of ImageNet's flat val: the class numbers of its pictures in the order of their names.
        synsets: meta.mat, or a text with the WordNet id of number 1 in its first line, and so on.

    Raises:
        ConfigError: one of `ground_truth` and `synsets` without the other, or both where val has folders.
        DataError: folders or pictures are missing, val has classes that train has not, or `out` holds something else.
    """
    benchmark = IMAGENET if name == "imagenet" else OWN
    found = _found(benchmark, source, splits)
    if (ground_truth is None) != (synsets is None):
        raise ConfigError("--ground-truth and --synsets belong together: numbers, and what they stand for; give both")
    flat = _is_flat(found["dev"]) if "dev" in found else False
    if ground_truth and not flat:
        raise ConfigError("--ground-truth is not used: the pictures of val lie in folders of classes; leave it out")
    if flat and not (ground_truth and synsets):
        remedy = "give --ground-truth and --synsets of the development kit, or folders of classes"
        raise benchmark.wrong(found["dev"], "its pictures lie in no folders of classes", remedy)
    answers = _answers(found["dev"], ground_truth, synsets) if ground_truth and synsets else {}
    inputs = [path for path in (ground_truth, synsets) if path]
    settings: dict[str, Any] = {"set": name, "source": str(source), "splits": [*found]}
    settings["files"] = {path.name: path.stat().st_size for path in inputs}
    files = (EXAMPLES, IMAGES, *([LABELS] if "train" in found else []))
    work = Work(f"benchmarks {name}", out, settings, inputs, files=files)
    pictures, known = ExampleImages(None, out, name), set[str]()
    parts = []
    for split, folder in found.items():
        read = partial(_of_folders, benchmark, source, folder, split, known, pictures)
        if split == "dev" and flat:
            read = partial(_of_list, source, folder, answers, known, pictures)
        parts.append(Part(split, read, PUBLISHED.get(split) if benchmark is IMAGENET else None))
    # once the folders were walked through
    names = lambda path: write_answers(path, sorted(known))  # noqa: E731
    return write_sets(work, benchmark, parts, {IMAGES: pictures.write} | ({LABELS: names} if "train" in found else {}))


def _found(benchmark: Benchmark, source: Path, splits: Sequence[Split]) -> dict[Split, Path]:
    """The folder of each split. Raises DataError where one that is needed is missing."""
    there = {split: [source / n for n in names if (source / n).is_dir()] for split, names in FOLDERS.items()}
    needed: Sequence[Split] = splits or (("train", "dev") if benchmark is IMAGENET else ("train",))
    if missing := [f"{' or '.join(FOLDERS[split])}/" for split in needed if not there[split]]:
        raise benchmark.missing(source, missing)
    wanted = needed if splits or benchmark is IMAGENET else [*FOLDERS]
    return {split: there[split][0] for split in FOLDERS if split in wanted and there[split]}


def _is_flat(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return not any(entry.is_dir() for entry in entries)


def _of_folders(
    benchmark: Benchmark, source: Path, folder: Path, split: Split, known: set[str], pictures: ExampleImages
) -> Iterator[Example | Bad]:
    """The pictures of a split, class by class in the order of their names.

    `known` are the classes of train, to which those of train itself are added.
    """
    for inner in tqdm(sorted(path for path in folder.iterdir() if path.is_dir()), desc=split, unit="class"):
        if split == "train":
            known.add(inner.name)
        elif known and inner.name not in known:
            remedy = "rename or remove the folder, or choose splits with --split"
            raise benchmark.wrong(inner, f"class {inner.name!r} is not one of the {len(known):,} of train", remedy)
        for path in sorted(inner.iterdir()):
            yield _example(source, path, split, inner.name, pictures)


def _of_list(
    source: Path, folder: Path, answers: Mapping[str, str], known: set[str], pictures: ExampleImages
) -> Iterator[Example | Bad]:
    """The pictures of a flat folder in the order of their names."""
    for file, target in answers.items():
        if known and target not in known:
            remedy = "check that --synsets is that of the development kit"
            raise IMAGENET.wrong(folder / file, f"class {target!r} is not one of the {len(known):,} of train", remedy)
        yield _example(source, folder / file, "dev", target, pictures)


def _example(source: Path, path: Path, split: Split, target: str, pictures: ExampleImages) -> Example | Bad:
    """One picture. Its id is its path without the suffix, so that no two splits have the same."""
    number = path.relative_to(source).with_suffix("").as_posix()
    if path.suffix.lower() not in SUFFIXES:
        return Bad(number, "no picture by its suffix", path.name)
    pictures.add(number, path)
    return Example(id=number, split=split, image_id=number, target=target)


def _answers(folder: Path, ground_truth: Path, synsets: Path) -> dict[str, str]:
    """The class of each picture of a flat folder, by the development kit. Raises DataError where they do not fit."""
    files = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    numbers, names = _lines(ground_truth), _synsets(synsets)
    if len(files) != len(numbers):
        problem = f"{len(numbers):,} lines, but {folder} has {len(files):,} pictures"
        raise IMAGENET.wrong(ground_truth, problem, "give the pictures and the list of the whole set")
    for line, number in enumerate(numbers, start=1):
        if not (number.isdecimal() and 1 <= int(number) <= len(names)):
            problem = f"class number {number[:40]!r}, expected 1 to {len(names)}"
            raise IMAGENET.wrong(f"{ground_truth}:{line}", problem, "fetch the development kit again")
    return {file: names[int(number) - 1] for file, number in zip(files, numbers)}


def _synsets(path: Path) -> list[str]:
    """WordNet ids in the order of ILSVRC2012_ID, which counts the ground truth and is not the order of the names."""
    if path.suffix != ".mat":
        names = [line.split()[0] for line in _lines(path)]
        if len(names) == CLASSES and names == sorted(names):
            problem = "is in the order of the names, while the ground truth counts in another, that of ILSVRC2012_ID"
            raise IMAGENET.wrong(path, problem, "give the development kit's meta.mat")
        return names
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        rows = loadmat(path, squeeze_me=True, variable_names=["synsets"])["synsets"]
        numbered = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows.reshape(-1)}
        return [numbered[number] for number in range(1, min(len(numbered), CLASSES) + 1)]
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError, MatReadError, zlib.error) as error:
        problem = f"holds no synsets with ILSVRC2012_ID and WNID ({error!r})"
        raise IMAGENET.wrong(path, problem, "give the development kit's meta.mat") from error


def _lines(path: Path) -> list[str]:
    """The lines of a text, without blank ones."""
    try:
        return [line.strip() for line in text_of(path.read_bytes()).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
