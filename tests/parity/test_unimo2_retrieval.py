"""UNIMO-2's retrieval loss, scores and gradients, at 224 and 384 pixels."""

import pytest

from parity.recordings import each_recording


@each_recording("unimo2_retrieval")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
