"""Records of a feature store -> the padded region stream of a batch."""

from collections.abc import Sequence

import numpy as np

from unimo.readers.feature_store import RegionRecord


def widen(half: np.ndarray) -> np.ndarray:
    """From float16 to float32, exact; numpy's own cast, many times slower, is left for arrays that hold inf or nan.

    The bits go to their float32 places; the scale makes up for the difference of the exponents' biases, 127 - 15.
    """
    bits = half.view(np.uint16)
    if (bits & 0x7FFF).max(initial=0) >= 0x7C00:  # the exponent of inf and nan
        return half.astype(np.float32)
    wide = bits.astype(np.uint32)
    return ((wide & 0x8000) << 16 | (wide & 0x7FFF) << 13).view(np.float32) * np.float32(2.0**112)


def collate_regions(records: Sequence[RegionRecord], max_regions: int | None = None) -> dict[str, np.ndarray]:
    """Padded model input of a batch: features float16 [B, N, D], boxes float32 [B, N, 5], mask float32 [B, N].

    Slot 0 is the image as a whole: mean over all its regions, box (0, 0, 1, 1, 1). An image without regions is masked
    out entirely, slot 0 included, as in the release. Features stay float16: the model casts a batch at once.

    Args:
        max_regions: keep the first so many regions, slot 0 not counted; the mean is taken before the cut.
    """
    kept = [len(r.features) if max_regions is None else min(len(r.features), max_regions) for r in records]
    slots = 1 + max(kept)
    features = np.zeros((len(records), slots, records[0].features.shape[1]), np.float16)
    boxes = np.zeros((len(records), slots, 5), np.float32)
    mask = np.zeros((len(records), slots), np.float32)
    boxes[:, 0] = (0, 0, 1, 1, 1)
    for i, (record, n) in enumerate(zip(records, kept, strict=True)):
        if n:
            features[i, 0] = widen(record.features).mean(axis=0)
            features[i, 1 : n + 1] = record.features[:n]
            boxes[i, 1 : n + 1] = record.locations()[:n]
            mask[i, : n + 1] = 1
    return {"features": features, "boxes": boxes, "mask": mask}
