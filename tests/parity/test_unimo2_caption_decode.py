"""UNIMO-2's caption beam search, with every step."""

import pytest

from parity.recordings import each_recording


@each_recording("unimo2_caption_decode")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
