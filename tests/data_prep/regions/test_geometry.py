import numpy as np
import paddle
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.regions.geometry import NMS_OVERLAP, choose, decode, pool

SEEDS = st.integers(0, 2**32 - 1)


def random_boxes(rng, n):
    corners = np.sort(rng.random((n, 2, 2), np.float32), axis=1)
    return corners.reshape(n, 4)


def test_decoding_by_hand():
    prior, variances = np.array([[0.2, 0.2, 0.6, 0.4]]), np.array([[0.1, 0.1, 0.2, 0.2]])
    assert np.allclose(decode(np.zeros((1, 4)), prior, variances), prior)
    # centre (0.4, 0.3) moves by 0.1 * 0.4 and 0.1 * 0.2; the sides grow by e and 1
    expected = [0.44 - 0.2 * np.e, 0.32 - 0.1, 0.44 + 0.2 * np.e, 0.32 + 0.1]
    assert np.allclose(decode(np.array([[1.0, 1.0, 5.0, 0.0]]), prior, variances)[0], np.clip(expected, 0, 1))


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 9), st.integers(5, 14), st.integers(5, 14))
def test_pooling_is_roi_align(seed, n, height, width):
    rng = np.random.default_rng(seed)
    feature_map, boxes = rng.normal(size=(3, height, width)).astype(np.float32), random_boxes(rng, n)
    ours = pool(feature_map, boxes)
    aligned = paddle.vision.ops.roi_align(
        paddle.to_tensor(feature_map[None]),
        paddle.to_tensor(boxes * np.float32([width, height, width, height])),
        paddle.to_tensor(np.array([n], np.int32)),
        output_size=7,
        sampling_ratio=2,
        aligned=True,
    )
    assert np.allclose(ours, aligned.mean([2, 3]).numpy(), atol=1e-5)


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(0, high - low))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 120), st.integers(1, 12), st.integers(0, 10), st.floats(0, 1))
def test_choice_of_boxes(seed, n, least, more, threshold):
    rng = np.random.default_rng(seed)
    boxes, scores, most = random_boxes(rng, n), rng.random((n, 3), np.float32), least + more
    kept = choose(boxes, scores, least, most, threshold)
    best, label = scores.max(1), scores.argmax(1)
    assert len(set(kept)) == len(kept) <= most
    assert (np.diff(best[kept]) <= 0).all()
    for i, a in enumerate(kept):
        for b in kept[:i]:
            assert label[a] != label[b] or overlap(boxes[a], boxes[b]) <= NMS_OVERLAP + 1e-5
    everything = choose(boxes, scores, n, n, 0.0)
    above = (best[everything] > threshold).sum()
    assert kept.tolist() == everything[: np.clip(above, least, most)].tolist()


def test_nothing_above_the_threshold_still_gives_the_least():
    boxes = np.array([[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1], [0, 0.6, 0.3, 1], [0.2, 0.2, 0.2, 0.9]])
    scores = np.array([[0.01, 0.02], [0.05, 0.01], [0.0, 0.03], [0.9, 0.9]])  # the last has no width
    assert choose(boxes, scores, 2, 5, 0.2).tolist() == [1, 2]
