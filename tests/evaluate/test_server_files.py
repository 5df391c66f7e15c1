"""Files for the servers of GLUE and VQA: what is written, and that what a server would refuse is refused here."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from unimo.cli import main
from unimo.errors import DataError
from unimo.evaluate.server_files import FORMS, check_submission, write_submission

ANSWERS = {"sst-2": "positive", "cola": "unacceptable", "mnli-m": "neutral", "mnli-mm": "entailment"}
ANSWERS |= {"ax": "contradiction", "sts-b": 3.14159}
SPELT = {
    "sst-2": "1",
    "cola": "0",
    "mnli-m": "neutral",
    "mnli-mm": "entailment",
    "ax": "contradiction",
    "sts-b": "3.142",
}


def predictions(path: Path, said: list, ids: list[str] | None = None) -> Path:
    ids = ids or [f"test:{place}" for place in range(len(said))]
    path.write_text(json.dumps([{"id": i, "target": None, "prediction": p} for i, p in zip(ids, said)]))
    return path


@pytest.mark.parametrize("name", ANSWERS)
def test_tables_of_glue(tmp_path, name):
    (count,) = FORMS[name].counts
    source = predictions(tmp_path / "predictions.json", [ANSWERS[name]] * count)
    done = CliRunner().invoke(main, ["report", "submission", name, str(source), str(tmp_path / "glue")])
    path = tmp_path / "glue" / FORMS[name].file
    assert done.exit_code == 0 and done.output.strip() == str(path)
    lines = path.read_text().splitlines()
    assert lines[0] == "index\tprediction" and len(lines) == count + 1
    assert lines[1] == f"0\t{SPELT[name]}" and lines[-1] == f"{count - 1}\t{SPELT[name]}"
    assert check_submission(name, path) == count


def test_a_score_stays_on_its_scale(tmp_path):
    said = [-0.2, 5.7, *[2.0] * 1377]
    path = write_submission("sts-b", predictions(tmp_path / "p.json", said), tmp_path)
    assert path.read_text().splitlines()[1:4] == ["0\t0.000", "1\t5.000", "2\t2.000"]


@pytest.fixture
def vqa(monkeypatch):
    """The server's own counts are of hundreds of thousands."""
    monkeypatch.setitem(FORMS, "vqa", FORMS["vqa"].__class__(FORMS["vqa"].file, (3,), FORMS["vqa"].spelt))


def test_the_list_of_vqa(tmp_path, vqa):
    source = predictions(tmp_path / "p.json", ["yes", "2", "ice cream"], ["262148000", "5", "7"])
    path = write_submission("vqa", source, tmp_path)
    assert json.loads(path.read_text())[2] == {"question_id": 7, "answer": "ice cream"}
    assert path.name == "vqa_OpenEnded_mscoco_test2015_results.json" and check_submission("vqa", path) == 3


@pytest.mark.parametrize(
    ("name", "said", "ids", "words"),
    [
        ("cola", ["acceptable"] * 3, None, "3 predictions, cola's test set has 1,063; predict all of it"),
        ("cola", [*["acceptable"] * 1062, "fine"], None, "entry 1062, id 'test:1062': 'fine' is no answer of cola"),
        ("cola", ["acceptable"] * 1063, [f"test:{k}" for k in range(1, 1064)], "has the id 'test:1', expected test:0"),
        ("cola", ["acceptable"] * 1063, ["test:0"] * 1063, "an id is there twice"),
        ("vqa", ["yes", " ", "no"], ["1", "2", "3"], "' ' is no answer of vqa"),
        ("vqa", ["yes"] * 3, ["1", "x", "3"], "id 'x' is no number of a question"),
    ],
)
def test_what_a_server_would_refuse_is_not_written(tmp_path, vqa, name, said, ids, words):
    with pytest.raises(DataError, match=words):
        write_submission(name, predictions(tmp_path / "p.json", said, ids), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{", "{}", '[{"id": "a"}]', "[1]"])
def test_what_is_no_predictions_file_is_named(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(DataError, match="p.json"):
        write_submission("cola", tmp_path / "p.json", tmp_path / "out")
    done = CliRunner().invoke(main, ["report", "submission", "rte", str(tmp_path / "p.json"), str(tmp_path)])
    assert done.exit_code == 2 and "no set 'rte'; there are sst-2" in done.output


def test_the_checker_reads_what_others_wrote(tmp_path, vqa):
    table = tmp_path / "CoLA.tsv"
    for content, words in (
        ("id\tlabel\n0\t1\n", "the first line is"),
        ("index\tprediction\n0\t1\n2\t1\n", "CoLA.tsv:3: .* expected '1<TAB>prediction'"),
        ("index\tprediction\n0\t1\n", "1 predictions, expected 1063"),
        ("index\tprediction\n" + "".join(f"{k}\t{2 if k == 9 else 1}\n" for k in range(1063)), "prediction 9 is '2'"),
    ):
        table.write_text(content)
        with pytest.raises(DataError, match=words):
            check_submission("cola", table)
    answers = tmp_path / "vqa.json"
    for entries, words in (
        ([{"question_id": "1", "answer": "a"}] * 3, "question_id"),
        ([{"question_id": 1, "answer": "a"}] * 3, "a question is answered twice"),
        ([{"question_id": k} for k in range(3)], "answer"),
    ):
        answers.write_text(json.dumps(entries))
        with pytest.raises(DataError, match=words):
            check_submission("vqa", answers)
