"""UNIMO's tasks on texts: losses, gradients and optimiser steps."""

import pytest

from parity.recordings import each_recording


@each_recording("unimo_text_tasks")
def test_recording(recording):
    pytest.fail(f"nothing replays {recording}")
