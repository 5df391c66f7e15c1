"""UNIMO-2's retrieval loss, scores and gradients, at 224 and 384 pixels."""

from parity.recordings import arrays, each_recording
from parity.replayed_retrieval import check_loss


@each_recording("unimo2_retrieval")
def test_recording(recording):
    check_loss("unimo2_retrieval", arrays(recording))
