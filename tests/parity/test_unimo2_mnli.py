"""UNIMO-2's MNLI loss, logits and gradients."""

from parity.recordings import each_recording
from parity.replayed_classes import check_mnli


@each_recording("unimo2_mnli")
def test_recording(recording):
    check_mnli(recording, "unimo2_mnli")
