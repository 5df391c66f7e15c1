"""UNIMO-2's forward passes: pair, text, image and caption, each with a checkpoint of its own."""

from pathlib import Path

from parity.recordings import ROOT, TOLERANCE, arrays, each_recording, each_replayed, unseen_exchanges
from unimo.port.parity.verify_unimo2 import verify_unimo2

FOLDER = "unimo2_forward"


def differences(recording: Path, checkpoint: Path) -> dict[str, float]:
    _, compared = verify_unimo2(checkpoint, ROOT / FOLDER / "config.json", recording)
    return {c.name: c.difference for c in compared}


def checkpoint_of(recording: Path) -> Path:
    return recording.with_name(recording.stem.replace("io", "checkpoint"))


@each_recording(FOLDER)
def test_recording(recording):
    found = differences(recording, checkpoint_of(recording))
    assert found.keys() == {name for name in arrays(recording) if name.startswith("out_")}
    assert max(found.values()) <= TOLERANCE, found


@each_replayed(FOLDER)
def test_exchanged_weights_differ(recording, tmp_path):
    unseen = unseen_exchanges(
        checkpoint_of(recording), tmp_path / "copy", lambda folder: max(differences(recording, folder).values())
    )
    assert not unseen
