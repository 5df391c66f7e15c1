"""VQA's json files in their public layout: examples, soft scores, the list of answers, Visual Genome, each error."""

import json
from pathlib import Path

import pytest
from converted import lines

from data_prep.benchmarks.answer_list import read_answers
from data_prep.benchmarks.vqa_json import convert
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import read_images


def questions(folder: Path, pictures: str, *asked: tuple[int, int, str]) -> Path:
    content = {
        "info": {"description": "This is v2.0 of the VQA dataset."},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": {},
        "data_subtype": pictures,
        "questions": [{"image_id": image, "question": text, "question_id": n} for n, image, text in asked],
    }
    path = folder / f"v2_OpenEnded_mscoco_{pictures}_questions.json"
    path.write_text(json.dumps(content))
    return path


def annotations(folder: Path, pictures: str, *answered: tuple[int, int, list[str]]) -> Path:
    records = [
        {
            "question_type": "what",
            "multiple_choice_answer": max(said, key=said.count),
            "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": k + 1} for k, a in enumerate(said)],
            "image_id": image,
            "answer_type": "other",
            "question_id": n,
        }
        for n, image, said in answered
    ]
    path = folder / f"v2_mscoco_{pictures}_annotations.json"
    path.write_text(json.dumps({"info": {}, "annotations": records, "data_subtype": pictures}))
    return path


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "vqa"
    folder.mkdir()
    questions(folder, "train2014", (9000, 9, "What is this? "), (9001, 9, "Is it red?"), (25002, 25, "How many?"))
    annotations(
        folder,
        "train2014",
        (9001, 9, ["yes"] * 10),
        (9000, 9, ["cat"] * 6 + ["t-shirt"] * 3 + ["dog"]),
        (25002, 25, ["two"] * 10),
    )
    questions(folder, "val2014", (42000, 42, "What color?"))
    annotations(folder, "val2014", (42000, 42, ["yes"] * 7 + ["no"] * 2 + ["red"]))
    questions(folder, "test-dev2015", (1000, 1, "What is it?"))
    questions(folder, "test2015", (1000, 1, "What is it?"), (16001, 16, "Where is it?"))
    return folder


def test_all_lists(source, tmp_path, capsys):
    said = convert(source, tmp_path / "out", mentions=1)
    assert "7 examples, 3 train, 1 dev, 1 test in test-dev.jsonl, 2 test in test-std.jsonl, 3 answers" in said
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], r["split"], r["source"], r["image_id"], r["target"]) for r in records] == [
        ("9000", "train", ["What is this?"], "coco-9", {"cat": 1.0, "t shirt": 0.9, "dog": 0.3}),
        ("9001", "train", ["Is it red?"], "coco-9", {"yes": 1.0}),
        ("25002", "train", ["How many?"], "coco-25", {"two": 1.0}),
        ("42000", "dev", ["What color?"], "coco-42", {"yes": 1.0, "no": 0.6, "red": 0.3}),
    ]
    std = lines(tmp_path / "out" / "test-std.jsonl")
    assert [(r["id"], r["split"], r["target"]) for r in std] == [("1000", "test", None), ("16001", "test", None)]
    assert [r["id"] for r in lines(tmp_path / "out" / "test-dev.jsonl")] == ["1000"]
    assert (tmp_path / "out" / "answers.txt").read_text().splitlines() == ["yes", "2", "cat"]
    notices = capsys.readouterr().err
    assert "train 3 (published: 443,757)" in notices and "1 questions of train2014 and val2014 or more" in notices


def test_the_list_of_answers_has_a_least_number(source, tmp_path):
    convert(source, tmp_path / "out", mentions=2)
    assert (tmp_path / "out" / "answers.txt").read_text() == "yes\n"
    with pytest.raises(DataError, match="no answer is given 9 times, the most frequent one 2 times"):
        convert(source, tmp_path / "other")


@pytest.mark.parametrize("content", ["no\nnot in data\n", '["no", "not in data"]', '{"not in data": 1, "no": 0}'])
def test_a_published_list(source, tmp_path, content):
    (tmp_path / "list").write_text(content)
    convert(source, tmp_path / "out", answers=tmp_path / "list")
    assert (tmp_path / "out" / "answers.txt").read_text() == "no\nnot in data\n"


@pytest.mark.parametrize(
    "content, problem",
    [
        ("yes\n\nno\n", "a blank line"),
        ("yes\nyes\n", "1 answers twice, such as 'yes'"),
        ('{"yes": 1, "no": 2}', "the numbers 0 to 1, each once"),
        ('["yes"', "no list of answers"),
        ("[1, 2]", "expected a text as each answer"),
        ("", "empty list"),
    ],
)
def test_a_list_that_is_none(tmp_path, content, problem):
    (tmp_path / "list").write_text(content)
    with pytest.raises(DataError, match=problem):
        read_answers(tmp_path / "list")


def test_pictures(source, tmp_path):
    names = ("train2014/COCO_train2014_000000000009.jpg", "val2014/COCO_val2014_000000000042.jpg")
    for name in (*names, "test2015/COCO_test2015_000000000001.jpg"):
        (tmp_path / "coco" / name).parent.mkdir(parents=True)
        (tmp_path / "coco" / name).touch()
    said = convert(source, tmp_path / "out", images=tmp_path / "coco", mentions=1)
    assert "3 images" in said and "2 left out" in said
    images = read_images(tmp_path / "out" / "images.jsonl", pictures=True)
    assert [image.image_id for image in images] == ["coco-9", "coco-42", "coco-1"]
    assert {r["reason"] for r in lines(tmp_path / "out" / "rejects.jsonl")} == {"no picture of the name"}


def test_blank_questions_and_fewer_annotators_are_listed(source, tmp_path):
    questions(source, "val2014", (42000, 42, "  "), (42001, 42, "Why?"))
    annotations(source, "val2014", (42000, 42, ["yes"] * 10), (42001, 42, ["yes"] * 9))
    convert(source, tmp_path / "out", mentions=1)
    rejects = lines(tmp_path / "out" / "rejects.jsonl")
    assert [(r["id"], r["reason"]) for r in rejects] == [("42000", "blank text"), ("42001", "not 10 answers")]


def genome(folder: Path) -> Path:
    pairs = [
        {"id": 1, "qas": [pair(11, 1, "Is it?", "Yes."), pair(12, 1, "Who?", "Nobody here.")]},
        {"id": 2, "qas": [pair(13, 2, "Is it?", "Yes.")]},
        {"id": 3, "qas": [pair(14, 3, "How many?", "Two."), {"qa_id": 15, "image_id": 3}]},
    ]
    folder.mkdir()
    (folder / "question_answers.json").write_text(json.dumps(pairs))
    known = [{"image_id": i, "coco_id": coco, "width": 5, "height": 5} for i, coco in ((1, 25), (2, 42), (3, None))]
    (folder / "image_data.json").write_text(json.dumps(known))
    return folder / "question_answers.json"


def pair(number: int, image: int, question: str, answer: str) -> dict:
    objects = {"a_objects": [], "q_objects": []}
    return {"qa_id": number, "image_id": image, "question": question, "answer": answer, **objects}


def test_visual_genome_adds_to_train(source, tmp_path, capsys):
    said = convert(source, tmp_path / "out", mentions=1, genome=genome(tmp_path / "genome"))
    assert "3 train, 2 Visual Genome, 1 dev" in said
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], r["split"], r["image_id"], r["target"]) for r in records[3:5]] == [
        ("visual-genome:11", "train", "coco-25", {"yes": 1.0}),
        ("visual-genome:14", "train", "visual-genome-3", {"2": 1.0}),
    ]
    assert [r["reason"] for r in lines(tmp_path / "out" / "rejects.jsonl")] == ["record is laid out in another way"]
    notices = capsys.readouterr().err
    assert "1 pairs whose answer is not in answers.txt, 1 pairs on pictures of dev" in notices
    assert "train 3 (published: 443,757)" in notices


def test_visual_genome_needs_train_and_its_pictures(source, tmp_path):
    file = genome(tmp_path / "genome")
    with pytest.raises(ConfigError, match="--genome is not used"):
        convert(source, tmp_path / "out", ["dev"], genome=file, mentions=1)
    (file.parent / "image_data.json").unlink()
    with pytest.raises(DataError, match="not there: .*image_data.json"):
        convert(source, tmp_path / "out", genome=file, mentions=1)


HOME = "VQA v2 is published at visualqa.org"


@pytest.mark.parametrize(
    "damage, problem",
    [
        (lambda path: path.write_text(path.read_text()[:-9]), "train2014_questions.json is not JSON.*fetch it again"),
        (lambda path: path.write_text('{"annotations": []}'), "holds annotations, expected a list of questions"),
        (lambda path: path.write_text('{"questions": [{"question": 1}]}'), r"questions\[0\]: has no image_id \(int\)"),
        (lambda path: questions(path.parent, "train2014", (1, 9, "?a")), "3 annotations are of questions that it has"),
        (
            lambda path: path.write_text(path.read_text().replace('"train2014"', '"val2014"')),
            "it is of 'val2014', expected 'train2014'",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("]}", ', {"image_id": 9, "question": "?", '
                                                                  '"question_id": 7}]}')),
            "question 7 has no annotation",
        ),
    ],
)  # fmt: skip
def test_damaged_questions_are_one_clear_error(source, tmp_path, damage, problem):
    damage(source / "v2_OpenEnded_mscoco_train2014_questions.json")
    with pytest.raises(DataError, match=f"(?s){problem}.*{HOME}"):
        convert(source, tmp_path / "out", mentions=1)


def test_damaged_annotations_and_an_id_in_two_splits(source, tmp_path):
    path = source / "v2_mscoco_train2014_annotations.json"
    before = path.read_text()
    path.write_text(before.replace('"answer":', '"said":'))
    with pytest.raises(DataError, match=rf"annotations\[0\]: answers are laid out in another way .*{HOME}"):
        convert(source, tmp_path / "out", mentions=1)
    path.write_text(before)
    questions(source, "val2014", (9000, 42, "What color?"))
    annotations(source, "val2014", (9000, 42, ["yes"] * 10))
    with pytest.raises(DataError, match="id '9000' is in train and in dev"):
        convert(source, tmp_path / "out", mentions=1)


def test_missing_files_and_splits(source, tmp_path):
    (source / "v2_OpenEnded_mscoco_test2015_questions.json").unlink()
    with pytest.raises(DataError, match="lacks v2_OpenEnded_mscoco_test2015_questions.json; .*--split"):
        convert(source, tmp_path / "out", mentions=1)
    said = convert(source, tmp_path / "out", ["train", "dev"], mentions=1)
    assert "4 examples, 3 train, 1 dev, 3 answers" in said


def test_the_command(stage, source, tmp_path):
    done = stage("benchmarks", "vqa", source, tmp_path / "out", "--mentions", 1, "--split", "dev")
    assert done.returncode == 0 and "1 examples, 1 dev, 1 answers" in done.stdout, done.stderr
