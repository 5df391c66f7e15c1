"""Batches of the release's readers for UNIMO, from files in its formats."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep.benchmarks.snli_ve_lists import CLASSES, convert
from data_prep.regions.importers.import_store import Choices, import_features
from data_prep.stage import WHOLE
from parity.recordings import arrays, each_recording
from parity.replayed_questions import DICTIONARY, Golden, check_tables
from unimo.models.unimo import UnimoConfig
from unimo.readers.captions import collate_text
from unimo.readers.feature_store import FeatureStore
from unimo.readers.images import RegionImages
from unimo.readers.questions import Questions
from unimo.readers.targets import Targets
from unimo.readers.tokenizer import load_tokenizer

TABLES = {"glue_single": "sst-2", "glue_pair": "mnli", "glue_pair_noqid": "mnli", "regression_stsb": "sts-b"}


@each_recording("readers_unimo")
def test_recording(recording, tmp_path):
    golden = arrays(recording / "expected.npz")
    if recording.name in TABLES:
        check_tables(recording, golden, TABLES[recording.name], tmp_path)
    elif recording.name == "snli_ve":
        entailment(recording, golden, tmp_path)
    elif recording.name == "flickr30k":
        retrieval(recording, golden, tmp_path)
    else:
        pytest.fail(f"nothing replays {recording}")


def half(features: np.ndarray) -> np.ndarray:
    """As a feature store keeps them."""
    return features.astype(np.float16).astype(np.float32)


def pictures_equal(golden: Golden, batch: str, ours: dict[str, np.ndarray]) -> None:
    """Every picture's regions, features as halves, boxes to the last bits; they have no order, and an import sorts them
    by score. Slot 0 is the mean of the halves here. The release pads further where it has a longer picture in mind."""
    slots = ours["mask"].shape[1]
    image, boxes = golden[f"{batch}_image"], golden[f"{batch}_loc"]
    assert not image[:, slots:].any() and not boxes[:, slots:].any()
    features = ours["features"].astype(np.float32)
    np.testing.assert_allclose(features[:, 0], image[:, 0], atol=2e-3)
    for row, n in enumerate(ours["mask"].sum(1).astype(int)):
        theirs, own = half(image[row, 1:n]), features[row, 1:n]
        orders = np.lexsort(theirs.T), np.lexsort(own.T)
        np.testing.assert_array_equal(own[orders[1]], theirs[orders[0]])
        np.testing.assert_allclose(ours["boxes"][row, 1:n][orders[1]], boxes[row, 1:n][orders[0]], atol=1e-6)
        np.testing.assert_array_equal(ours["boxes"][row, 0], boxes[row, 0])
        assert not image[row, n:].any()


def entailment(recording: Path, golden: Golden, folder: Path) -> None:
    """Each example of SNLI-VE, whatever its batch is: the release shuffles dev and test, too, and by nothing that can
    be repeated; ours are in the order of the file."""
    for name in ("part-0", "part-1.gz"):
        shutil.copy(recording / name, folder)
    shutil.copy(recording / "filelist", folder / "dev_filelist")
    width = json.loads((recording / "args.json").read_text())["feature_width"]
    limit = json.loads((recording / "args.json").read_text())["max_seq_len"]
    convert(folder, folder / "out", splits=("dev",), tokenizer=DICTIONARY)
    store = Choices(feature_dim=width, ids="flickr30k")
    import_features("unimo-snli-ve", folder / "dev_filelist", folder / "store", store, WHOLE)
    config = UnimoConfig(image_embedding_size=width, type_vocab_size=2)
    given = (folder / "out" / "examples.jsonl", "dev", load_tokenizer(DICTIONARY), config, limit)
    questions = Questions(*given, regions=(str(folder / "store"),), max_regions=100)
    lost = [json.loads(line) for line in (folder / "out" / "not_reproduced.jsonl").read_text().splitlines()]
    assert len(lost) < len(questions), "random ids are not always what their text gives"
    targets = Targets(questions.examples, "class", CLASSES)
    by_ids = {tuple(ids): row for row, ids in enumerate(questions.sequences)}
    assert len(by_ids) == len(questions)
    found: dict[str, set[int]] = {}
    compared = 0
    for run in ("dev", "train_w1", "train_w2_r0", "train_w2_r1"):
        for number in range(int(golden[f"{run}_n"])):
            batch = f"{run}_{number}"
            lengths = golden[f"{batch}_text_mask"].squeeze(2).sum(1).astype(int)
            ids = [tuple(row[:n].tolist()) for row, n in zip(golden[f"{batch}_src"].squeeze(2), lengths)]
            known = [place for place, row in enumerate(ids) if row in by_ids]
            assert len(known) + len(lost) >= len(ids)
            rows = [by_ids[ids[place]] for place in known]
            if not rows:
                continue
            inputs = questions.collate(rows)
            size = inputs["text"]["ids"].shape[1]
            for theirs, ours in (("src", "ids"), ("pos", "positions")):
                np.testing.assert_array_equal(
                    golden[f"{batch}_{theirs}"].squeeze(2)[known, :size], inputs["text"][ours]
                )
            np.testing.assert_array_equal(golden[f"{batch}_labels"][known, 0], targets.take(rows))
            firsts = [k for k, row in enumerate(rows) if questions.image_ids.index(questions.image_ids[row]) == row]
            of_store = [known[k] for k in firsts]  # a line repeats its picture, in the recording with other features
            parts = {f"{batch}_{name}": golden[f"{batch}_{name}"][of_store] for name in ("image", "loc")}
            pictures_equal(parts, batch, {name: array[firsts] for name, array in inputs["regions"].items()})
            compared += len(firsts)
            found.setdefault(run, set()).update(rows)
    assert compared >= len(set(questions.image_ids))
    assert found["dev"] == set(range(len(questions))) - {questions.ids.index(row["id"]) for row in lost}


def retrieval(recording: Path, golden: Golden, folder: Path) -> None:
    """Test batches as recorded, which are all captions with all pictures in order; of training each pairing. The
    release takes a picture's sides as (h, w) in test and as (w, h) in training: two stores, two size orders."""
    args = json.loads((recording / "args.json").read_text())
    lines = [line.split(";") for line in (recording / "captions.ids").read_text().splitlines()]
    limit = args["max_seq_len"]
    cut = lambda ids: ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]  # noqa: E731
    captions = {int(line[4]): cut([int(token) for token in line[0].split()]) for line in lines}
    own = {int(line[4]): int(line[3]) for line in lines}
    stores = {}
    for order in ("wh", "hw"):
        names = _classes(recording, folder)
        choices = Choices(feature_dim=args["feature_width"], size_order=order, class_names=names)
        import_features("unimo-flickr", recording / "features", folder / order, choices, WHOLE)
        stores[order] = RegionImages([FeatureStore(folder / order)], 100)
    pictures = [int(line.split()[0]) for line in (recording / "name_id.txt").read_text().splitlines()]
    for run, order in (("test_w1", "hw"), ("train_w1", "wh"), ("train_w2_r0", "wh"), ("train_w2_r1", "wh")):
        everything = []
        for number in range(int(golden[f"{run}_n"])):
            batch, rows = f"{run}_{number}", golden[f"{run}_{number}_src"].squeeze(2)
            regions = golden[f"{batch}_image"]
            if run == "test_w1":
                pairs = [tuple(pair) for pair in golden[f"{batch}_ids"].tolist()]
                everything += pairs
            else:
                by_ids = {tuple(ids): caption for caption, ids in captions.items()}
                said = [by_ids[tuple(int(t) for t in row[row != 1])] for row in rows]
                pairs = [(_picture(image, stores[order], pictures), caption) for image, caption in zip(regions, said)]
            text = collate_text([captions[caption] for _, caption in pairs], 1)
            size = text["ids"].shape[1]
            assert (rows[:, size:] == 1).all()
            np.testing.assert_array_equal(rows[:, :size], text["ids"])
            np.testing.assert_array_equal(golden[f"{batch}_pos"].squeeze(2)[:, :size], text["positions"])
            ours = stores[order].collate([str(picture) for picture, _ in pairs])
            pictures_equal(golden, batch, ours)
        if run == "test_w1":
            assert everything == [
                (picture, caption) for caption in captions for picture in pictures_of(own, everything)
            ]


def pictures_of(own: dict[int, int], pairs: list[tuple[int, int]]) -> list[int]:
    """The pictures in the order in which the first caption meets them, which must be all."""
    first = [picture for picture, caption in pairs if caption == pairs[0][1]]
    assert set(first) == set(own.values()) and len(first) == len(set(first))
    return first


def _picture(image: np.ndarray, store: RegionImages, pictures: list[int]) -> int:
    """Which picture the recorded features are of."""
    kept = half(image[1]).tolist()
    return next(p for p in pictures if kept in store.read(str(p)).features.astype(np.float32).tolist())


def _classes(recording: Path, folder: Path) -> Path:
    """Names for as many classes as the files have probabilities of, but for the background."""
    field = (recording / "features" / "part-0").read_text().splitlines()[0].split("\t")
    count = len(base64.b64decode(field[6])) // 4 // int(field[3])
    path = folder / "classes.txt"
    path.write_text("".join(f"class{k}\n" for k in range(count - 1)))
    return path
