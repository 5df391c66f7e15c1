import gc
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.errors import DataError
from unimo.readers.annotations import (
    Rewrite,
    Sentence,
    read_images,
    read_pairs,
    read_rewrites,
    read_texts,
    write_jsonl,
)

PAIR = {"image_id": "cat", "image": "cat.png", "captions": ["a cat", "it sits"], "split": "train", "source": "hand"}
REWRITE = {
    "caption_id": "cat#0",
    "image_id": "cat",
    "caption": "a cat",
    "graph": {"objects": ["cat"]},
    "positives": [{"text": "one cat", "engine": "hand"}],
    "negatives": [{"text": "a dog", "kind": "object", "from": "cat", "to": "dog"}],
    "similar_images": ["lion"],
    "similar_texts": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat.png", "dog.png"):
        (tmp_path / name).touch()
    return tmp_path


def lines(path: Path, *records: dict | str) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
    return path


def test_pairs_of_one_split(folder: Path):
    dog = PAIR | {"image_id": "dog", "image": "dog.png", "split": "test", "licence": "unknown keys are left out"}
    path = lines(folder / "pairs.jsonl", PAIR, "", dog)
    assert [p.image_id for p in read_pairs(path)] == ["cat", "dog"]
    (cat,) = read_pairs(path, "train")
    assert cat.captions_by_id() == {"cat#0": "a cat", "cat#1": "it sits"}
    with pytest.raises(DataError, match=r"no pair of split 'dev'; it has \['test', 'train'\]"):
        read_pairs(path, "dev")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({k: v for k, v in PAIR.items() if k != "image"}, "line 2: key 'image' is missing"),
        (PAIR | {"image_id": 7}, "line 2: image_id: Input should be a valid string, got '7'"),
        (PAIR | {"image_id": "b", "captions": "a cat"}, "line 2: captions: Input should be a valid array"),
        (PAIR | {"image_id": "b", "captions": ["a", ""]}, "line 2: captions.1: String should have at least 1"),
        (PAIR | {"image_id": "b", "captions": []}, "line 2: image 'b' has no caption"),
        (
            PAIR | {"image_id": "b", "split": "val"},
            "line 2: split: Input should be 'train', 'dev' or 'test', got 'val'",
        ),
        (PAIR, "line 2: image_id 'cat' was already on line 1"),
        ('{"image_id": "b", ', "line 2: Invalid JSON"),
        ("[]", "line 2: Input should be an object"),
    ],
)
def test_a_bad_pair_is_named_with_its_line(folder: Path, record: dict | str, message: str):
    with pytest.raises(DataError) as error:
        read_pairs(lines(folder / "pairs.jsonl", PAIR, record))
    assert message in str(error.value)


@pytest.mark.parametrize("read", [read_pairs, read_images])
def test_a_missing_picture_is_named_with_its_line_where_pixels_are_read(folder: Path, read: Callable):
    path = lines(folder / "list.jsonl", PAIR, PAIR | {"image_id": "b", "image": "no.png"})
    assert [record.image_id for record in read(path)] == ["cat", "b"]
    with pytest.raises(DataError, match="1 bad record.*\n.*line 2: image file 'no.png' of 'b' does not exist in"):
        read(path, pictures=True)
    (folder / "no.png").touch()
    assert read(path, pictures=True) == read(path)


def test_all_bad_lines_are_counted_and_the_first_ten_shown(folder: Path):
    path = lines(folder / "texts.jsonl", *[{"id": str(i), "text": "x"} for i in range(25)])
    with pytest.raises(DataError) as error:
        read_texts(path)
    assert "25 bad record(s)" in str(error.value)
    assert str(error.value).count("- line") == 10
    assert "... and 15 more" in str(error.value)


def test_missing_and_empty_files(folder: Path):
    with pytest.raises(DataError, match="cannot read .*No such file"):
        read_texts(folder / "none.jsonl")
    with pytest.raises(DataError, match="holds no record"):
        read_images(lines(folder / "images.jsonl", ""))
    with pytest.raises(DataError, match="line 1: .*(utf-8|UTF-8|unicode)"):
        (folder / "latin.jsonl").write_bytes(b'{"id": "1", "text": "caf\xe9", "source": "x"}\n')
        read_texts(folder / "latin.jsonl")


def test_rewrites_belong_to_the_pairs(folder: Path):
    pairs = read_pairs(lines(folder / "pairs.jsonl", PAIR))
    other = REWRITE | {"caption_id": "cow#0", "image_id": "cow"}
    rewrites = read_rewrites(lines(folder / "rewrites.jsonl", REWRITE, other), pairs)
    assert list(rewrites) == ["cat#0"]
    assert rewrites["cat#0"].negatives[0].model_dump() == REWRITE["negatives"][0]
    assert "cat#0" in rewrites and "cow#0" not in rewrites and rewrites.get("cow#0") is None and len(rewrites) == 1
    assert rewrites == {"cat#0": Rewrite(**json.loads(json.dumps(REWRITE)))}
    with pytest.raises(DataError, match="line 1: caption 'cat#0' is not the text that the pairs have"):
        read_rewrites(lines(folder / "stale.jsonl", REWRITE | {"caption": "a cow"}), pairs)


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
@pytest.mark.parametrize("place", ['"graph": {"a": [1, %s]}', '"positives": [{"text": "a", "engine": "b", "x": %s}]'])
def test_numbers_that_could_not_be_written_again_are_refused(folder: Path, place: str, number: str):
    key = place.partition(":")[0].strip('"')
    line = json.dumps({k: v for k, v in REWRITE.items() if k != key})[:-1] + f", {place % number}}}"
    (folder / "rewrites.jsonl").write_text(line)
    with pytest.raises(DataError, match=f"line 1: {key}.*it holds inf or nan"):
        read_rewrites(folder / "rewrites.jsonl", read_pairs(lines(folder / "pairs.jsonl", PAIR)))


@settings(deadline=None)
@given(
    number=st.one_of(
        st.floats().map(json.dumps),
        st.from_regex(r"-?(0|[1-9][0-9]{0,2})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
        st.sampled_from(["9" * 308 + ".0", "9" * 309 + ".0", "9" * 400, "9" * 250 + "e60", "0.0001E+0400"]),
    )
)
def test_no_number_that_is_read_as_infinite_is_taken(tmp_path_factory: pytest.TempPathFactory, number: str):
    """The shortcut past the check is right about every way to write a number."""
    folder = tmp_path_factory.mktemp("jsonl")
    pairs = read_pairs(lines(folder / "pairs.jsonl", PAIR))
    line = json.dumps(REWRITE).replace('"objects": ["cat"]', f'"objects": [{number}]')
    value = json.loads(number)
    if value < math.inf and value > -math.inf:
        assert read_rewrites(lines(folder / "r.jsonl", line), pairs)["cat#0"].graph == {"objects": [value]}
    else:
        with pytest.raises(DataError, match="line 1: graph: Value error, objects.0: it holds inf or nan"):
            read_rewrites(lines(folder / "r.jsonl", line), pairs)


@settings(deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])).map("a{}".format), min_size=1))
def test_written_texts_are_read_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]):
    path = tmp_path_factory.mktemp("jsonl") / "texts.jsonl"
    records = [Sentence(id=str(i), text=text, source="any") for i, text in enumerate(texts)]
    assert write_jsonl(path, records) == len(texts)
    assert read_texts(path) == records


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = lines(tmp_path / "texts.jsonl", "old")

    def records():
        yield {"id": "1"}
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_jsonl(path, records())
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["texts.jsonl"]
    with pytest.raises(DataError, match="cannot write .*No such file"):
        write_jsonl(tmp_path / "missing" / "texts.jsonl", [])


@pytest.mark.parametrize("blank", ["   ", "\u200b", "\ufeff \t", "...", "-", "\u00a0\u2060", "\u2800\u3164"])
def test_a_caption_that_says_nothing_is_named_with_its_line(folder: Path, blank: str):
    path = lines(folder / "pairs.jsonl", PAIR, PAIR | {"image_id": "dog", "captions": ["a dog", blank]})
    with pytest.raises(DataError, match=r"line 2: .*captions.*no letter, digit or symbol"):
        read_pairs(path)
    with pytest.raises(DataError, match="line 1: .*no letter, digit or symbol"):
        read_texts(lines(folder / "texts.jsonl", {"id": "1", "text": blank, "source": "hand"}))


@pytest.mark.parametrize("text", ["5", "\U0001f600", "狗", "é", "€"])
def test_a_digit_a_symbol_or_a_letter_of_any_script_says_something(folder: Path, text: str):
    assert read_pairs(lines(folder / "pairs.jsonl", PAIR | {"captions": [text]}))[0].captions == [text]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_lists_with_a_byte_order_mark(folder: Path, encoding: str):
    (folder / "pairs.jsonl").write_bytes((json.dumps(PAIR | {"captions": ["un café"]}) + "\n").encode(encoding))
    assert read_pairs(folder / "pairs.jsonl")[0].captions == ["un café"]
    (folder / "pairs.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="not the text that its byte order mark says"):
        read_pairs(folder / "pairs.jsonl")


def test_reading_collects_no_garbage_and_leaves_the_collector_as_it_was(tmp_path):
    lines = [json.dumps({"id": str(i), "text": "A dog.", "source": "made"}) for i in range(20_000)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    (tmp_path / "bad.jsonl").write_text("{}")
    collections: list[str] = []
    gc.callbacks.append(lambda phase, _: collections.append(phase))
    try:
        assert len(read_texts(tmp_path / "texts.jsonl")) == 20_000
        with pytest.raises(DataError, match="key 'id' is missing"):
            read_texts(tmp_path / "bad.jsonl")
        assert gc.isenabled()
        assert len(collections) < 10  # 20,000 records would start dozens
        gc.disable()
        read_texts(tmp_path / "texts.jsonl")
        assert not gc.isenabled()
    finally:
        gc.callbacks.pop()
        gc.enable()
