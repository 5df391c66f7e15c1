"""Batches of the release's readers for UNIMO-2, from files in its formats."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from parity.recordings import arrays, each_recording
from parity.replayed_questions import check_tables
from unimo.pretrain.unimo_streams import word_targets
from unimo.readers.captions import collate_text
from unimo.readers.pixels import FolderPictures, PixelImages

PAD = 1
Golden = dict[str, np.ndarray]


@each_recording("readers_unimo2")
def test_recording(recording, tmp_path):
    if recording.name == "mnli":
        check_tables(recording, arrays(recording / "expected.npz"), "mnli", tmp_path)
        return
    replays = {"image_reader": pictures, "flickr30k": retrieval, "pretrain_masking": masked_words}
    if recording.name not in replays:
        pytest.fail(f"nothing replays {recording}")
    replays[recording.name](recording, arrays(recording / "expected.npz"))


def floats(bytes_of_picture: np.ndarray) -> np.ndarray:
    """As the release's reader gives them: -1 to 1. [h, w, 3]"""
    return (bytes_of_picture.astype(np.float32) / 255 - np.float32(0.5)) / np.float32(0.5)


def texts_equal(golden: Golden, run: str, sequences: list[list[int]]) -> None:
    """Ids, positions and mask of one recorded batch are ours of these rows, pads too."""
    ours = collate_text(sequences, PAD)
    for theirs, name in (("src", "ids"), ("pos", "positions")):
        np.testing.assert_array_equal(golden[f"{run}_{theirs}"].squeeze(2), ours[name], err_msg=f"{run} {name}")
    np.testing.assert_array_equal(golden[f"{run}_tmask"].squeeze(1), ours["mask"], err_msg=run)


def retrieval(recording: Path, golden: Golden) -> None:
    """Test batches as recorded; of training each example with its pairings, whose order, a caption's own picture, other
    pictures, other captions, is that of `RetrievalStream`. Which others are drawn is ours."""
    args = json.loads((recording / "args.json").read_text())
    lines = [line.split(";") for line in (recording / "captions.ids").read_text().splitlines()]
    captions = {int(line[4]): [int(token) for token in line[0].split()] for line in lines}
    own = {int(line[4]): int(line[3]) for line in lines}
    files = {image: recording / "data/Flickr30k/flickr30k-images" / f"{image}.jpg" for image in set(own.values())}
    images = PixelImages(FolderPictures({str(k): path for k, path in files.items()}), args["image_size"], 16, "release")
    for image in files:
        got = images.collate([str(image)])["images"][0].transpose(1, 2, 0)
        np.testing.assert_array_equal(got, floats(golden[f"pixels_{image}_u8"]))

    every = [[image, caption] for caption in captions for image in dict.fromkeys(own.values())]
    for run in ("test_w1", "test_w2_r0"):  # the second process is given the same batches to skip through
        count, found = int(golden[f"{run}_n"]), []
        for i in range(count):
            batch = golden[f"{run}_{i}_ids"].tolist()
            assert golden[f"{run}_{i}_img_key"].tolist() == [image for image, _ in batch]
            texts_equal(golden, f"{run}_{i}", [captions[caption] for _, caption in batch])
            found += batch
        if run == "test_w1":
            assert found == every, "all captions, each with all pictures: the matrix that an evaluation fills"

    n = args["samples_num"] // 2
    by_ids = {tuple(ids): caption for caption, ids in captions.items()}
    for run in ("train_w1", "train_w2_r0", "train_w2_r1"):
        for i in range(int(golden[f"{run}_n"])):
            lengths = golden[f"{run}_{i}_tmask"].squeeze(1).sum(1).astype(int)
            rows = [row[:k].tolist() for row, k in zip(golden[f"{run}_{i}_src"].squeeze(2), lengths)]
            texts_equal(golden, f"{run}_{i}", rows)
            keys, said = golden[f"{run}_{i}_img_key"], [by_ids[tuple(row)] for row in rows]
            assert len(rows) % (2 * n + 1) == 0 and not golden[f"{run}_{i}_labels"].any()
            for start in range(0, len(rows), 2 * n + 1):
                caption, picture = said[start], keys[start]
                others, spoken = keys[start + 1 : start + 1 + n], said[start + 1 + n : start + 1 + 2 * n]
                assert picture == own[caption] and (others != picture).all()
                assert set(said[start : start + 1 + n]) == {caption}
                assert set(keys[start + 1 + n : start + 1 + 2 * n]) == {picture}
                assert all(own[other] != picture for other in spoken)


def masked_words(recording: Path, golden: Golden) -> None:
    """What becomes of a choice of words: input, and where and what to predict. The choice itself is another one by our
    own decision (`readers/masking.py`)."""
    for case in range(int(golden["n_cases"])):
        of = {name: golden[f"c{case}_{name}"] for name in ("tokens", "seg", "lens", "can_mask", "label")}
        out = {name: golden[f"c{case}_out_{name}"].squeeze(-1) for name in ("src", "pos", "mask_pos", "mask_label")}
        width = of["tokens"].shape[1]
        places = [np.sort(out["mask_pos"][out["mask_pos"] // width == row] % width) for row in range(len(of["lens"]))]
        ids = [row[:length].tolist() for row, length in zip(out["src"], of["lens"])]
        ours = collate_text(ids, PAD)
        np.testing.assert_array_equal(ours["ids"], out["src"])
        np.testing.assert_array_equal(ours["positions"], out["pos"])
        np.testing.assert_array_equal(ours["mask"], golden[f"c{case}_out_tmask"].squeeze(1))
        words = [of["tokens"][row, hidden] for row, hidden in enumerate(places)]
        targets, order = word_targets(places, words, width), np.argsort(out["mask_pos"], kind="stable")
        np.testing.assert_array_equal(targets["words"], out["mask_pos"][order])
        np.testing.assert_array_equal(targets["labels"], out["mask_label"][order])
        for row, hidden in enumerate(places):
            assert len(hidden) == 0 or of["can_mask"][row], "pairs that do not fit have none"
            assert (of["seg"][row, hidden] >= 0).all(), "nor has a special token"
            kept = np.setdiff1d(np.arange(of["lens"][row]), hidden)
            assert (out["src"][row, kept] == of["tokens"][row, kept]).all()


def pictures(recording: Path, golden: Golden) -> None:
    seen = 0
    for name, wanted in golden.items():
        if not (found := re.fullmatch(r"(pic\d|jpeg)_(\d+)_u8", name)):
            continue
        picture, side = found[1], int(found[2])
        file = recording / ("pic_jpeg.jpg" if picture == "jpeg" else f"{picture}.png")
        if picture == "jpeg":  # builds of libjpeg differ, and ours is not the recording's
            with Picture.open(file) as opened:
                decoded = np.asarray(opened.convert("RGB"))
            if (decoded != golden["jpeg_decoded_u8"]).any():
                continue
        got = PixelImages(FolderPictures({"one": file}), side, 16).collate(["one"])["images"][0]
        values = floats(wanted)
        np.testing.assert_array_equal(got.transpose(1, 2, 0), values, err_msg=name)
        row = golden.get(f"{picture}_{side}_row0")
        assert row is None or (got.transpose(1, 2, 0)[0, :8] == row).all()
        seen += 1
    assert seen >= 7, "pictures"
