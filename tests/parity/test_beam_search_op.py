"""Paddle's own beam_search and top_k operators: candidates, ties, finished hypotheses."""

import pytest

from parity.recordings import each_recording


@each_recording("beam_search_op")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
