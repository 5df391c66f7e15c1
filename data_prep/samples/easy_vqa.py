"""Questions on rendered pictures of one coloured shape, of VQA's kind: easy-VQA (github.com/vzhou842/easy-VQA)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.benchmarks.answer_list import write_answers
from data_prep.samples.build import drawn, reading, write_sample
from data_prep.sources.archives import wheel_member, wheel_members
from data_prep.sources.packages import fetch
from unimo.readers.annotations import Split, write_jsonl
from unimo.readers.examples import Example
from unimo.storage.atomic import atomic_write

FOLDER = "easy_vqa/data/"
TITLE = "easy-VQA"
_PICTURE = re.compile(FOLDER + r"(train|test)/images/(\d+)\.png$")


def easy_vqa(out: Path, cache: Path | None = None) -> str:
    """Write its pictures, questions and answers; dev is a tenth of the pictures of its train, ours.

    An answer scores 1, whatever else is said 0. There are 13, "yes" and "no" among them.
    """
    package = fetch("easy-vqa", cache)
    with reading(package):
        answers = wheel_member(package.archive, f"{FOLDER}answers.txt").decode().split()
        examples = list(_questions(package.archive))
    others = {
        "images.jsonl": lambda path: write_jsonl(path, _pictures(package.archive, out / "images")),
        "answers.txt": lambda path: write_answers(path, answers),
    }
    return write_sample("easy-vqa", TITLE, out, [package], examples, others=others)


def _pictures(archive: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Write the pictures into the folder; yields their records."""
    folder.mkdir(exist_ok=True)
    for member, content in wheel_members(archive, lambda path: _PICTURE.match(path) is not None):
        found = _PICTURE.match(member)
        assert found is not None  # as wanted
        image_id = _image_id(*found.groups())
        with atomic_write(folder / f"{image_id}.png") as file:
            file.write(content)
        yield {"image_id": image_id, "image": f"images/{image_id}.png", "source": TITLE}


def _image_id(folder: str, number: object) -> str:
    return f"{folder}-{number}"


def _questions(archive: Path) -> Iterator[Example]:
    for folder in ("train", "test"):
        asked = json.loads(wheel_member(archive, f"{FOLDER}{folder}/questions.json"))
        for number, (question, answer, picture) in enumerate(asked):
            image_id = _image_id(folder, picture)
            split: Split = "test" if folder == "test" else "dev" if drawn(image_id) == "dev" else "train"
            yield Example(
                id=f"{folder}-{number}", split=split, source=[question], image_id=image_id, target={answer: 1.0}
            )
