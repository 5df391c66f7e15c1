"""Batches of the release's readers for UNIMO, from files in its formats."""

import pytest

from parity.recordings import each_recording


@each_recording("readers_unimo")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
