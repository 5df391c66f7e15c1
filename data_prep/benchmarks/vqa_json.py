"""VQA v2's questions and annotations, and Visual Genome's answers where they are wanted -> examples and answers.txt.

Questions are the files of the "balanced real images", annotations those of train and val; of test there are none. A
target is what each answer scores by the official evaluation (`unimo.evaluate.vqa_answers`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.benchmarks.answer_list import most_given, read_answers, write_answers
from data_prep.benchmarks.example_images import ExampleImages
from data_prep.benchmarks.example_sets import EXAMPLES, IMAGES, SPLITS, Benchmark, Part, example, write_sets
from data_prep.corpora.lists import array_objects
from data_prep.corpora.records import Bad
from data_prep.picture_ids import Picture
from data_prep.stage import Work
from unimo.console import say
from unimo.errors import ConfigError, DataError
from unimo.evaluate.vqa_answers import normalised, soft_scores
from unimo.readers.annotations import Split
from unimo.readers.examples import Example
from unimo.storage.json_files import read_json

VQA = Benchmark("VQA v2", "visualqa.org (Download), its pictures at cocodataset.org")
ANSWERS, GENOME_PICTURES = "answers.txt", "image_data.json"
MENTIONS = 9  # of an answer of the list: bottom-up attention's rule, whose list of 3,129 others took over
ANNOTATORS = 10  # of a question, whom the official rule counts


class Asked(NamedTuple):
    """A file of questions: the pictures that it asks about, the list it becomes, and how many it has."""

    split: Split
    pictures: str
    published: int
    file: str = EXAMPLES

    @property
    def questions(self) -> str:
        """The name of the file."""
        return f"v2_OpenEnded_mscoco_{self.pictures}_questions.json"

    @property
    def annotations(self) -> str | None:
        """That of its answers, where they are public."""
        return None if self.split == "test" else f"v2_mscoco_{self.pictures}_annotations.json"


# numbers of questions: the download page
ASKED = (
    Asked("train", "train2014", 443_757),
    Asked("dev", "val2014", 214_354),
    Asked("test", "test-dev2015", 107_394, "test-dev.jsonl"),
    Asked("test", "test2015", 447_793, "test-std.jsonl"),
)


class Annotated(NamedTuple):
    """The answers of a file of annotations."""

    consensus: list[str]  # of each question, normalised: what most annotators said
    scores: dict[int, dict[str, float] | None]  # question -> answer -> score; None where it has not ten annotators


def convert(
    source: Path,
    out: Path,
    splits: Sequence[Split] = (),
    images: Path | None = None,
    answers: Path | None = None,
    mentions: int = MENTIONS,
    genome: Path | None = None,
) -> str:
    """Write the lists of examples and answers.txt into the folder `out`, and say what was done.

    Args:
        source: folder of the files of questions and annotations.
        splits: those that are wanted, by default all.
        images: COCO's pictures, at any depth. Without it examples name pictures that a feature store has.
        answers: a published list, which answers.txt then is.
        mentions: questions whose consensus an answer of the list must be, in all annotations that are read.
        genome: Visual Genome's question_answers.json, with image_data.json beside it: further examples of train.

    Raises:
        ConfigError: `genome` where no train is wanted.
        DataError: files are missing, damaged or do not belong together, or `out` holds something else.
    """
    asked = [one for one in ASKED if one.split in (splits or SPLITS)]
    if genome and "train" not in {one.split for one in asked}:
        raise ConfigError("--genome is not used: it adds to train, which --split leaves out; leave it out")
    names = [name for one in asked for name in (one.questions, one.annotations) if name]
    if missing := [name for name in names if not (source / name).is_file()]:
        raise VQA.missing(source, missing)
    inputs = [source / name for name in names] + ([genome, genome.parent / GENOME_PICTURES] if genome else [])
    inputs += [answers] if answers else []
    if absent := [str(path) for path in inputs if not path.is_file()]:
        raise DataError(f"these files are not there: {', '.join(absent)}; check the paths of --genome and --answers")
    pictures = ExampleImages(images, out, "vqa")
    others = {IMAGES: pictures.write} if images else {}
    listed = answers is not None or any(one.annotations for one in asked)
    settings: dict[str, Any] = {"mentions": None if answers else mentions, "images": images is not None}
    settings["files"] = {path.name: path.stat().st_size for path in inputs}
    files = [*dict.fromkeys(one.file for one in asked), *others, *([ANSWERS] if listed else [])]
    work = Work("benchmarks vqa", out, settings, inputs, files=files)
    annotated = {one: _annotations(source / one.annotations) for one in asked if one.annotations}
    given = Counter(answer for found in annotated.values() for answer in found.consensus)
    known = read_answers(answers) if answers else most_given(given, mentions)
    parts, left_out = [], Counter[str]()
    for one in asked:
        scores = annotated[one].scores if one in annotated else None
        read = partial(_read, source / one.questions, one, scores, pictures)
        parts.append(Part(one.split, read, one.published, one.file))
        if one.split == "train" and genome:
            more = partial(_of_genome, genome, {*known}, _pictures_of_dev(source), pictures, left_out)
            parts.append(Part("train", more, added="Visual Genome"))
    said = write_sets(work, VQA, parts, others | ({ANSWERS: partial(write_answers, answers=known)} if listed else {}))
    _say_of_answers(answers, [*annotated], mentions, left_out)
    return said


def _say_of_answers(
    answers: Path | None, annotated: Sequence[Asked], mentions: int, left_out: Mapping[str, int]
) -> None:
    """What the list of answers is made from, and what of Visual Genome was left out."""
    if annotated and not answers:
        read = " and ".join(one.pictures for one in annotated)
        say(f"notice: {ANSWERS} has the answers that {mentions} questions of {read} or more agree on")
    if left_out:
        say(f"notice: left out of Visual Genome: {', '.join(f'{n:,} {what}' for what, n in left_out.items())}")


def _members(path: Path, key: str, needed: Mapping[str, type]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A file, and the records under a key of it, each with the keys that are needed and values of their types."""
    content = read_json(path, DataError, f"fetch it again: {VQA.title} is published at {VQA.home}")
    records = content.get(key)
    if not isinstance(records, list):
        keys = ", ".join(content)[:200]
        raise VQA.wrong(path, f"it holds {keys or 'nothing'}, expected a list of {key}", "give the file of that name")
    for place, record in enumerate(records):
        values = record if isinstance(record, dict) else {}
        if lacking := [name for name, kind in needed.items() if not isinstance(values.get(name), kind)]:
            problem = f"has no {', '.join(f'{name} ({needed[name].__name__})' for name in lacking)}"
            raise VQA.wrong(f"{path} {key}[{place}]", problem, "correct the record or fetch the file again")
    return content, records


def _annotations(path: Path) -> Annotated:
    """The answers of each question. Raises DataError for records that are none."""
    consensus, scores = list[str](), dict[int, dict[str, float] | None]()
    needed = {"question_id": int, "answers": list, "multiple_choice_answer": str}
    for place, record in enumerate(_members(path, "annotations", needed)[1]):
        try:
            said = [str(answer["answer"]) for answer in record["answers"]]
        except (LookupError, TypeError) as error:
            problem = f"answers are laid out in another way ({error!r})"
            raise VQA.wrong(f"{path} annotations[{place}]", problem, "fetch the file again") from error
        scores[record["question_id"]] = soft_scores(said) if len(said) == ANNOTATORS else None
        consensus.append(normalised(record["multiple_choice_answer"]))
    return Annotated(consensus, scores)


def _pictures_of_dev(source: Path) -> set[int]:
    """The numbers of the pictures that dev asks about, also where dev itself is not wanted."""
    path = source / ASKED[1].questions
    if not path.is_file():
        say(f"notice: {path} is not there, so Visual Genome's pairs on pictures of dev stay in train")
        return set()
    return {question["image_id"] for question in _members(path, "questions", {"image_id": int})[1]}


def _read(
    path: Path, asked: Asked, scores: Mapping[int, dict[str, float] | None] | None, pictures: ExampleImages
) -> Iterator[Example | Bad]:
    """The questions of a file in its order. Raises DataError where it and its annotations do not belong together."""
    content, questions = _members(path, "questions", {"image_id": int, "question": str, "question_id": int})
    if (told := content.get("data_subtype", asked.pictures)) != asked.pictures:
        raise VQA.wrong(path, f"it is of {told!r}, expected {asked.pictures!r}", "give the file of that name")
    if scores is not None and (unasked := scores.keys() - {question["question_id"] for question in questions}):
        problem = f"{len(unasked):,} annotations are of questions that it has not, such as {min(unasked)}"
        raise VQA.wrong(path, problem, f"give it the annotations of {asked.pictures}")
    for question in questions:
        number, picture = question["question_id"], question["image_id"]
        if scores is not None and number not in scores:
            problem = f"question {number} has no annotation"
            raise VQA.wrong(path, problem, f"give it the annotations of {asked.pictures}")
        target = scores[number] if scores is not None else None
        if scores is not None and target is None:
            yield Bad(str(number), f"not {ANNOTATORS} answers", path.name)
            continue
        made = example(str(number), asked.split, [question["question"].strip()], target, str(Picture("coco", picture)))
        yield pictures.pictured(made, coco_file(asked.pictures, picture))


def coco_file(pictures: str, number: int) -> str:
    """The name of a picture's file; those of test-dev are a part of test2015."""
    return f"COCO_{pictures.replace('test-dev', 'test')}_{number:012d}.jpg"


def _of_genome(
    path: Path, known: set[str], held_out: set[int], pictures: ExampleImages, left_out: Counter[str]
) -> Iterator[Example | Bad]:
    """Visual Genome's pairs whose answer is in the list, without those of pictures that dev has."""
    coco = {image.get("image_id"): image.get("coco_id") for image in array_objects(path.parent / GENOME_PICTURES)}
    for entry in array_objects(path):
        for pair in entry.get("qas", []):
            try:
                number, picture, question = pair["qa_id"], pair["image_id"], pair["question"].strip()
                answer = normalised(pair["answer"])
            except (LookupError, TypeError, AttributeError) as error:
                yield Bad(f"{path.name}:{entry.get('id')}", "record is laid out in another way", repr(error)[:200])
                continue
            other = coco.get(picture)
            if other in held_out:
                left_out["pairs on pictures of dev"] += 1
            elif answer not in known:
                left_out[f"pairs whose answer is not in {ANSWERS}"] += 1
            else:
                image_id = str(Picture("coco", other) if other else Picture("visual-genome", picture))
                files = [coco_file(name, other) for name in ("train2014", "val2014")] if other else []
                made = example(f"visual-genome:{number}", "train", [question], {answer: 1.0}, image_id)
                yield pictures.pictured(made, *files, f"{picture}.jpg")
