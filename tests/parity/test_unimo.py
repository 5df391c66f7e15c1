"""UNIMO's forward passes: text, [image, text] and captioning over [image, tags, text]."""

import shutil
from pathlib import Path

from parity.recordings import ROOT, arrays, each_recording, each_replayed, exchange_files, exchanges
from unimo.port.parity.verify_unimo import verify_unimo
from unimo.port.release import shapes_in

FOLDER = "unimo"
ADDED = ("image_emb.b_0", "image_loc.b_0")  # to the same sum: exchanging these two changes nothing


def differences(recording: Path, checkpoint: Path) -> dict[str, float]:
    _, compared = verify_unimo(checkpoint, ROOT / FOLDER / "config.json", recording)
    return {c.name: c.difference for c in compared}


@each_recording(FOLDER)
def test_recording(recording):
    found = differences(recording, ROOT / FOLDER / "checkpoint")
    assert found.keys() == {name for name in arrays(recording) if name.startswith("out_")}
    assert max(found.values()) <= 1e-5, found


@each_replayed(FOLDER)
def test_exchanged_weights_differ(recording, tmp_path):
    checkpoint = Path(shutil.copytree(ROOT / FOLDER / "checkpoint", tmp_path / "checkpoint"))
    unseen = []
    for one, other in exchanges(shapes_in(checkpoint)):
        exchange_files(checkpoint / one, checkpoint / other)
        if max(differences(recording, checkpoint).values()) <= 1e-5:
            unseen.append((one, other))
        exchange_files(checkpoint / one, checkpoint / other)
    assert unseen == [ADDED]
