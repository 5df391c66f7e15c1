"""Four updates of UNIMO-2's optimisers, with their schedules."""

import pytest

from parity.recordings import each_recording


@each_recording("unimo2_train_steps")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
