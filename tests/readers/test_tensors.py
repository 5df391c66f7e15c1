import numpy as np
import paddle

from unimo.readers.tensors import as_regions, as_text


def test_streams_become_tensors_of_the_same_values():
    rng = np.random.default_rng(0)
    regions = {
        "features": rng.standard_normal((2, 5, 7)).astype(np.float16),
        "boxes": rng.random((2, 5, 5), np.float32),
    }
    text = {"ids": rng.integers(0, 9, (2, 4)), "positions": rng.integers(2, 6, (2, 4))}
    for arrays, mask in ((regions, np.ones((2, 5), np.float32)), (text, np.ones((2, 4), np.float32))):
        arrays["mask"] = mask
    for arrays, stream in ((regions, as_regions(regions)), (text, as_text(text))):
        for name, array in arrays.items():
            np.testing.assert_array_equal(getattr(stream, name).numpy(), array)
    assert as_regions(regions).features.dtype == paddle.float32
    assert as_text(text).ids.dtype == paddle.int64


def test_a_tensor_outlives_the_batch_it_came_from():
    """On a CPU large arrays are not copied: the tensor must keep their memory."""
    arrays = {"features": np.ones((4, 9, 300), np.float32), "boxes": np.ones((4, 9, 5), np.float32)}
    regions = as_regions(arrays | {"mask": np.ones((4, 9), np.float32)})
    del arrays
    for _ in range(20):
        np.zeros((4, 9, 300), np.float32).fill(7)
    assert float(regions.features.sum()) == 4 * 9 * 300
