"""Lists and stores that call pictures differently: an error of every stage that gets both."""

import numpy as np
import pytest

from data_prep.coverage import with_regions
from unimo.errors import DataError
from unimo.readers.feature_store import FeatureStore, RegionRecord, StoreWriter


@pytest.fixture
def store(tmp_path) -> FeatureStore:
    made = {"name": "made", "version": "1"}
    with StoreWriter(tmp_path / "store", feature_dim=4, class_names=["background", "cat"], extractor=made) as writer:
        for image_id in ("391895", "522418"):
            arrays = (np.ones((2, 4), np.float16), np.zeros((2, 4), np.float32), np.ones(2, np.int64))
            writer.add(RegionRecord(image_id, 9, 9, *arrays, np.ones(2, np.float32)))
    return FeatureStore(tmp_path / "store")


def test_all_some_and_none(store, capsys):
    assert with_regions(["522418", "391895"], store) == ["522418", "391895"] and capsys.readouterr().err == ""
    assert with_regions(["7", "391895", "8"], store) == ["391895"]
    assert f"notice: 1 of 3 pictures have regions in {store.path}" in capsys.readouterr().err
    with pytest.raises(DataError, match="0 of 2 pictures have regions .*'coco-391895' in the list and '391895' in the"):
        with_regions(["coco-391895", "coco-522418"], store)
    assert with_regions([], store) == []


@pytest.mark.parametrize(
    "words",
    [
        ["rewrite", "build", "--regions", "{store}", "--paraphrases", "0", "--output", "{out}"],
        ["regions", "inspect", "{store}", "--output", "{out}.html"],
        ["retrieve", "fit", "--texts", "{texts}", "--regions", "{store}", "--output", "{out}"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_every_stage_says_so(stage, store, tmp_path, words):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    pairs, texts = pictures / "pairs.jsonl", pictures / "texts.jsonl"
    lines = [
        f'{{"image_id": "coco-{number}", "image": "{number}.png", "captions": ["a cat {number}"], "split": "train", '
        '"source": "coco"}'
        for number in (391895, 522418)
    ]
    for number in (391895, 522418):
        (pictures / f"{number}.png").touch()
    pairs.write_text("\n".join(lines) + "\n")
    texts.write_text('{"id": "1", "text": "a cat sits", "source": "hand"}\n')
    given = {"store": store.path, "out": tmp_path / "out", "texts": texts}
    done = stage(*(word.format(**given) for word in words), "--pairs", pairs)
    assert done.returncode == 2 and "0 of 2 pictures have regions" in done.stderr, done.stderr
