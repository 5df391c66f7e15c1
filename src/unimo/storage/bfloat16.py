"""bfloat16, which numpy lacks: the upper half of a float32."""

import numpy as np


def widen_bfloat16(values: np.ndarray) -> np.ndarray:
    """The values as float32. uint16 of any shape, or another type of two bytes, -> float32."""
    return np.asarray(values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
