"""UNIMO-2 without its dictionary: captioning, retrieval and MNLI losses."""

import pytest

from parity.recordings import each_recording


@each_recording("unimo2_baseline")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
