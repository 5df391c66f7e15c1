"""GLUE's tables in their public columns, and the release's: examples in file order, what is left out, each error."""

from pathlib import Path

import pytest
from converted import lines

from data_prep.benchmarks.glue_tsv import TASKS, convert
from unimo.config import ROOT
from unimo.errors import ConfigError, DataError
from unimo.readers.examples import read_examples

FIXTURES = ROOT / "tests" / "fixtures" / "parity"
MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
MNLI += "sentence1 sentence2"
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"


def table(path: Path, header: str, *rows: tuple) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header.replace(" ", "\t")] if header else []
    path.write_text("\n".join([*lines, *("\t".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def sst(tmp_path):
    folder = tmp_path / "SST-2"
    table(folder / "train.tsv", "sentence label", ("hide new secretions ", 0), ('a "gripping" movie ', 1))
    table(folder / "dev.tsv", "sentence label", ("It 's charming", 1))
    table(folder / "test.tsv", "index sentence", (0, "uneasy mishmash ."), (1, "allows us to hope"))
    return folder


@pytest.fixture
def cola(tmp_path):
    folder = tmp_path / "CoLA"
    table(folder / "train.tsv", "", ("gj04", 1, "", "Our friends won't buy this."), ("gj04", 0, "*", "They drank."))
    table(folder / "dev.tsv", "", ("gj04", 1, "", "The sailors rode the breeze."))
    table(folder / "test.tsv", "index sentence", (0, "Bill whistled past the house."))
    return folder


def mnli_row(number: int, text: str, *labels: str) -> tuple:
    return (number, 31193, "31193n", "government", "( a )", "( b )", "(ROOT a)", "(ROOT b)", text, f"{text}?", *labels)


@pytest.fixture
def mnli(tmp_path):
    folder, five = tmp_path / "MNLI", " label1 label2 label3 label4 label5 gold_label"
    table(
        folder / "train.tsv",
        f"{MNLI} label1 gold_label",
        mnli_row(0, "Cream", "neutral", "neutral"),
        mnli_row(1, "You", "entailment", "entailment"),
    )
    for name, text in (("matched", "m"), ("mismatched", "mm")):
        said = ["neutral", "neutral", "entailment", "neutral", "neutral"]
        rows = mnli_row(0, text, *said, "neutral"), mnli_row(1, text, *said, "-")
        table(folder / f"dev_{name}.tsv", MNLI + five, *rows)
        table(folder / f"test_{name}.tsv", MNLI, mnli_row(0, f"test {text}"), mnli_row(1, f"test {text}"))
    table(folder / "diagnostic.tsv", "index sentence1 sentence2", (0, "The cat sat.", "The cat did not sit."))
    return folder


@pytest.fixture
def stsb(tmp_path):
    folder, row = tmp_path / "STS-B", ("main-captions", "MSRvid", "2012test", "0001", "none", "none")
    texts = "A plane is taking off.", "An air plane is taking off."
    table(folder / "train.tsv", f"{STSB} score", (0, *row, *texts, "5.000"), (1, *row, *texts, "3.800"))
    table(folder / "dev.tsv", f"{STSB} score", (0, *row, *texts, "0.000"))
    table(folder / "test.tsv", STSB, (0, *row, *texts))
    return folder


def test_sst_2(sst, tmp_path, capsys):
    said = convert("sst-2", sst, tmp_path / "out")
    assert "5 examples, 2 train, 1 dev, 2 test" in said
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], r["source"], r["target"]) for r in records] == [
        ("train:0", ["hide new secretions"], "negative"),
        ("train:1", ['a "gripping" movie'], "positive"),
        ("dev:0", ["It 's charming"], "positive"),
        ("test:0", ["uneasy mishmash ."], None),
        ("test:1", ["allows us to hope"], None),
    ]
    notice = capsys.readouterr().err.splitlines()
    assert notice == [
        "notice: SST-2 has train 2 (published: 67,349), dev 1 (published: 872), test 2 (published: 1,821); "
        "all of it is at gluebenchmark.com (Tasks)"
    ]


def test_cola_has_no_header(cola, tmp_path):
    convert("cola", cola, tmp_path / "out", lower_case=True)
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], *r["source"], r["target"]) for r in records] == [
        ("train:0", "our friends won't buy this.", "acceptable"),
        ("train:1", "they drank.", "unacceptable"),
        ("dev:0", "the sailors rode the breeze.", "acceptable"),
        ("test:0", "bill whistled past the house.", None),
    ]


def test_mnli_makes_three_lists(mnli, tmp_path):
    convert("mnli", mnli, tmp_path / "out")
    found = {name: lines(tmp_path / "out" / f"{name}.jsonl") for name in ("examples", "mismatched", "ax", "rejects")}
    assert [(r["id"], r["target"]) for r in found["examples"]] == [
        ("train:0", "neutral"),
        ("train:1", "entailment"),
        ("dev:0", "neutral"),
        ("test:0", None),
        ("test:1", None),
    ]
    assert found["examples"][0]["source"] == ["Cream", "Cream?"]
    assert [(r["id"], r["source"][0], r["target"]) for r in found["mismatched"]] == [
        ("dev:0", "mm", "neutral"),
        ("test:0", "test mm", None),
        ("test:1", "test mm", None),
    ]
    assert found["ax"] == [
        {
            "id": "test:0",
            "split": "test",
            "source": ["The cat sat.", "The cat did not sit."],
            "image_id": None,
            "target": None,
        }
    ]
    assert [(r["id"], r["reason"]) for r in found["rejects"]] == [("dev:1", "no gold label")] * 2


def test_the_full_diagnostic_set_has_answers(mnli, tmp_path):
    (mnli / "diagnostic.tsv").unlink()
    header = "Lexical Semantics\tPredicate-Argument Structure\tLogic\tKnowledge\tDomain\tPremise\tHypothesis\tLabel"
    rows = [f"\t\tNegation\t\tArtificial\tThe cat sat.\tIt {verb}.\t{label}" for verb, label in AX]
    (mnli / "diagnostic-full.tsv").write_text("\n".join([header, *rows]) + "\n")
    convert("mnli", mnli, tmp_path / "out", ["test"])
    assert [r.target for r in read_examples(tmp_path / "out" / "ax.jsonl", "test")] == [label for _, label in AX]


AX = [("sat", "entailment"), ("did not sit", "contradiction"), ("slept", "neutral")]


def test_sts_b_has_scores(stsb, tmp_path):
    convert("sts-b", stsb, tmp_path / "out")
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], r["target"]) for r in records] == [
        ("train:0", 5.0),
        ("train:1", 3.8),
        ("dev:0", 0.0),
        ("test:0", None),
    ]
    assert records[0]["source"] == ["A plane is taking off.", "An air plane is taking off."]


@pytest.mark.parametrize(
    "name, folder",
    [
        ("sst-2", "readers_unimo/glue_single"),
        ("mnli", "readers_unimo/glue_pair"),
        ("mnli", "readers_unimo/glue_pair_noqid"),
        ("mnli", "readers_unimo2/mnli"),
        ("sts-b", "readers_unimo/regression_stsb"),
    ],
)
def test_the_releases_tables_in_file_order(name, folder, tmp_path, capsys):
    convert(name, FIXTURES / folder, tmp_path / "out", ["train"])
    header, *rows = [line.split("\t") for line in (FIXTURES / folder / "train.tsv").read_text().splitlines()]
    records = read_examples(tmp_path / "out" / "examples.jsonl", "train")
    assert len(rows) == len(records) > 4
    classes = TASKS[name].classes
    for place, (row, record) in enumerate(zip(rows, records)):
        values = dict(zip(header, row))
        assert record.id == f"train:{values.get('qid', place)}"
        assert record.source == [values[key] for key in ("text_a", "text_b") if key in values]
        assert record.target == (classes[int(values["label"])] if classes else float(values["label"]))
    taken = "notice: integers of the release's files are taken as 0 " + (classes[0] if classes else "")
    assert (taken in capsys.readouterr().err) == bool(classes)


def test_the_release_of_mnli_in_its_folders_with_another_order(tmp_path, capsys):
    source, header = tmp_path / "MNLI-AX", "qid text_a text_b label"
    table(source / "train.tsv", header, (7, "a", "b", 0), (8, "a", "b", 2))
    for name in ("m/dev.tsv", "mm/dev.tsv", "m/test.tsv", "mm/test.tsv", "diagnostic.tsv"):
        table(source / name, header, (0, f"{name} a", "b", 1), (1, f"{name} a", "b", 1))
    convert("mnli", source, tmp_path / "out", labels="contradiction, entailment,neutral")
    assert "0 contradiction, 1 entailment, 2 neutral" in capsys.readouterr().err
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert [(r["id"], r["target"]) for r in records] == [
        ("train:7", "contradiction"),
        ("train:8", "neutral"),
        ("dev:0", "entailment"),
        ("dev:1", "entailment"),
        ("test:0", None),
        ("test:1", None),
    ]
    assert {r["target"] for r in lines(tmp_path / "out" / "ax.jsonl")} == {None}, "one label for all is a filling"


def test_blank_sentences_and_repeated_ids_are_listed(sst, tmp_path):
    table(sst / "dev.tsv", "sentence label", ("  ", 0), ("good", 1))
    table(sst / "test.tsv", "index sentence", (0, "one"), (0, "two"))
    convert("sst-2", sst, tmp_path / "out")
    rejects = lines(tmp_path / "out" / "rejects.jsonl")
    assert [(r["id"], r["reason"]) for r in rejects] == [("dev:0", "blank text"), ("test:0", "id twice")]
    assert [r["id"] for r in lines(tmp_path / "out" / "examples.jsonl")][2:] == ["dev:1", "test:0"]


HOME = "SST-2 is published at gluebenchmark.com"


@pytest.mark.parametrize(
    "row, problem",
    [
        (("good",), r"train.tsv:3: 1 columns, expected 2 \(sentence, label\); .* cut short: fetch the file again"),
        (("good", 2), r"train.tsv:3: label '2', expected negative, positive or 0 to 1; correct the line"),
        (("good", 1, 1), "train.tsv:3: 3 columns, expected 2"),
    ],
)
def test_a_bad_row_is_one_clear_error(sst, tmp_path, row, problem):
    table(sst / "train.tsv", "sentence label", ("fine", 1), row)
    with pytest.raises(DataError, match=rf"(?s){problem}.*{HOME}"):
        convert("sst-2", sst, tmp_path / "out")
    assert not (tmp_path / "out" / "examples.jsonl").exists()


@pytest.mark.parametrize("score", ["5.1", "-1", "good", "nan"])
def test_a_score_is_from_0_to_5(stsb, tmp_path, score):
    path = stsb / "dev.tsv"
    path.write_text(path.read_text().replace("0.000", score))
    with pytest.raises(DataError, match=f"dev.tsv:2: label '{score}', expected a score from 0 to 5"):
        convert("sts-b", stsb, tmp_path / "out")


def test_missing_files_are_named_together(mnli, tmp_path):
    (mnli / "dev_mismatched.tsv").unlink()
    (mnli / "diagnostic.tsv").unlink()
    with pytest.raises(
        DataError, match="lacks dev_mismatched.tsv or mm/dev.tsv, diagnostic.tsv.*--split.*MNLI is publ"
    ):
        convert("mnli", mnli, tmp_path / "out")
    convert("mnli", mnli, tmp_path / "out", ["train"])


def test_tables_of_another_task_and_no_text_are_refused(sst, cola, tmp_path):
    with pytest.raises(DataError, match=r"train.tsv:1: the columns are \['sentence', 'label'\], expected sentence1, "):
        convert("sts-b", sst, tmp_path / "out")
    with pytest.raises(DataError, match="expected sentence, label as in GLUE, or text_a and label as in the release"):
        convert("sst-2", cola, tmp_path / "out")
    table(sst / "dev.tsv", "index sentence", (0, "of test"))
    with pytest.raises(DataError, match="dev.tsv:1: .* in which only test has no label"):
        convert("sst-2", sst, tmp_path / "out")
    (sst / "dev.tsv").write_bytes(b"sentence\tlabel\n\xff\xfe\xfa\t1\n")
    with pytest.raises(DataError, match="dev.tsv: is no table of text in UTF-8"):
        convert("sst-2", sst, tmp_path / "out")


def test_an_order_of_labels_that_is_none_or_not_used_is_refused(sst, tmp_path):
    with pytest.raises(ConfigError, match="expected negative, positive in any order"):
        convert("sst-2", sst, tmp_path / "out", labels="positive")
    with pytest.raises(ConfigError, match="not used"):
        convert("sst-2", sst, tmp_path / "out", labels="positive,negative")


def test_a_folder_that_holds_something_else_is_refused(sst, tmp_path):
    out = tmp_path / "out"
    convert("sst-2", sst, out)
    before = (out / "examples.jsonl").read_bytes()
    convert("sst-2", sst, out)
    assert (out / "examples.jsonl").read_bytes() == before
    with pytest.raises(DataError, match="made otherwise"):
        convert("sst-2", sst, out, lower_case=True)
    with pytest.raises(DataError, match=r"holds other files \(dev.tsv"):
        convert("sst-2", sst, sst)
    with pytest.raises(DataError, match="is a file"):
        convert("sst-2", sst, out / "examples.jsonl")


def test_the_command(stage, sst, tmp_path):
    done = stage("benchmarks", "sst-2", sst, tmp_path / "out", "--split", "dev")
    assert done.returncode == 0 and "1 examples, 1 dev" in done.stdout and "SST-2 has dev 1" in done.stderr
    done = stage("benchmarks", "sst-2", tmp_path / "none", tmp_path / "other")
    assert done.returncode == 2 and "train.tsv" in done.stderr and "Traceback" not in done.stderr
