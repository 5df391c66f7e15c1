"""UNIMO's captioning losses with adversarial training (VILLA, FreeLB)."""

import pytest

from parity.recordings import each_recording


@each_recording("unimo_caption_train")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
