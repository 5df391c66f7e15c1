"""Recordings of the releases' readers of tables: our converter, then our batches of the same rows."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.benchmarks.glue_tsv import TASKS, convert
from unimo.config import ROOT as CLONE
from unimo.models.unimo import UnimoConfig
from unimo.readers.questions import Questions
from unimo.readers.targets import Targets
from unimo.readers.tokenizer import load_tokenizer

Golden = dict[str, np.ndarray]
DICTIONARY = CLONE / "model_files" / "dict"


def check_tables(recording: Path, golden: Golden, task: str, folder: Path) -> None:
    """Evaluation batches are ours of the rows in file order; of training each example is, whatever its batch is.

    Args:
        task: of which the recorded table is, by the number of its labels.
        folder: an empty one.
    """
    (folder / "raw").mkdir()
    shutil.copy(recording / "train.tsv", folder / "raw")
    convert(task, folder / "raw", folder / "out", splits=("train",))
    limit = json.loads((recording / "args.json").read_text())["max_seq_len"]
    tokenizer, config = load_tokenizer(DICTIONARY), UnimoConfig(type_vocab_size=2)
    questions = Questions(folder / "out" / "examples.jsonl", "train", tokenizer, config, limit)
    targets = Targets(questions.examples, "number" if task == "sts-b" else "class", TASKS[task].classes)
    by_ids = {tuple(ids): row for row, ids in enumerate(questions.sequences)}
    assert len(by_ids) == len(questions), "so that a recorded row tells which it is"
    seen: dict[str, list[int]] = {}
    for run in sorted({name.rsplit("_n", 1)[0] for name in golden if name.endswith("_n")}):
        for number in range(int(golden[f"{run}_n"])):
            batch = {name: golden[f"{run}_{number}_{name}"] for name in ("src", "sent", "pos", "labels", "qids")}
            masks = [golden[key] for name in ("mask", "tmask") if (key := f"{run}_{number}_{name}") in golden]
            lengths = masks[0][:, 0].sum(1).astype(int)  # the first token sees all of its own text
            rows = [by_ids[tuple(ids[:n].tolist())] for ids, n in zip(batch["src"].squeeze(2), lengths)]
            equal(batch, masks[0], questions.collate(rows)["text"])
            np.testing.assert_array_equal(batch["labels"][:, 0], targets.take(rows))
            if len(batch["qids"]):
                assert [f"train:{qid}" for qid in batch["qids"][:, 0]] == [questions.ids[row] for row in rows]
            seen.setdefault(run, []).extend(rows)
    if "dev" in seen:
        assert seen["dev"] == list(range(len(questions))), "all of them, in their order"
    assert set(seen["train_w1"]) == set(range(len(questions)))


def equal(batch: Golden, mask: np.ndarray, ours: dict[str, Any]) -> None:
    """Ids and positions with their pads, types where there are words, and what sees what."""
    np.testing.assert_array_equal(batch["src"].squeeze(2), ours["ids"])
    np.testing.assert_array_equal(batch["pos"].squeeze(2), ours["positions"])
    valid = ours["mask"].astype(bool)
    np.testing.assert_array_equal(batch["sent"].squeeze(2)[valid], ours["types"][valid])
    seen = ours["mask"][:, None] if mask.shape[1] == 1 else ours["mask"][:, :, None] * ours["mask"][:, None]
    np.testing.assert_array_equal(mask, seen)
