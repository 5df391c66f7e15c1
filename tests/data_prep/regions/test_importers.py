"""Each foreign format is written here as its authors write it, imported and compared."""

import gzip
import json

import numpy as np
import pytest
from foreign_features import (
    COUNT,
    DIM,
    IDS,
    IMAGES,
    LINE_FORMATS,
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
    write_vinvl,
)

from data_prep.merge import merge
from data_prep.regions.class_names import all_names, read_class_names
from data_prep.regions.importers.dump import Layout
from data_prep.regions.importers.import_store import NO_CLASSES, Choices, fill, import_features
from data_prep.regions.importers.lines import read_lines
from data_prep.stage import WHOLE, Shard, Work
from unimo.errors import ConfigError, DataError
from unimo.readers.feature_store import FeatureStore, StoreWriter


def compare(store: FeatureStore, i: int, classes: bool, probs: bool, tolerance: float = 1e-4) -> None:
    """Everything of image i; `tolerance` is in shares of the image."""
    record, x = store.read(IDS[i]), IMAGES[i]
    assert np.allclose(record.locations()[:, :4], x["shares"], atol=tolerance)
    assert np.allclose(record.features, x["features"], atol=1e-3)
    if classes:
        assert record.classes.tolist() == x["classes"].tolist()
        assert np.allclose(record.scores, x["scores"], atol=1e-3)
    assert (record.class_probs is not None) == probs
    if probs:
        assert np.allclose(record.class_probs, x["probs"], atol=1e-3)


@pytest.mark.parametrize("form", LINE_FORMATS)
def test_line_formats_come_over_whole(form, names, tmp_path):
    (tmp_path / "in.tsv").write_text("".join(line(form, i) + "\n" for i in range(COUNT)))
    store = run(form, tmp_path / "in.tsv", tmp_path / "out", class_names=None if form in NO_CLASSES else names)
    assert store.ids == IDS
    for i in range(COUNT):
        compare(
            store,
            i,
            classes=form in ("lxmert", "unimo-flickr", "unimo-coco"),
            probs=form in ("unimo-flickr", "unimo-coco"),
        )
        record = store.read(IDS[i])
        assert (record.width, record.height) == SIZES[i]


@pytest.mark.parametrize("form", LINE_FORMATS)
def test_a_swapped_size_is_an_error_that_names_the_option(form, names, tmp_path):
    swapped = [line(form, i, w=SIZES[i][1], h=SIZES[i][0]) for i in range(COUNT)]
    (tmp_path / "in.tsv").write_text("\n".join(swapped))
    given = {} if form in NO_CLASSES else {"class_names": names}
    with pytest.raises(DataError, match="--size-order"):
        run(form, tmp_path / "in.tsv", tmp_path / "out", **given)
    order = "wh" if form in ("lxmert", "unimo-coco") else "hw"
    store = run(form, tmp_path / "in.tsv", tmp_path / "right", size_order=order, **given)
    compare(store, 3, classes=False, probs=form in ("unimo-flickr", "unimo-coco"))


@pytest.mark.parametrize("columns", [4, 5, 6, 7])
def test_normalised_boxes_with_their_extra_columns(columns, tmp_path):
    def boxes(i: int) -> str:
        s = IMAGES[i]["shares"]
        w, h = s[:, 2] - s[:, 0], s[:, 3] - s[:, 1]
        extra = {4: [], 5: [w * h], 6: [w, h], 7: [w, h, w * h]}[columns]
        return b64(np.column_stack([s, *extra]).astype(np.float32))

    (tmp_path / "in.tsv").write_text("\n".join(line("butd", i, boxes=boxes(i)) for i in range(COUNT)))
    store = run("butd", tmp_path / "in.tsv", tmp_path / "out", boxes="normalised")
    for i in range(COUNT):
        compare(store, i, classes=False, probs=False)
    with pytest.raises(DataError, match="--boxes normalised"):
        run("butd", tmp_path / "in.tsv", tmp_path / "wrong", boxes="pixels")


def test_pixels_called_normalised_are_an_error_that_names_the_option(tmp_path):
    (tmp_path / "in.tsv").write_text("\n".join(line("butd", i) for i in range(COUNT)))
    with pytest.raises(DataError, match="--boxes pixels"):
        run("butd", tmp_path / "in.tsv", tmp_path / "out", boxes="normalised")


def test_an_image_of_many_captions_comes_over_once(names, tmp_path):
    text = [line("unimo-coco", i) for i in (0, 1, 0, 1, 0)]
    (tmp_path / "train_filelist").write_text("a.gz\nb\n")
    (tmp_path / "a.gz").write_bytes(gzip.compress("\n".join(text[:3]).encode()))
    (tmp_path / "b").write_text("\n".join(text[3:]))
    store = run("unimo-coco", tmp_path / "train_filelist", tmp_path / "out", class_names=names)
    assert store.ids == IDS[:2] and not rejects(tmp_path / "out")


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_shards_together_are_the_whole(count, tmp_path):
    text = "".join(line("butd", i) + "\r\n" for i in range(COUNT))
    (tmp_path / "in.tsv").write_bytes(text.encode())
    run("butd", tmp_path / "in.tsv", tmp_path / "whole")
    for k in range(count):
        run("butd", tmp_path / "in.tsv", tmp_path / "out", Shard(k + 1, count))
    if count > 1:
        merge(tmp_path / "out")
    assert FeatureStore(tmp_path / "out").ids == IDS
    whole, out = ((tmp_path / name / "shard_00000.safetensors").read_bytes() for name in ("whole", "out"))
    assert whole == out


def test_a_second_run_adds_only_what_is_new(tmp_path):
    (tmp_path / "in.tsv").write_text("\n".join(line("butd", i) for i in range(4)))
    run("butd", tmp_path / "in.tsv", tmp_path / "out")
    (tmp_path / "in.tsv").write_text("\n".join(line("butd", i) for i in range(COUNT)))
    said = import_features("butd", tmp_path / "in.tsv", tmp_path / "out", Choices(feature_dim=DIM), WHOLE)
    assert "3 images now" in said and FeatureStore(tmp_path / "out").ids == IDS and not rejects(tmp_path / "out")


@pytest.mark.parametrize("dump", [packed, compressed])
@pytest.mark.parametrize("probs", [True, False])
def test_uniters_lmdb_comes_over_whole(dump, probs, names, tmp_path):
    arrays = [uniter_arrays(i) for i in range(COUNT)]
    if not probs:
        arrays = [{name: a for name, a in x.items() if name != "soft_labels"} for x in arrays]
    source = write_lmdb(tmp_path / "db", {f"{IDS[i]}.npz": dump(arrays[i]) for i in range(COUNT)})
    sizes = tmp_path / "sizes.jsonl"
    sizes.write_text(
        "".join(json.dumps({"id": IDS[i], "width": w, "height": h}) + "\n" for i, (w, h) in enumerate(SIZES))
    )
    store = run("uniter", source, tmp_path / "out", class_names=names, probs=probs, sizes=sizes)
    assert store.ids == IDS
    for i in range(COUNT):
        compare(store, i, classes=probs, probs=probs, tolerance=1e-3)
        assert (store.read(IDS[i]).width, store.read(IDS[i]).height) == SIZES[i]


def test_a_disk_that_refuses_is_no_bad_record(tmp_path):
    (tmp_path / "in.tsv").write_text("\n".join(line("butd", i) for i in range(COUNT)))
    (tmp_path / "out" / "shard_00000.safetensors").mkdir(parents=True)  # where the first shard must go
    extractor, work = {"name": "x", "version": "1"}, Work("x", tmp_path / "out", {}, [])
    layout = Layout(DIM, 1, with_probs=False, swapped=False, normalised=False, sizes={})
    with pytest.raises(DataError, match="cannot write"):
        with StoreWriter(
            tmp_path / "out", feature_dim=DIM, class_names=["background"], extractor=extractor, shard_bytes=1
        ) as store:
            fill(store, read_lines("butd", tmp_path / "in.tsv", WHOLE), layout, work, repeating=False)
    assert not work.rejects


def test_a_folder_of_npz_comes_over_without_its_pickles(names, tmp_path):
    """As MILVLG's bottom-up-attention.pytorch writes it: x, bbox, num_bbox, image_h, image_w and a pickled info."""
    (tmp_path / "in" / "train").mkdir(parents=True)
    for i, x in enumerate(IMAGES):
        w, h = SIZES[i]
        more = {"info": {"objects": Bomb()}} if i % 2 else {}
        path = tmp_path / "in" / ("train" if i == 6 else "") / f"{IDS[i]}.npz"
        np.savez_compressed(
            path, x=x["features"], bbox=x["pixels"], num_bbox=len(x["pixels"]), image_h=h, image_w=w, **more
        )
    (tmp_path / "in" / "broken.npz").write_bytes(b"PK no zip")
    store = run("npz", tmp_path / "in", tmp_path / "out", class_names=names)
    assert store.ids == [*IDS[:6], f"train/{IDS[6]}"] and list(rejects(tmp_path / "out")) == ["broken"]
    for i in range(6):
        compare(store, i, classes=False, probs=False)


@pytest.mark.parametrize("json_features", [True, False])
@pytest.mark.parametrize("objects", ["predictions.tsv", "label.tsv"])
def test_vinvls_files_come_over_whole(json_features, objects, tmp_path):
    write_vinvl(tmp_path, objects, json_features)
    with open(tmp_path / "features.tsv", "a") as features:
        features.write("unlabelled\t1\t" + b64(np.ones((1, DIM + 6), np.float32)) + "\nodd\t{]\n")
    store = run("vinvl", tmp_path, tmp_path / "out")
    assert store.ids == IDS and rejects(tmp_path / "out").keys() == {"unlabelled", "odd"}
    for i, x in enumerate(IMAGES):
        compare(store, i, classes=False, probs=False)
        record = store.read(IDS[i])
        assert [store.class_names[c] for c in record.classes] == [f"thing {c}" for c in x["classes"]]
        assert (record.width, record.height) == (SIZES[i] if objects == "predictions.tsv" else (1000, 1000))


def test_vinvls_objects_are_matched_with_regions_by_their_rect(tmp_path):
    """Image 0: the same boxes in another order; 1: other boxes, as of another detector; 2: fewer."""
    with open(tmp_path / "features.tsv", "w") as features, open(tmp_path / "predictions.tsv", "w") as labels:
        for i, x in enumerate(IMAGES[:3]):
            s, n, (w, h) = x["shares"], len(x["shares"]), SIZES[i]
            content = b64(np.column_stack([x["features"], s, s[:, 2] - s[:, 0], s[:, 3] - s[:, 1]]).astype(np.float32))
            features.write(f"{IDS[i]}\t{n}\t{content}\n")
            rects = np.round(x["pixels"], 1) * (0.8 if i == 1 else 1)
            things = [
                {"class": f"thing {c}", "conf": float(p), "rect": rect.tolist()}
                for c, p, rect in zip(x["classes"], x["scores"], rects)
            ]
            things = things[::-1] if i == 0 else things[i // 2 :]
            labels.write(f"{IDS[i]}\t{json.dumps({'image_w': w, 'image_h': h, 'objects': things})}\n")
    store = run("vinvl", tmp_path, tmp_path / "out")
    record, listed = store.read(IDS[0]), rejects(tmp_path / "out")
    assert [store.class_names[c] for c in record.classes] == [f"thing {c}" for c in IMAGES[0]["classes"]]
    assert np.allclose(record.features, IMAGES[0]["features"], atol=1e-3)
    assert listed.keys() == {IDS[1], IDS[2]} and all("not the boxes of the features" in x for x in listed.values())


@pytest.mark.parametrize("background", ["", "__background__\r\n"])
def test_the_first_name_of_a_line_is_the_class(background, tmp_path):
    (tmp_path / "voc.txt").write_bytes(f"{background}hog, pig\r\nsea,ocean,water\r\nhut\r\nsun".encode("utf-8-sig"))
    (tmp_path / "in.tsv").write_text(line("lxmert", 0))
    store = run("lxmert", tmp_path / "in.tsv", tmp_path / "out", class_names=tmp_path / "voc.txt")
    assert store.class_names == ["background", "hog", "sea", "hut", "sun"]
    assert [all_names(name, store.extractor) for name in store.class_names[1:4]] == [
        ["hog", "pig"],
        ["sea", "ocean", "water"],
        ["hut"],
    ]
    (tmp_path / "bad.txt").write_text("hog\n ,\n")
    with pytest.raises(DataError, match="class 2 has no name"):
        read_class_names(tmp_path / "bad.txt")


def test_rows_of_padding_are_left_out_and_counted(tmp_path):
    for i, rows in enumerate((2, 0, 3)):
        x, (w, h) = IMAGES[i], SIZES[i]
        kept = 0 if i == 2 else len(x["features"])
        zeros = [np.vstack([x[k][:kept], np.zeros((rows, x[k].shape[1]), np.float32)]) for k in ("features", "pixels")]
        (tmp_path / "in").mkdir(exist_ok=True)
        np.savez(tmp_path / "in" / f"{IDS[i]}.npz", x=zeros[0], bbox=zeros[1], image_w=w, image_h=h)
    said = import_features("npz", tmp_path / "in", tmp_path / "out", Choices(feature_dim=DIM), WHOLE)
    store = FeatureStore(tmp_path / "out")
    assert store.counts(IDS[:2]).tolist() == [3, 4] and "2 rows of padding left out" in said
    assert "all 3 regions are padding" in rejects(tmp_path / "out")[IDS[2]]
    compare(store, 0, classes=False, probs=False)


def test_probabilities_that_are_not_kept_give_class_and_score(names, tmp_path):
    source = write_lmdb(tmp_path / "db", {f"{IDS[i]}.npz": packed(uniter_arrays(i)) for i in range(COUNT)})
    store = run("uniter", source, tmp_path / "out", class_names=names)
    assert store.ids == IDS and not rejects(tmp_path / "out")
    for i in range(COUNT):
        compare(store, i, classes=True, probs=False, tolerance=1e-3)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_byte_order_mark_is_no_part_of_the_first_id(encoding, suffix, tmp_path):
    content = "\r\n".join(line("butd", i) for i in range(COUNT)).encode(encoding)
    (tmp_path / f"in.tsv{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    sizes = "".join(json.dumps({"id": IDS[i], "width": w, "height": h}) + "\n" for i, (w, h) in enumerate(SIZES))
    (tmp_path / "sizes.jsonl").write_bytes(sizes.encode(encoding))
    (tmp_path / "a_filelist").write_bytes(f"in.tsv{suffix}\n".encode(encoding))
    for k in (1, 2):
        run("butd", tmp_path / "a_filelist", tmp_path / "out", Shard(k, 2), sizes=tmp_path / "sizes.jsonl")
    merge(tmp_path / "out")
    assert FeatureStore(tmp_path / "out").ids == IDS


@pytest.mark.parametrize("form", [*LINE_FORMATS, "uniter", "vinvl", "npz"])
def test_no_source_or_an_empty_one_is_one_clear_error(form, tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(DataError):
            run(form, source, tmp_path / "out")


def test_choices_that_a_format_does_not_have_are_refused(names, tmp_path):
    (tmp_path / "in.tsv").write_text(line("butd", 0))
    with pytest.raises(ConfigError, match="--class-names"):
        run("butd", tmp_path / "in.tsv", tmp_path / "out", class_names=names)
    with pytest.raises(ConfigError, match="--size-order"):
        run("uniter", tmp_path / "in.tsv", tmp_path / "out", size_order="hw")
    with pytest.raises(ConfigError, match="--probs"):
        run("butd", tmp_path / "in.tsv", tmp_path / "out", probs=True)
