"""Decoding ahead and writing behind: the store of a plain loop, whatever the timing, errors and signals."""

import gc
import json
import shutil
import threading
import time
import weakref
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.regions import build as stage
from data_prep.regions import threads
from data_prep.regions.extractor import Regions, record_of
from data_prep.regions.registry import EXTRACTORS
from data_prep.regions.threads import AHEAD, decoded, writing
from unimo.errors import DataError, Stopped
from unimo.readers.feature_store import FeatureStore, StoreWriter
from unimo.readers.pictures import read_picture

PICTURES, BROKEN = 24, 11


class Means:
    """Four quarters of a picture and their mean colours: a network that needs no weights and takes its time."""

    feature_dim, class_names, packages, threads = 3, ["background", "quarter"], [], None
    description = {"name": "means", "version": "1"}

    def __init__(self, pause: float = 0):
        self.pause = pause

    def __call__(self, picture: np.ndarray) -> Regions:
        time.sleep(self.pause)
        h, w = picture.shape[:2]
        corners = [(x, y, x + w / 2, y + h / 2) for y in (0, h / 2) for x in (0, w / 2)]
        cells = [picture[int(y) : int(b), int(x) : int(r)].mean((0, 1)) for x, y, r, b in corners]
        return Regions(np.float32(corners), np.ones(4, np.int64), np.ones(4, np.float32), np.float32(cells))


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Pictures of very different sizes, so that a later one is often decoded first; one in the middle is broken."""
    rng = np.random.default_rng(0)
    made = {}
    for i in range(PICTURES):
        side = 600 if i % 5 == 0 else 10 + i
        made[f"p{i}"] = tmp_path / f"p{i}.png"
        Image.fromarray(rng.integers(0, 255, (side, side + 2, 3), np.uint8)).save(made[f"p{i}"])
    made[f"p{BROKEN}"].write_bytes(b"no picture")
    lines = [json.dumps({"image_id": k, "image": v.name, "source": "made"}) for k, v in made.items()]
    (tmp_path / "images.jsonl").write_text("\n".join(lines) + "\n")
    return made


@pytest.fixture
def means(monkeypatch):
    monkeypatch.setitem(EXTRACTORS, "means", Means)


def plain(files: dict[str, Path], out: Path) -> None:
    """One step after the other."""
    with StoreWriter(out, feature_dim=3, class_names=Means.class_names, extractor=Means.description) as store:
        for image_id, file in files.items():
            try:
                picture = read_picture(file)
            except DataError:
                continue
            store.add(record_of(image_id, picture, Means()(picture)))


def content(store: Path) -> dict[str, bytes]:
    names = {p.name for p in store.iterdir()} - {"manifest.json", "rejects.jsonl"}
    return {name: (store / name).read_bytes() for name in names}


def test_the_store_is_that_of_a_plain_loop(files, means, tmp_path):
    said = stage.build(None, tmp_path / "images.jsonl", tmp_path / "out", "means", pause=0.002)
    plain(files, tmp_path / "plain")
    assert content(tmp_path / "out") == content(tmp_path / "plain")
    assert FeatureStore(tmp_path / "out").ids == [k for k in files if k != f"p{BROKEN}"]
    assert f"{PICTURES - 1} images now" in said and "1 left out" in said
    assert json.loads((tmp_path / "out" / "rejects.jsonl").read_text())["id"] == f"p{BROKEN}"


@pytest.mark.parametrize("stop", [Stopped("stopped"), RuntimeError("the network failed")], ids=["signal", "error"])
def test_a_run_that_stops_keeps_what_was_made_and_goes_on(files, means, monkeypatch, tmp_path, stop):
    class Stops(Means):
        def __call__(self, picture):
            if picture.shape[0] == 10 + PICTURES - 6:
                raise stop
            return super().__call__(picture)

    monkeypatch.setitem(EXTRACTORS, "stops", Stops)
    with pytest.raises(type(stop), match=str(stop)):
        stage.build(None, tmp_path / "images.jsonl", tmp_path / "out", "stops")
    made = json.loads((tmp_path / "out" / "index.json").read_text())
    assert made["images"] == PICTURES - 7 and not made["complete"]
    stage.build(None, tmp_path / "images.jsonl", tmp_path / "out", "means")
    plain(files, tmp_path / "plain")
    again, expected = FeatureStore(tmp_path / "out"), FeatureStore(tmp_path / "plain")
    assert again.ids == expected.ids
    for image_id in expected.ids:
        assert np.array_equal(again.read(image_id).features, expected.read(image_id).features)
    assert not [t for t in threading.enumerate() if t.name.startswith(("decode", "write"))]


def test_what_the_writer_meets_stops_the_run_at_that_record(files, means, tmp_path, monkeypatch):
    """Nothing behind the record that failed is stored: the next run would put it in front of it."""

    class Nan(Means):
        def __call__(self, picture):
            found = super().__call__(picture)
            return replace(found, features=found.features * np.nan) if len(picture) == 10 + 4 else found

    monkeypatch.setitem(EXTRACTORS, "nan", Nan)
    with pytest.raises(DataError, match="'p4'.*nan"):
        stage.build(None, tmp_path / "images.jsonl", tmp_path / "out", "nan")
    lines = (tmp_path / "out" / "images.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["p0", "p1", "p2", "p3"]


def test_a_store_that_cannot_be_written_is_one_clear_error(files, means, tmp_path, monkeypatch):
    monkeypatch.setattr(stage.StoreWriter.__init__, "__kwdefaults__", {"shard_bytes": 100})
    out = tmp_path / "out"

    class Removes(Means):
        def __call__(self, picture):
            shutil.rmtree(out, ignore_errors=True)
            return super().__call__(picture)

    monkeypatch.setitem(EXTRACTORS, "removes", Removes)
    with pytest.raises(DataError, match="cannot write .*No such file"):
        stage.build(None, tmp_path / "images.jsonl", out, "removes")


def test_few_pictures_are_in_memory_however_slow_the_network(files, monkeypatch):
    alive, most = weakref.WeakSet(), 0

    class Picture(np.ndarray):
        __hash__ = object.__hash__

    def counted(file):
        nonlocal most
        picture = read_picture(file).view(Picture)
        alive.add(picture)
        most = max(most, len(alive))
        return picture

    monkeypatch.setattr(threads, "read_picture", counted)
    with closing(decoded(files)) as pictures:
        for _, picture in pictures:
            assert picture is not None
            time.sleep(0.005)
    del picture
    gc.collect()
    assert 2 <= most <= AHEAD + 1 and not alive


def test_a_fault_of_a_decoding_thread_comes_through(files, monkeypatch):
    def fails(file):
        raise RuntimeError(f"cannot read {file.name}")

    monkeypatch.setattr(threads, "read_picture", fails)
    with pytest.raises(RuntimeError, match="p0.png"):
        list(decoded(files))


def test_records_wait_for_the_writer(files, tmp_path):
    """A slow disk slows the network down; it does not fill the memory."""
    gate, picture = threading.Event(), read_picture(files["p1"])

    class Slow(StoreWriter):
        def add(self, record):
            gate.wait()
            super().add(record)

    store = Slow(tmp_path / "out", feature_dim=3, class_names=Means.class_names, extractor=Means.description)
    added = []

    def produce():
        with writing(store) as behind:
            for i in range(3 * threads.BEHIND):
                behind.add(record_of(str(i), picture, Means()(picture)))
                added.append(i)

    thread = threading.Thread(target=produce)
    thread.start()
    time.sleep(0.3)
    held = len(added)
    gate.set()
    thread.join()
    assert held == threads.BEHIND and len(FeatureStore(tmp_path / "out")) == 3 * threads.BEHIND
