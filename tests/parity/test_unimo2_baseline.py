"""UNIMO-2 without its dictionary: captioning, retrieval and MNLI losses."""

import pytest

from parity.recordings import arrays, each_recording
from parity.replayed_classes import check_mnli
from parity.replayed_retrieval import check_loss


@each_recording("unimo2_baseline")
def test_recording(recording):
    if recording.stem == "io_mnli":
        check_mnli(recording, "unimo2_baseline", model_type="baseline")
    elif recording.stem == "io_retrieval":
        check_loss("unimo2_baseline", arrays(recording), model_type="baseline")
    else:
        pytest.fail(f"nothing replays {recording}")
