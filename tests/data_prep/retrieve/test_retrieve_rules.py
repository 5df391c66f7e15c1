"""Rules of retrieval that hold for all inputs, and its formulas on hand-made examples."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_retrieve import write_store

from data_prep.near_duplicates import near, normalise, words
from data_prep.retrieve.build import apply, fit
from data_prep.retrieve.image_neighbours import ImageIndex, vectors
from data_prep.retrieve.text_neighbours import Text, TextIndex
from unimo.errors import DataError
from unimo.readers.annotations import read_pairs as read
from unimo.readers.annotations import read_rewrites

IDS = [f"picture{i}" for i in range(8)]
COPIES = {"again0": "picture0", "again5": "picture5"}
sentence = st.lists(st.sampled_from("a the red blue cat dog runs sits, tree NEAR".split()), min_size=1, max_size=7)
sentences = st.lists(sentence.map(" ".join), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    for number, image_id in enumerate(IDS):
        picture = Image.fromarray(np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)).resize((96, 96))
        picture.save(folder / f"{image_id}.png")
        picture.resize((60, 60)).save(folder / f"again{number}.jpg")
    return write_store(folder / "regions", IDS + list(COPIES))


@settings(deadline=None, max_examples=40)
@given(
    captions=st.lists(sentences, min_size=8, max_size=8),
    splits=st.lists(st.sampled_from(["train", "train", "dev", "test"]), min_size=8, max_size=8),
    texts=st.lists(sentence.map(" ".join), min_size=1, max_size=12),
)
def test_nothing_of_dev_or_test_is_ever_retrieved(store, captions, splits, texts):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {"image_id": i, "image": f"{store.parent}/{i}.png", "captions": c, "split": s, "source": "made"}
            for i, c, s in zip(IDS, captions, splits)
        ]
        images = [{"image_id": i, "image": f"{store.parent}/{i}.png", "source": "made"} for i in IDS[:4]]
        images += [{"image_id": i, "image": f"{store.parent}/{i}.jpg", "source": "made"} for i in COPIES]
        lines = {"pairs": rows, "images": images}
        lines["texts"] = [{"id": f"t{k}", "text": t, "source": "made"} for k, t in enumerate(texts)]
        for key, records in lines.items():
            (folder / f"{key}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        pairs, out = folder / "pairs.jsonl", folder / "out.jsonl"
        try:
            fit(pairs, folder / "texts.jsonl", folder / "images.jsonl", store, folder / "index", min_words=1)
        except DataError as error:
            assert "nothing usable" in str(error) and "train" not in splits
            return
        apply(folder / "index", pairs, None, out, text_threshold=0, image_threshold=0)
        held_pictures = {i for i, split in zip(IDS, splits) if split != "train"}
        held_pictures |= {copy for copy, original in COPIES.items() if original in held_pictures}
        held_captions = [words(c) for cs, split in zip(captions, splits) if split != "train" for c in cs]
        for rewrite in read_rewrites(out, read(pairs)).values():
            if rewrite.image_id in held_pictures:
                assert rewrite.similar_images == rewrite.similar_texts == []
            assert held_pictures.isdisjoint(rewrite.similar_images)
            assert not any(near(words(t), held) for t in rewrite.similar_texts for held in held_captions)
            own = [words(c) for c in captions[IDS.index(rewrite.image_id)]]
            assert not any(near(words(t), caption) for t in rewrite.similar_texts for caption in own)
            assert rewrite.image_id not in rewrite.similar_images
            keys = [normalise(t) for t in rewrite.similar_texts]
            assert len(set(keys)) == len(keys) and len(set(rewrite.similar_images)) == len(rewrite.similar_images)


def test_the_likeness_of_a_text_with_all_the_words_is_about_one():
    texts = ["red car street", "green car street", "blue boat river", "yellow boat river"]
    index = TextIndex.fit([Text(str(i), text, "made") for i, text in enumerate(texts)])
    (hits,) = index.search(["Red car street!"], 4)
    assert [place for place, _ in hits] == [0, 1] and hits[0][1] == pytest.approx(1, abs=1e-3)
    (with_unseen,) = index.search(["Red car street zebra"], 4)
    assert with_unseen[0][1] < hits[0][1]
    assert list(index.search(["of the", ""], 4)) == [[], []]


def test_what_is_found_does_not_depend_on_what_else_is_asked():
    rng = np.random.default_rng(0)
    names = [f"i{k}" for k in range(60)]
    index = ImageIndex.fit(names, rng.normal(size=(60, 300)).astype(np.float32))
    together = index.search(names, 5)
    assert all(index.search([name], 5) == {name: together[name]} for name in names)


def test_likeness_of_images_is_the_documented_formula():
    rng = np.random.default_rng(1)
    objects = np.float32([[0, 0.9, 0], [0, 0.8, 0.5], [0, 0, 0], [0, 0.4, 0]])
    means = rng.random((4, 6)).astype(np.float32)
    rows = vectors(objects, means, 0.3)
    rare, v = objects * np.log1p([4, 4 / 3, 4]), means - means.mean(0)

    def cosine(a, b):
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    assert rows[0] @ rows[1] == pytest.approx(0.3 * cosine(rare[0], rare[1]) + 0.7 * cosine(v[0], v[1]), abs=1e-5)
    assert rows[0] @ rows[2] == pytest.approx(0.7 * cosine(v[0], v[2]), abs=1e-5)
