"""What replays the recordings of each system that was released."""

from unimo.port.parity.verify_unimo import verify_unimo
from unimo.port.parity.verify_unimo2 import verify_unimo2

VERIFIERS = {"unimo": verify_unimo, "unimo-2": verify_unimo2}
