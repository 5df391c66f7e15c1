"""UNIMO's forward passes: text, [image, text] and captioning over [image, tags, text]."""

from pathlib import Path

from parity.recordings import ROOT, TOLERANCE, arrays, each_recording, each_replayed, unseen_exchanges
from unimo.port.parity.verify_unimo import verify_unimo

FOLDER = "unimo"


def differences(recording: Path, checkpoint: Path) -> dict[str, float]:
    _, compared = verify_unimo(checkpoint, ROOT / FOLDER / "config.json", recording)
    return {c.name: c.difference for c in compared}


@each_recording(FOLDER)
def test_recording(recording):
    found = differences(recording, ROOT / FOLDER / "checkpoint")
    assert found.keys() == {name for name in arrays(recording) if name.startswith("out_")}
    assert max(found.values()) <= TOLERANCE, found


@each_replayed(FOLDER)
def test_exchanged_weights_differ(recording, tmp_path):
    unseen = unseen_exchanges(
        ROOT / FOLDER / "checkpoint", tmp_path / "copy", lambda folder: max(differences(recording, folder).values())
    )
    assert not unseen
