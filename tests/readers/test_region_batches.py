import numpy as np

from unimo.readers.feature_store import RegionRecord
from unimo.readers.region_batches import collate_regions, widen


def record(n: int, seed: int = 0) -> RegionRecord:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, 16)).astype(np.float16)
    return RegionRecord(str(n), 200, 100, features, rng.random((n, 4), np.float32) * 100, np.zeros(n), np.ones(n))


def test_widen_is_exact_for_every_finite_half():
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)].reshape(2, -1)
    assert widen(half).dtype == np.float32
    np.testing.assert_array_equal(widen(half).view(np.uint32), half.astype(np.float32).view(np.uint32))


def test_padded_regions():
    records = [record(3), record(0), record(9, seed=1)]
    batch = collate_regions(records)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "features": ((3, 10, 16), np.float16),
        "boxes": ((3, 10, 5), np.float32),
        "mask": ((3, 10), np.float32),
    }
    assert batch["mask"].sum(axis=1).tolist() == [4, 0, 10]  # slot 0 of an image without boxes is masked too
    for i, r in enumerate(records):
        n = len(r.features)
        assert batch["boxes"][i, 0].tolist() == [0, 0, 1, 1, 1]
        np.testing.assert_array_equal(batch["features"][i, 1 : n + 1], r.features)
        np.testing.assert_array_equal(batch["boxes"][i, 1 : n + 1], r.locations())
        assert not batch["features"][i, n + 1 :].any() and not batch["boxes"][i, n + 1 :].any()
        mean = r.features.astype(np.float64).mean(axis=0) if n else np.zeros(16)
        np.testing.assert_allclose(batch["features"][i, 0], mean, rtol=1e-3, atol=1e-7)


def test_the_mean_is_taken_before_the_cut():
    whole, cut = collate_regions([record(9)]), collate_regions([record(9)], max_regions=4)
    assert cut["mask"].tolist() == [[1] * 5]
    np.testing.assert_array_equal(cut["features"], whole["features"][:, :5])


def test_the_mean_is_summed_in_float32():
    features = np.full((3000, 2), 30.0, np.float16)  # the sum overflows float16
    r = RegionRecord("x", 9, 9, features, np.zeros((3000, 4), np.float32), np.zeros(3000), np.zeros(3000))
    assert collate_regions([r])["features"][0, 0].tolist() == [30, 30]


def test_what_is_no_number_stays_none():
    half = np.array([1, np.inf, -np.inf, np.nan, -0.0], np.float16)
    np.testing.assert_array_equal(widen(half), np.array([1, np.inf, -np.inf, np.nan, -0.0], np.float32))
    r = record(3)
    r.features[1, 5] = np.nan
    assert np.isnan(collate_regions([r])["features"][0, [0, 2], 5]).all()
