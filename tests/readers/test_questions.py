"""Examples as model inputs: pairs cut as the release cuts them, types, and sets that do not go together."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimo.errors import ConfigError, DataError
from unimo.models.oner import OnerConfig
from unimo.models.unimo import UnimoConfig
from unimo.readers.annotations import write_jsonl
from unimo.readers.questions import Questions, joined
from unimo.readers.tokenizer import load_tokenizer

PARTS = st.lists(st.lists(st.integers(10, 99), min_size=1, max_size=12), min_size=1, max_size=2)


class Signs:
    cls_id, sep_id = 0, 2


@given(PARTS, st.integers(5, 30))
def test_a_text_is_cut_from_its_longer_part(parts, max_tokens):
    ids, types = joined(parts, Signs(), max_tokens)
    fitting = sum(map(len, parts)) + 1 + len(parts) <= max_tokens
    assert len(ids) == len(types) == (sum(map(len, parts)) + 1 + len(parts) if fitting else max_tokens)
    assert ids[0] == 0 and ids[-1] == 2 and ids.count(2) == len(parts)
    cut = [len(parts[0])] if len(parts) == 1 else [ids.index(2) - 1, len(ids) - ids.index(2) - 2]
    if len(parts) == 1:
        assert ids[1:-1] == parts[0][: max_tokens - 2] and set(types) == {0}
        return
    first, second = ids[1 : cut[0] + 1], ids[cut[0] + 2 : -1]
    assert first == parts[0][: cut[0]] and second == parts[1][: cut[1]]
    assert types == [0] * (cut[0] + 2) + [1] * (cut[1] + 1)
    if cut[0] < len(parts[0]) and cut[1] < len(parts[1]):
        assert cut[0] - cut[1] in (0, 1), "both are cut: ties lose their second part's last token"
    elif cut[0] < len(parts[0]):
        assert cut[0] >= cut[1], "the first alone is cut while it is the longer one"
    elif cut[1] < len(parts[1]):
        assert cut[1] >= cut[0] - 1


def questions(small_world: Path, tmp_path: Path, rows: list[dict], config=None, **given) -> Questions:
    write_jsonl(tmp_path / "examples.jsonl", rows)
    config = config or UnimoConfig(image_embedding_size=16)
    tokenizer = load_tokenizer(small_world / "vocabulary")
    return Questions(tmp_path / "examples.jsonl", "dev", tokenizer, config, 12, **given)


def row(number: int, **given) -> dict:
    return {"id": f"e{number}", "split": "dev", **given}


def test_texts_and_types_of_a_batch(small_world, tmp_path):
    rows = [row(0, source=["a dog", "a red dog"]), row(1, source=["a dog", "a dog"])]
    plain = questions(small_world, tmp_path, rows)
    assert set(plain.collate([0, 1])["text"]) == {"ids", "positions", "mask"}
    typed = questions(small_world, tmp_path, rows, UnimoConfig(type_vocab_size=2)).collate([1, 0])["text"]
    assert typed["types"].shape == typed["ids"].shape and typed["types"].max() == 1
    assert (typed["types"][typed["mask"] == 0] == 0).all()


def test_pictures_come_from_the_stores_or_from_the_list(small_world, tmp_path):
    pairs = [p for p in (small_world / "pairs.jsonl").read_text().splitlines() if '"train"' in p]
    import json

    first = json.loads(pairs[0])
    rows = [row(0, source=["a dog"], image_id=first["image_id"]), row(1, source=["a"], image_id=first["image_id"])]
    asked = questions(small_world, tmp_path, rows, regions=(str(small_world / "regions"),))
    inputs = asked.collate([0, 1])
    np.testing.assert_array_equal(inputs["regions"]["features"][0], inputs["regions"]["features"][1])
    pixels = OnerConfig(image_size=32, resolution=8)
    with pytest.raises(ConfigError, match="this model reads pixels: name images.jsonl"):
        questions(small_world, tmp_path, rows, pixels)
    listed = [{"image_id": first["image_id"], "image": str(small_world / first["image"]), "source": "x"}]
    write_jsonl(tmp_path / "images.jsonl", listed)
    found = questions(small_world, tmp_path, rows, pixels, images=str(tmp_path / "images.jsonl"))
    assert found.collate([1])["pixels"]["images"].shape == (1, 3, 32, 32)
    by_pairs = questions(small_world, tmp_path, rows, pixels, images=str(small_world / "pairs.jsonl"))
    np.testing.assert_array_equal(by_pairs.collate([1])["pixels"]["images"], found.collate([1])["pixels"]["images"])
    rows[1]["image_id"] = "nowhere"
    with pytest.raises(DataError, match="lacks 1 of 2 pictures, such as 'nowhere'"):
        questions(small_world, tmp_path, rows, pixels, images=str(tmp_path / "images.jsonl"))
    with pytest.raises(DataError, match="'nowhere' is not in feature store"):
        questions(small_world, tmp_path, rows, regions=(str(small_world / "regions"),))


@pytest.mark.parametrize("kind", ["regions", "pixels"])
def test_a_picture_that_neighbours_ask_about_is_read_once(small_world, tmp_path, monkeypatch, kind):
    """The arrays are those of every question's own picture; where pictures vary, in training, each is read anew."""
    ids = ["red-dog", "red-dog", "green-dog", "red-dog"]
    rows = [row(number, source=["a dog"], image_id=image_id) for number, image_id in enumerate(ids)]
    streams = {
        "regions": {"regions": (str(small_world / "regions"),)},
        "pixels": {"images": str(small_world / "pairs.jsonl"), "config": OnerConfig(image_size=32, resolution=8)},
    }
    asked = questions(small_world, tmp_path, rows, **streams[kind])
    expected, own, read = asked.images.collate(ids), asked.images.read, []
    monkeypatch.setattr(asked.images, "read", lambda image_id, *more: read.append(image_id) or own(image_id, *more))
    found = asked.collate(range(4))[kind]
    assert read == ["red-dog", "green-dog"] and found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    asked.collate(range(4), [np.random.default_rng(0)] * 4)
    assert read[2:] == ids


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(0, source=["a"]), row(1, image_id="x")], "1 of 2 examples have a text; expected all of them, or none"),
        ([row(0, source=["a"]), row(1, source=["a"], image_id="x")], "1 of 2 examples have a picture"),
        ([row(0)], "neither text nor picture"),
        ([row(0, source=["a", "b", "c"])], "an example has 3 texts, expected one, or two"),
    ],
)
def test_examples_that_do_not_go_together(small_world, tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        questions(small_world, tmp_path, rows)
