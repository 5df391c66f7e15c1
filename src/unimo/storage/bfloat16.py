"""A type of numbers that numpy lacks."""

import numpy as np


def widen_bfloat16(values: np.ndarray) -> np.ndarray:
    """Values of bfloat16, the upper half of a float32, as such. uint16 or bytes by two, of any shape -> float32."""
    return np.asarray(values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
