import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.demo.contents import SHIPPED
from data_prep.demo.splits import assign, groups
from data_prep.near_duplicates import look, normalise
from unimo.readers.pictures import read_picture


def test_near_identical_pictures_share_a_group_and_others_do_not():
    names = ["red-apple", "blue-car", "black-crow", "red-fedora", "dark-blue-hat", "slice-of-orange", "dartboard"]
    pictures = [read_picture(SHIPPED / f"{name}.png") for name in names]
    copy = Image.fromarray(pictures[0]).resize((90, 85), Image.Resampling.BILINEAR)
    looks = np.stack([look(p) for p in [*pictures, np.asarray(copy)]])
    found = groups([[name] for name in names] + [["another caption"]], looks)
    assert found[0] == found[-1]
    assert len(set(found)) == len(names)


CAPTIONS = st.lists(
    st.sampled_from(["a cat", "The cat.", "a dog", "two dogs", "a bird", "a red bus", "one bus"]), max_size=2
)


@settings(deadline=None)
@given(st.lists(CAPTIONS, min_size=1, max_size=60), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2]))
def test_no_group_crosses_splits(captions, seed, unpaired):
    rng = np.random.default_rng(seed)
    # 12 looks that differ by more than any threshold, so that pictures repeat too
    looks = rng.integers(0, 2, (12, 832)) * np.r_[np.ones(64), np.full(768, 255.0)]
    chosen = looks[rng.integers(0, 12, len(captions))].astype(np.float32)
    group = groups(captions, chosen)
    ids = [f"image-{i}" for i in range(len(captions))]
    uses = assign(ids, [bool(c) for c in captions], group, unpaired)
    assert uses == assign(ids, [bool(c) for c in captions], group, unpaired)
    for number in set(group):
        kinds = {use for use, g in zip(uses, group) if g == number}
        assert kinds <= {"train", "unpaired"} or kinds <= {"test", "duplicate"} or kinds <= {"dev", "duplicate"}
    for split in ("dev", "test"):
        kept = [normalise(c) for cs, use in zip(captions, uses) if use == split for c in set(map(normalise, cs))]
        assert len(set(kept)) == len(kept)
    assert all(captions[i] for i, use in enumerate(uses) if use in ("train", "dev", "test"))


def test_sizes_of_the_splits():
    ids, looks = [f"i{n}" for n in range(700)], np.zeros((700, 832), np.float32)
    looks[:, :64] = np.random.default_rng(0).integers(0, 2, (700, 64))
    looks[:, 64:] = np.arange(700)[:, None] * 20
    group = groups([[name] for name in ids], looks)
    uses = assign(ids, [True] * 700, group, unpaired=0.2)
    assert [uses.count(u) for u in ("test", "dev", "unpaired", "train")] == [100, 50, 110, 440]
    fewer = assign(ids[:50], [True] * 50, group[:50])
    assert [fewer.count(u) for u in ("test", "dev", "train")] == [10, 5, 35]
