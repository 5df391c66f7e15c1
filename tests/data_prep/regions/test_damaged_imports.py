"""Foreign files that are damaged or hostile: what is whole comes over, the rest is listed or one clear error."""

import gzip
import io
import os
import zipfile

import msgpack
import numpy as np
import pytest
from foreign_features import (
    COUNT,
    DIM,
    IDS,
    IMAGES,
    SIZES,
    Bomb,
    b64,
    compressed,
    line,
    packed,
    rejects,
    run,
    uniter_arrays,
    write_lmdb,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.regions.importers.arrays import msgpack_arrays, npz_arrays
from unimo.errors import DataError


def test_broken_lines_are_left_out_and_listed(tmp_path):
    bad = {
        "columns": line("butd", 1).rsplit("\t", 1)[0],
        "base64": line("butd", 1, id="truncated", features=b64(IMAGES[1]["features"])[:-7]),
        "bytes": line("butd", 1, id="short", features=b64(IMAGES[1]["features"].ravel()[:-1])),
        "count": line("butd", 1, id="count", n=5),
        "negative": line("butd", 1, id="negative", n=-1),
        "dimension": line("butd", 1, id="dimension", features=b64(IMAGES[1]["features"][:, :4])),
        "nan": line("butd", 1, id="nan", features=b64(IMAGES[1]["features"] * np.float32("nan"))),
        "size": line("butd", 1, id="size", w="many"),
        "again": line("butd", 0, n=1),
    }
    (tmp_path / "in.tsv").write_text("\n".join([line("butd", 0), *bad.values(), line("butd", 2)]))
    store = run("butd", tmp_path / "in.tsv", tmp_path / "out")
    assert store.ids == [IDS[0], IDS[2]]
    listed = rejects(tmp_path / "out")
    assert len(listed) == len(bad)
    first = len(line("butd", 0)) + 1
    assert "5 columns, expected 6" in listed[f"in.tsv@{first}"]
    assert "base64" in listed["truncated"] and "whole" in listed["short"] and "whole" in listed["count"]
    assert "number of boxes" in listed["negative"] and f"expected [boxes, {DIM}]" in listed["dimension"]
    assert "nan" in listed["nan"] and "width" in listed["size"] and "twice" in listed[IDS[0]]


def test_a_cut_gz_gives_what_is_whole(names, tmp_path):
    packed = gzip.compress("".join(line("butd", i) + "\n" for i in range(COUNT)).encode())
    (tmp_path / "in.tsv.gz").write_bytes(packed[: len(packed) * 2 // 3])
    store = run("butd", tmp_path / "in.tsv.gz", tmp_path / "out")
    assert store.ids == IDS[: len(store)] and 1 <= len(store) < COUNT and len(rejects(tmp_path / "out")) == 1


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_that_is_too_long_costs_only_itself(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.regions.importers.lines.MAX_LINE", 3000)
    content = "\n".join([line("butd", 0), "x" * 7000, line("butd", 1)]).encode()
    (tmp_path / f"in.tsv{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    store = run("butd", tmp_path / f"in.tsv{suffix}", tmp_path / "out")
    (reason,) = rejects(tmp_path / "out").values()
    assert store.ids == IDS[:2] and "longer than 3,000 bytes" in reason


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_file_that_is_no_lmdb_is_one_clear_error(content, tmp_path):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match="not an LMDB"):
        run("uniter", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_cut_lmdb_is_refused_before_it_is_mapped(kept, tmp_path):
    source = write_lmdb(tmp_path / "db", {f"{IDS[i]}.npz": packed(uniter_arrays(i)) for i in range(COUNT)})
    content = (source / "data.mdb").read_bytes()
    (source / "data.mdb").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="cut short|not an LMDB"):
        run("uniter", source, tmp_path / "out", probs=True)


@pytest.mark.parametrize("header", [b"((((", b"-" * 5000 + b"1", b"[" * 3000, b"{'descr': 1}"])
def test_a_damaged_header_of_an_array_costs_only_its_record(header, tmp_path):
    (tmp_path / "in").mkdir()
    x, (w, h) = IMAGES[0], SIZES[0]
    np.savez(tmp_path / "in" / "good.npz", x=x["features"], bbox=x["pixels"], image_w=w, image_h=h)
    with zipfile.ZipFile(tmp_path / "in" / "bad.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    os.mkfifo(tmp_path / "in" / "fifo.npz")
    assert run("npz", tmp_path / "in", tmp_path / "out").ids == ["good"]
    assert rejects(tmp_path / "out").keys() == {"bad", "fifo"}


def huge_npz() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, DIM)})
        archive.writestr("features.npy", header.getvalue() + b"\0" * 64)
    return stream.getvalue()


def test_hostile_records_are_refused_and_listed(tmp_path, names, capfd):
    good, objects = uniter_arrays(0), {"features": np.array([Bomb()], object)}
    huge = {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [1 << 40, 1 << 40], b"data": b"1234"}
    records = {
        "good": packed(good),
        "pickle": packed(good | objects),
        "pickle npz": compressed(good | objects),
        "huge": msgpack.packb({"features": huge, "norm_bb": huge}),
        "huge npz": huge_npz(),
        "negative": msgpack.packb({"features": {**huge, b"shape": [-1, -4]}}),
        "no type": msgpack.packb({"features": {**huge, b"type": [["a", "<f4"]]}}),
        "odd type": msgpack.packb({"features": {**huge, b"type": "f4,,"}}),
        "list": msgpack.packb([1, 2]),
        "deep": b"\x91" * 100_000,
        "short": packed(good)[:50],
        "short npz": compressed(good)[:-50],
        "nothing": msgpack.packb({}),
    }
    source = write_lmdb(tmp_path / "db", records)
    store = run("uniter", source, tmp_path / "out", class_names=names, probs=True)
    assert store.ids == ["good"]
    listed = rejects(tmp_path / "out")
    assert listed.keys() == records.keys() - {"good"}
    assert "objects" in listed["pickle"] and "pickled objects" in listed["pickle npz"] and "shape" in listed["huge"]
    assert "code of a file" not in "".join(capfd.readouterr())


@settings(deadline=None, max_examples=300)
@given(
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_a_damaged_record_gives_arrays_of_numbers_or_our_error(zipped, changes, kept):
    content = bytearray((compressed if zipped else packed)(uniter_arrays(0)))
    for place, value in changes:
        content[int(place * len(content))] = value
    content = bytes(content[: max(1, int(kept * 2 * len(content)))])
    try:
        arrays = npz_arrays(io.BytesIO(content)) if zipped else msgpack_arrays(content)
    except DataError:
        return
    assert all(array.dtype.kind in "fiu" for array in arrays.values())


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "/" + "y/" * 3000])
def test_a_list_of_what_no_file_can_be_called_is_one_short_error(name, tmp_path):
    (tmp_path / "a_filelist").write_text(name)
    with pytest.raises(DataError, match="no such file: ") as caught:
        run("butd", tmp_path / "a_filelist", tmp_path / "out")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", ["[" * 100_000, '{"id": "1", "width": "", "height": 3}', "9" * 5000])
def test_damaged_sizes_are_one_error(content, tmp_path):
    (tmp_path / "in.tsv").write_text(line("butd", 0))
    (tmp_path / "sizes.jsonl").write_text(content)
    with pytest.raises(DataError, match="expected json lines of id, width and height"):
        run("butd", tmp_path / "in.tsv", tmp_path / "out", sizes=tmp_path / "sizes.jsonl")
