"""What a model has seen: handed on from folder to folder, and empty where nobody knows."""

from pathlib import Path

import paddle
import pytest

from unimo.engine.model_folder import SEEN, write_model
from unimo.engine.seen import Seen, seen_at_start, seen_by
from unimo.errors import CheckpointError
from unimo.models.unimo import Unimo, UnimoConfig

SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}


def folder(path: Path, seen: Seen | None) -> Path:
    paddle.seed(1)
    write_model(path, Unimo(UnimoConfig(**SMALL, image_embedding_size=8), ["pool"]), None, seen)
    return path


def test_an_untrained_model_a_trained_one_and_one_that_nobody_described(tmp_path: Path):
    start = folder(tmp_path / "start", Seen(before=["started from minilm"], training=None))
    assert seen_by(start) == ["started from minilm", "not trained"]
    tuned = folder(tmp_path / "tuned", Seen(before=seen_at_start([start]), training="fine-tuned on 5 captions"))
    assert seen_by(tuned) == ["started from minilm", "fine-tuned on 5 captions"]
    (tuned / "trainer_state.json").write_text('{"step": 40}')
    assert seen_at_start([tuned]) == ["started from minilm", "fine-tuned on 5 captions, 40 updates"]
    ported = folder(tmp_path / "ported", None)
    assert seen_by(ported) == [] and seen_at_start([ported]) == [f"started from {ported}"]


def test_other_starts(tmp_path: Path):
    assert seen_at_start([]) == ["started at random"]
    assert seen_at_start(["unimo-base-en"]) == ["started from unimo-base-en"]
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert seen_at_start([tmp_path / "model.safetensors"]) == [f"started from {tmp_path}/model.safetensors"]
    assert seen_at_start([tmp_path]) == [f"started from {tmp_path}"], "a folder of another library"


@pytest.mark.parametrize(
    "content", ['{"before": 3, "training": null}', '{"before": [1]}', '{"before": [], "training": 2}']
)
def test_a_damaged_record_is_one_error(tmp_path: Path, content: str):
    (tmp_path / SEEN).write_text(content)
    with pytest.raises(CheckpointError, match="seen.json holds .*expected sentences; delete the file"):
        seen_by(tmp_path)
