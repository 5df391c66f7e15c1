"""UNIMO-2 without its dictionary: captioning, retrieval and MNLI losses."""

import pytest

from parity.recordings import arrays, each_recording
from parity.replayed_retrieval import check_loss


@each_recording("unimo2_baseline")
def test_recording(recording):
    if recording.stem != "io_retrieval":
        pytest.fail(f"nothing replays {recording}")
    check_loss("unimo2_baseline", arrays(recording), model_type="baseline")
