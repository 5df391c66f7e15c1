from pathlib import Path

import pytest


@pytest.fixture
def recording(request) -> Path:
    """The recording of a test that `each_recording` runs."""
    if request.node.callspec.id == "none":
        pytest.fail(f"{request.param} holds no recording; UNIMO_PARITY must name a folder laid out as fixtures/parity")
    return request.param
