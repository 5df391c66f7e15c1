"""SNLI-VE's public lists and the release's files: examples in file order, pictures, what is left out, each error."""

import json
import shutil
from pathlib import Path

import pytest
from converted import lines

from data_prep.benchmarks.snli_ve_lists import CLASSES, convert
from data_prep.regions.importers.import_store import Choices, import_features
from data_prep.stage import WHOLE
from unimo.config import ROOT
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import read_images
from unimo.readers.feature_store import FeatureStore
from unimo.readers.tokenizer import load_tokenizer

RELEASE = ROOT / "tests" / "fixtures" / "parity" / "readers_unimo" / "snli_ve"
DICTIONARY = ROOT / "model_files" / "dict"


def record(number: int, label: str, hypothesis: str = "A person sleeps.", pair: str = "") -> dict:
    return {
        "annotator_labels": [label],
        "captionID": f"{number}.jpg#0",
        "gold_label": label,
        "pairID": pair or f"{number}.jpg#0r1n",
        "sentence1": "Two women are embracing.",
        "sentence1_binary_parse": "( Two women )",
        "sentence2": hypothesis,
        "Flickr30K_ID": str(number),
    }


def write(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


@pytest.fixture
def public(tmp_path):
    folder = tmp_path / "SNLI-VE"
    write(folder / "snli_ve_train.jsonl", record(36979, "neutral"), record(65567, "contradiction", "The men fight."))
    write(folder / "snli_ve_dev.jsonl", record(10002456, "entailment"), record(1000092795, "-"))
    write(folder / "snli_ve_test.jsonl", record(1007129816, "entailment", "A man."))
    return folder


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "bbox100"
    folder.mkdir()
    for name in ("part-0", "part-1.gz"):
        shutil.copy(RELEASE / name, folder)
    for split in ("train", "dev", "test"):
        shutil.copy(RELEASE / "filelist", folder / f"{split}_filelist")
    return folder


def test_public_lists(public, tmp_path, capsys):
    said = convert(public, tmp_path / "out")
    assert "4 examples, 2 train, 1 dev, 1 test" in said and "1 left out" in said
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert records[0] == {
        "id": "36979.jpg#0r1n",
        "split": "train",
        "source": ["A person sleeps."],
        "image_id": "flickr30k-36979",
        "target": "neutral",
    }
    assert [r["target"] for r in records] == ["neutral", "contradiction", "entailment", "entailment"]
    assert lines(tmp_path / "out" / "rejects.jsonl")[0]["reason"] == "no gold label"
    assert "train 2 (published: 529,527)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "images.jsonl").exists()


def test_premise_and_pictures(public, tmp_path):
    for number in (36979, 10002456, 1007129816):
        write(tmp_path / "pictures" / "part" / f"{number}.jpg", "")
    said = convert(public, tmp_path / "out", images=tmp_path / "pictures", premise=True)
    assert "3 examples, 1 train, 1 dev, 1 test, 3 images" in said
    records = lines(tmp_path / "out" / "examples.jsonl")
    assert records[0]["source"] == ["Two women are embracing.", "A person sleeps."]
    images = read_images(tmp_path / "out" / "images.jsonl", pictures=True)
    assert [image.image_id for image in images] == [r["image_id"] for r in records]
    rejects = lines(tmp_path / "out" / "rejects.jsonl")
    assert [(r["id"], r["reason"]) for r in rejects] == [
        ("65567.jpg#0r1n", "no picture of the name"),
        ("1000092795.jpg#0r1n", "no gold label"),
    ]


def test_older_spelling_of_the_picture(public, tmp_path):
    old = record(7, "neutral")
    old["Flikr30kID"] = old.pop("Flickr30K_ID") + ".jpg"
    write(public / "snli_ve_test.jsonl", old)
    convert(public, tmp_path / "out", ["test"])
    assert lines(tmp_path / "out" / "examples.jsonl")[0]["image_id"] == "flickr30k-7"


@pytest.mark.parametrize(
    "bad, problem",
    [
        (json.dumps(record(5, "neutral"))[:-20] + "\n", r"snli_ve_dev.jsonl:2: is not JSON, perhaps cut short"),
        (record(5, "maybe"), r"snli_ve_dev.jsonl:2: label 'maybe', expected entailment, neutral, contradiction"),
        ({"gold_label": "neutral", "pairID": "x"}, r":2: has no text Flickr30K_ID, sentence1, sentence2"),
        ("[1]\n", ":2: has no text Flickr30K_ID, gold_label"),
    ],
)
def test_a_bad_line_is_one_clear_error(public, tmp_path, bad, problem):
    write(public / "snli_ve_dev.jsonl", record(4, "neutral"), bad)
    with pytest.raises(DataError, match=f"{problem}.*SNLI-VE is published at the SNLI-VE repository of necla-ml"):
        convert(public, tmp_path / "out")


def test_an_id_in_two_splits_and_missing_files(public, tmp_path):
    write(public / "snli_ve_dev.jsonl", record(4, "neutral", pair="36979.jpg#0r1n"))
    with pytest.raises(DataError, match="id '36979.jpg#0r1n' is in train and in dev"):
        convert(public, tmp_path / "out")
    (public / "snli_ve_dev.jsonl").unlink()
    with pytest.raises(DataError, match="lacks snli_ve_dev.jsonl; name"):
        convert(public, tmp_path / "out")


def test_the_releases_files(release, tmp_path, capsys):
    convert(release, tmp_path / "out", ["train"], tokenizer=DICTIONARY)
    records, tokenizer = lines(tmp_path / "out" / "examples.jsonl"), load_tokenizer(DICTIONARY)
    fields = [line.split(";") for line in _content(release)]
    assert len(records) == len(fields) == 9
    noted = {r["id"]: r for r in lines(tmp_path / "out" / "not_reproduced.jsonl")}
    for record, (image, number, label, tokens, *_) in zip(records, fields):
        ids = [int(i) for i in tokens.split()][1:-1]
        assert record["id"] == f"train:{image}:{number}" and record["image_id"] == f"flickr30k-{image}"
        assert record["target"] == CLASSES[int(label)] and record["source"] == [tokenizer.decode(ids)]
        again = tokenizer.encode(record["source"][0])
        assert (record["id"] in noted) == (again != ids)
        assert record["id"] not in noted or (noted[record["id"]]["ids"], noted[record["id"]]["again"]) == (ids, again)
    assert 0 < len(noted) < len(records)
    said = capsys.readouterr().err
    assert "0 entailment, 1 neutral, 2 contradiction" in said and f"{len(noted)} texts give other token ids" in said
    assert "regions import unimo-snli-ve" in said


def _content(release: Path) -> list[str]:
    import gzip

    plain, packed = (release / "part-0").read_text(), gzip.decompress((release / "part-1.gz").read_bytes()).decode()
    return [line for line in (plain + packed).splitlines() if line]


def test_the_examples_and_the_imported_features_name_the_same_pictures(release, tmp_path):
    convert(release, tmp_path / "out", ["dev"], tokenizer=DICTIONARY)
    choices = Choices(feature_dim=6, ids="flickr30k")
    import_features("unimo-snli-ve", release / "dev_filelist", tmp_path / "store", choices, WHOLE)
    asked = {r["image_id"] for r in lines(tmp_path / "out" / "examples.jsonl")}
    assert asked == {*FeatureStore(tmp_path / "store").ids}


def test_options_of_the_other_form_are_refused(public, release, tmp_path):
    with pytest.raises(ConfigError, match="give --tokenizer"):
        convert(release, tmp_path / "out")
    with pytest.raises(ConfigError, match="--premise is not used"):
        convert(release, tmp_path / "out", premise=True, tokenizer=DICTIONARY)
    with pytest.raises(ConfigError, match="of the release's files, which these are not"):
        convert(public, tmp_path / "out", tokenizer=DICTIONARY)


@pytest.mark.parametrize(
    "old, new, problem",
    [
        (";0_0;2;", ";0_0;3;", "part-0@0: label '3', expected an integer from 0 to 2"),
        (";0_0;2;", ";0_0;2;9;", "part-0@0: 15 fields, expected 14"),
        (";0_0;2;0 ", ";0_0;2;0 99999999 ", "part-0@0: token ids '0 99999999 .*expected numbers below 50265"),
        (";0_0;2;0 ", ";0_0;2;x ", "part-0@0: token ids 'x"),
    ],
)
def test_a_bad_line_of_the_release_is_one_clear_error(release, tmp_path, old, new, problem):
    content = (release / "part-0").read_text()
    assert old in content
    (release / "part-0").write_text(content.replace(old, new))
    with pytest.raises(DataError, match=f"{problem}.*SNLI-VE is published"):
        convert(release, tmp_path / "out", tokenizer=DICTIONARY)


def test_the_command(stage, public, tmp_path):
    done = stage("benchmarks", "snli-ve", public, tmp_path / "out", "--split", "train", "--premise")
    assert done.returncode == 0 and "2 examples, 2 train" in done.stdout
