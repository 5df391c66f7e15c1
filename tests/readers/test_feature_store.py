import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_stores import DIM, EXTRACTOR, NAMES, RECORDS, contents, record, write, writer

from unimo.errors import ConfigError, DataError
from unimo.readers.feature_store import FeatureStore, RegionRecord
from unimo.storage.mapped_shards import write_index


@settings(deadline=None, max_examples=30)
@given(
    ids=st.lists(st.text(st.characters(), min_size=1), min_size=1, max_size=8, unique=True),
    counts=st.lists(st.integers(0, 12), min_size=8, max_size=8),
    probs=st.booleans(),
)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, ids: list[str], counts: list, probs: bool):
    path = tmp_path_factory.mktemp("store")
    records = [record(i, n, seed, probs) for seed, (i, n) in enumerate(zip(ids, counts, strict=False))]
    write(path, *records)
    store = FeatureStore(path)
    store.verify()
    assert store.ids == ids and len(store) == len(ids) and ids[-1] in store and ids[0] + "x" not in store
    assert store.counts(ids).tolist() == counts[: len(ids)]
    for r in reversed(records):
        read = store.read(r.image_id)
        assert (read.image_id, read.width, read.height) == (r.image_id, 640, 480)
        for name, dtype in {"features": "f2", "boxes": "f4", "classes": "i8", "scores": "f4"}.items():
            array = getattr(read, name)
            assert array.dtype == dtype
            np.testing.assert_array_equal(array, getattr(r, name).astype(dtype))
        assert (read.class_probs is None) != probs
        if probs:
            np.testing.assert_array_equal(read.class_probs, r.class_probs.astype("f2"))
    assert {p.name.split("_")[0] for p in path.iterdir()} <= {"index.json", "images.jsonl", "shard"}


def test_arrays_are_read_as_given_however_they_lie_in_memory(tmp_path: Path):
    rng = np.random.default_rng(0)
    records = []
    for plain in (record("a", 3, 0, True), record("b", 5, 1, True)):
        columns = {name: np.asfortranarray(getattr(plain, name)) for name in ("class_probs", "boxes")}
        records.append(replace(plain, features=rng.random((DIM, len(plain.boxes))).T, **columns))
    store = FeatureStore(write(tmp_path / "s", *records))
    for r in records:
        read = store.read(r.image_id)
        for name in ("features", "class_probs", "boxes"):
            given = getattr(r, name)
            assert np.array_equal(getattr(read, name), given.astype(getattr(read, name).dtype)), name


def test_attributes_are_kept_where_there_are_any(tmp_path: Path):
    """Also over an interruption; a store without them has no key for them, as those of earlier versions."""
    records = [replace(r, attributes=np.arange(len(r.boxes))) for r in RECORDS]
    with pytest.raises(RuntimeError), writer(tmp_path / "s") as store:
        store.add(records[0])
        raise RuntimeError("stopped")
    with writer(tmp_path / "s") as store:
        with pytest.raises(DataError, match="attributes must be given for all images"):
            store.add(RECORDS[1])
        for r in records[1:]:
            store.add(r)
    opened = FeatureStore(tmp_path / "s")
    for r in records:
        assert opened.read(r.image_id).attributes.tolist() == list(range(len(r.boxes)))
    plain = FeatureStore(write(tmp_path / "plain", *RECORDS))
    assert "attributes" not in plain.header and plain.read(RECORDS[0].image_id).attributes is None


def test_header(store: Path):
    opened = FeatureStore(store)
    assert (opened.feature_dim, opened.num_classes, opened.class_names, opened.extractor) == (DIM, 3, NAMES, EXTRACTOR)
    assert len(opened.header["shards"]) > 2
    assert opened.fingerprint == FeatureStore(store).fingerprint
    renamed = [record(f"IMAGE {i}", len(r.features), seed=i) for i, r in enumerate(RECORDS)]
    for name, records in {"fewer": RECORDS[1:], "renamed": renamed}.items():
        assert opened.fingerprint != FeatureStore(write(store.parent / name, *records)).fingerprint


def test_features_are_views_of_the_file(store: Path):
    opened = FeatureStore(store)
    first, again = opened.read("image 2").features, opened.read("image 2").features
    assert np.shares_memory(first, again)
    assert not first.flags.writeable


def test_ids_are_not_paths(tmp_path: Path):
    store = write(tmp_path / "deep" / "store", record("../../escaped", 2), record("/etc/passwd\n", 3))
    assert FeatureStore(store).read("/etc/passwd\n").features.shape == (3, DIM)
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def test_locations():
    boxes = np.float32([[0, 0, 640, 480], [64, 48, 320, 144]])
    r = RegionRecord("x", 640, 480, np.zeros((2, 1)), boxes, np.zeros(2), np.zeros(2))
    np.testing.assert_allclose(r.locations(), [[0, 0, 1, 1, 1], [0.1, 0.1, 0.5, 0.3, 0.08]], rtol=1e-6)
    assert r.locations().dtype == np.float32


def test_a_duplicate_is_refused_and_a_finished_store_can_grow(store: Path):
    with writer(store) as more:
        assert "image 3" in more and len(more) == len(RECORDS)
        with pytest.raises(DataError, match="'image 3' is already in"):
            more.add(RECORDS[3])
        more.add(record("new", 2))
        with pytest.raises(DataError, match="'new' is already in"):
            more.add(record("new", 2))
    assert FeatureStore(store).ids == [*[r.image_id for r in RECORDS], "new"]


def test_another_extractor_needs_another_folder(store: Path):
    with pytest.raises(DataError, match="was written with another extractor; .*'version': '1'.*'version': '2'"):
        writer(store, extractor={"name": "hand", "version": "2"})
    with pytest.raises(DataError, match="another feature_dim and class_names"):
        writer(store, feature_dim=5, class_names=["a"])
    with pytest.raises(DataError, match="needs the keys name and version"):
        writer(store.parent / "new", extractor={"name": "x"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": ""}, "id must be a non-empty string"),
        ({"width": 0}, "width and height must be positive, got 0 x 480"),
        ({"boxes": np.zeros((3, 5))}, r"boxes has shape \(3, 5\), expected \(3, 4\)"),
        ({"scores": np.zeros(2)}, r"scores has shape \(2,\), expected \(3,\)"),
        ({"features": np.full((3, DIM), 1e5)}, "features holds nan, inf or a value beyond float16"),
        ({"boxes": np.full((3, 4), np.nan)}, "boxes holds nan"),
        ({"classes": np.array([0, 3, 1])}, "class index outside 0..2"),
        ({"class_probs": None}, "class_probs must be given for all images of a store or for none"),
        ({"attributes": np.ones(3)}, "attributes must be given for all images of a store or for none"),
    ],
)
def test_a_bad_record_is_refused_and_nothing_is_lost(tmp_path: Path, changes: dict, message: str):
    with writer(tmp_path / "s") as store:
        store.add(RECORDS[0])
        with pytest.raises(DataError, match=message):
            store.add(RegionRecord(**{**vars(record("b", 3)), **changes}))
        store.add(record("b", 3))
    assert FeatureStore(tmp_path / "s").ids == ["image 0", "b"]


def test_an_error_keeps_what_was_extracted(tmp_path: Path):
    path = tmp_path / "s"
    with pytest.raises(RuntimeError), writer(path, shard_bytes=1 << 20) as store:
        store.add(RECORDS[0])
        raise RuntimeError("the detector broke")
    with pytest.raises(DataError, match=r"is unfinished \(1 images so far\)"):
        FeatureStore(path)
    with writer(path) as store:
        assert "image 0" in store


WORKER = """
import sys
from small_stores import RECORDS, writer
with writer(sys.argv[1]) as store:
    for i, r in enumerate(RECORDS):
        if r.image_id not in store:
            store.add(r)
        if i == int(sys.argv[2]):
            print("here", flush=True)
            sys.stdin.read()
"""


def start(path: Path, *args: object, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", WORKER, str(path), *map(str, args)]
    return subprocess.Popen(command, cwd=Path(__file__).parent, text=True, **options)


def test_killed_twice_and_resumed(store: Path, tmp_path: Path):
    path = tmp_path / "killed"
    for stop_at in (3, 6):
        process = start(path, stop_at, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(DataError, match="is unfinished"):
            FeatureStore(path)
    # what a kill in the middle of a commit leaves
    (path / ".shard_00002.safetensors.tmp").write_bytes(b"torn")
    (path / "shard_00003.safetensors").write_bytes(b"torn")
    with open(path / "images.jsonl", "a") as file:
        file.write('{"id": "image 7", "wid')
    assert start(path, -1).wait(60) == 0
    FeatureStore(path).verify()
    straight, resumed = contents(store), contents(path)
    assert straight == {name: resumed[name] for name in straight}


def test_a_full_disk_is_one_error_and_the_rest_goes_on_later(tmp_path: Path):
    path = tmp_path / "s"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # noqa: E731
    process = start(path, -1, preexec_fn=limit, stderr=subprocess.PIPE)
    assert "DataError: cannot write" in process.communicate(timeout=60)[1]
    assert sorted(p.name for p in path.iterdir()) == ["images.jsonl", "index.json", "shard_00000.safetensors"]
    assert start(path, -1).wait(60) == 0
    FeatureStore(path).verify()
    assert len(FeatureStore(path)) == len(RECORDS)


def test_a_commit_that_failed_and_is_tried_again(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The images' checksum counts the lines once."""
    with monkeypatch.context() as patched:
        patched.setattr("unimo.readers.feature_store.write_index", fail_once(write_index))
        with pytest.raises(DataError, match="disk full"), writer(tmp_path / "again") as again:
            for r in RECORDS:
                again.add(r)
    with writer(tmp_path / "again") as again:
        for r in RECORDS:
            if r.image_id not in again:
                again.add(r)
    FeatureStore(tmp_path / "again").verify()


def fail_once(function: Callable) -> Callable:
    errors = [DataError("disk full")]

    def called(*args: object) -> None:
        if errors:
            raise errors.pop()
        function(*args)

    return called


def test_a_second_writer_is_refused(store: Path):
    first = writer(store)
    with pytest.raises(ConfigError, match=f"another process .pid {os.getpid()} on .* works in"):
        writer(store)
    first.close()
    with writer(store) as second:
        second.add(record("one more", 2))
    assert "one more" in FeatureStore(store) and not (store / ".lock").exists()


def test_unknown_image(store: Path):
    with pytest.raises(DataError, match="image 'nope' is not in feature store .* such as .'image 0'"):
        FeatureStore(store).read("nope")
