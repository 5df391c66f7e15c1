"""Public lists in small files of their own formats, with local pictures: rows, splits, what is left out and why."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.corpora import lists
from data_prep.corpora.lists import Bad, Row, rows
from data_prep.corpora.pairs import build
from data_prep.demo.contents import SHIPPED
from data_prep.merge import merge
from data_prep.stage import Shard, read_manifest
from unimo.errors import DataError
from unimo.readers.annotations import read_images, read_pairs


@pytest.fixture
def pictures(tmp_path, shipped):
    """pictures(NAME...): a folder with pictures of these names, in folders below it."""

    def make(*names: str) -> Path:
        for number, name in enumerate(names):
            file = tmp_path / "pictures" / f"part{number % 2}" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SHIPPED / shipped[number]["image"], file)
        return tmp_path / "pictures"

    return make


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def coco(folder: Path) -> list[Path]:
    """Pictures 1 to 4 of train and 5 to 6 of val, with two captions each, but none for 4."""
    licences = [{"id": 3, "url": "by-nc-nd"}]
    paths = []
    for split, ids in (("train", (1, 2, 3, 4)), ("val", (5, 6))):
        images = [
            {
                "id": i,
                "file_name": f"COCO_{i}.jpg",
                "license": 3,
                "coco_url": f"http://c/{i}",
                "flickr_url": f"http://f/{i}",
            }
            for i in ids
        ]
        captions = [{"image_id": i, "caption": f"Caption {k}\n of {i}. "} for i in ids for k in (0, 1) if i != 4]
        content = {"images": images, "annotations": captions, "licenses": licences}
        paths.append(write(folder / f"captions_{split}2014.json", content))
    return paths


def karpathy(folder: Path) -> Path:
    splits = {1: "train", 2: "restval", 3: "test", 5: "val"}
    images = [
        {"cocoid": i, "filename": f"COCO_{i}.jpg", "split": split, "sentences": [{"raw": f"Karpathy {i}."}]}
        for i, split in splits.items()
    ]
    return write(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})


def test_coco_with_the_splits_of_its_files(tmp_path, pictures):
    build("coco", coco(tmp_path), tmp_path / "out", pictures(*(f"COCO_{i}.jpg" for i in range(1, 6))))
    pairs = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert [(p.image_id, p.split) for p in pairs] == [(f"coco-{i}", "train") for i in (1, 2, 3)] + [("coco-5", "dev")]
    assert pairs[0].captions == ["Caption 0 of 1.", "Caption 1 of 1."] and pairs[0].source == "coco"
    assert pairs[0].image == "../pictures/part0/COCO_1.jpg"
    rejects = {r["id"]: r["reason"] for r in lines(tmp_path / "out" / "pairs.rejects.jsonl")}
    assert rejects == {"coco-4": "no caption", "coco-6": "no picture of the name"}
    credit = {"image_id": "coco-1", "address": "http://c/1", "licence": "by-nc-nd", "landing": "http://f/1"}
    assert lines(tmp_path / "out" / "pairs.credits.jsonl")[0] == credit
    manifest = read_manifest(tmp_path / "out" / "pairs.jsonl")
    assert manifest["counts"] == {"images": 4, "captions": 8} and "CC BY 4.0" in manifest["packages"][0]["licence"]
    assert len(manifest["inputs"]) == 2 and not (tmp_path / "out" / "pairs.fetched.jsonl").exists()


@pytest.mark.parametrize("alone", [False, True])
def test_coco_with_karpathys_splits(tmp_path, pictures, alone):
    sources = [karpathy(tmp_path)] if alone else [*coco(tmp_path), karpathy(tmp_path)]
    build("coco", sources, tmp_path / "out", pictures(*(f"COCO_{i}.jpg" for i in range(1, 7))))
    pairs = {p.image_id: p for p in read_pairs(tmp_path / "out" / "pairs.jsonl")}
    assert {i: p.split for i, p in pairs.items()} == {
        "coco-1": "train",
        "coco-2": "train",
        "coco-3": "test",
        "coco-5": "dev",
    }
    assert pairs["coco-3"].captions == (["Karpathy 3."] if alone else ["Caption 0 of 3.", "Caption 1 of 3."])
    rejects = {r["id"]: r["reason"] for r in lines(tmp_path / "out" / "pairs.rejects.jsonl")}
    assert rejects == ({} if alone else {"coco-4": "not in the splits", "coco-6": "not in the splits"})


def test_flickr30k(tmp_path, pictures):
    sentences = [{"raw": "One ."}, {"raw": "Two ."}, {"raw": "One ."}]
    splits = [(1000092795, "train"), (10002456, "val"), (1000268201, "test"), (5, "odd")]
    images = [{"filename": f"{i}.jpg", "split": split, "sentences": sentences} for i, split in splits]
    source = write(tmp_path / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    build("flickr30k", [source], tmp_path / "out", pictures("1000092795.jpg", "10002456.jpg", "1000268201.jpg"))
    pairs = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert [p.image_id for p in pairs] == [f"flickr30k-{i}" for i in (1000092795, 10002456, 1000268201)]
    assert [p.split for p in pairs] == ["train", "dev", "test"] and pairs[0].captions == ["One .", "Two ."]


def genome(folder: Path) -> list[Path]:
    phrases = {1: ["a clock", "a green tree ", "a clock"], 2: ["a dog"], 3: [], 4: ["a cat"], 7: ["x"]}
    regions = [{"id": i, "regions": [{"image_id": i, "phrase": p} for p in texts]} for i, texts in phrases.items()]
    known = {1: (None, None), 2: (3, None), 3: (None, None), 4: (None, 10002456)}
    images = [
        {"image_id": i, "url": f"http://v/VG_100K/{i}.jpg", "coco_id": coco_id, "flickr_id": flickr_id}
        for i, (coco_id, flickr_id) in known.items()
    ]
    return [write(folder / "region_descriptions.json", regions), write(folder / "image_data.json", images)]


def test_visual_genome_without_what_is_held_out_elsewhere(tmp_path, pictures):
    folder = pictures("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    build("visual-genome", genome(tmp_path), tmp_path / "all", folder)
    everything = [p.image_id for p in read_pairs(tmp_path / "all" / "pairs.jsonl")]
    assert everything == [f"visual-genome-{i}" for i in (1, 2, 4)]
    held_out = [("coco-3", "test"), ("flickr30k-10002456", "dev"), ("coco-1", "train")]
    rows = [{"image_id": i, "image": "gone.jpg", "captions": ["x"], "split": s, "source": "x"} for i, s in held_out]
    exclude = write(tmp_path / "held_out.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    build("visual-genome", genome(tmp_path)[::-1], tmp_path / "out", folder, exclude=exclude)
    pairs = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert [(p.image_id, p.captions) for p in pairs] == [("visual-genome-1", ["a clock", "a green tree"])]
    rejects = [(r["id"], r["reason"]) for r in lines(tmp_path / "out" / "pairs.rejects.jsonl")]
    assert rejects == [
        ("visual-genome-2", "picture of the excluded dev or test"),
        ("visual-genome-3", "no caption"),
        ("visual-genome-4", "picture of the excluded dev or test"),
        ("visual-genome-7", "not in image_data.json"),
    ]


def test_conceptual_captions_in_both_orders(tmp_path, pictures):
    content = (
        "a man \thttp://a/1.jpg\nHTTPS://b/2.jpg\ta <PERSON>\nno address\n\nhttp://c\thttp://d\n\thttp://e\na\tb\tc\n"
    )
    source = write(tmp_path / "cc.tsv", content)
    found = list(rows("conceptual-captions", [source], "cc"))
    assert [(r.image_id, r.captions, r.address) for r in found if isinstance(r, Row)] == [
        ("cc-00000001", ("a man ",), "http://a/1.jpg"),
        ("cc-00000002", ("a <PERSON>",), "HTTPS://b/2.jpg"),
    ]
    assert [r.place for r in found if isinstance(r, Bad)] == ["cc.tsv:3", "cc.tsv:5", "cc.tsv:6", "cc.tsv:7"]
    build("conceptual-captions", [source], tmp_path / "out", pictures("cc-00000002.jpg"), name="cc", split="dev")
    (pair,) = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert (pair.image_id, pair.split, pair.source) == ("cc-00000002", "dev", "cc")


def test_sbu_in_both_layouts(tmp_path):
    addresses, captions = ["http://static.flickr.com/1/a.jpg", "http://f/b.jpg"], ["My dog\r in the sun", "A tree"]
    file = write(tmp_path / "sbu.json", {"image_urls": addresses, "captions": captions, "user_ids": ["x", "y"]})
    urls = tmp_path / "SBU_captioned_photo_dataset_urls.txt"
    urls.write_bytes("\r\n".join(addresses).encode())
    texts = tmp_path / "SBU_captioned_photo_dataset_captions.txt"
    texts.write_bytes("\n".join(captions).encode())
    found = [[(r.image_id, r.address, r.captions[0].strip()) for r in rows("sbu", sources, "sbu")]
             for sources in ([file], [urls, texts], [texts, urls])]  # fmt: skip
    assert found[0] == found[1] == found[2]
    assert found[0][1] == ("sbu-0000002", "http://f/b.jpg", "A tree")
    texts.write_text("only one\n")
    with pytest.raises(DataError, match="have not as many addresses as captions"):
        list(rows("sbu", [urls, texts], "sbu"))


def test_openimages_keeps_authors_and_leaves_out_other_subsets(tmp_path, pictures):
    head = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,"
    table = [
        'a1,train,https://f/77_x_o.jpg,http://l,http://by/2.0/,http://p,"Doe, Jo","A ""title""",99,md5==,https://t/1.jpg,0.0',
        "b2,train,https://f/88_y_o.jpg,,,,,,,,,",
        "c3,validation,https://f/99_z_o.jpg,,,,,,,,,",
        "../etc,train,https://f/1.jpg,,,,,,,,,",
        "d4,train",
    ]
    source = write(tmp_path / "list.csv", "\n".join([head + "OriginalMD5,Thumbnail300KURL,Rotation", *table]) + "\n")
    first, second = list(rows("openimages", [source], "oi", small=True))[:2]
    assert (first.address, first.md5, first.also) == ("https://t/1.jpg", None, ("flickr30k-77",))
    assert second.address == "https://f/88_y_o.jpg"
    assert next(rows("openimages", [source], "oi")).md5 == "md5=="
    build("openimages", [source], tmp_path / "out", pictures("a1.jpg", "b2.jpg"), name="oi")
    assert [i.image_id for i in read_images(tmp_path / "out" / "images.jsonl")] == ["oi-a1", "oi-b2"]
    credit = lines(tmp_path / "out" / "images.credits.jsonl")[0]
    assert credit["Author"] == "Doe, Jo" and credit["License"] == "http://by/2.0/" and credit["Rotation"] == "0.0"
    reasons = [r["reason"] for r in lines(tmp_path / "out" / "images.rejects.jsonl")]
    assert reasons == ["of the subset validation", "no id or no address", "no id or no address"]


def test_merged_parts_are_one_run(tmp_path, pictures):
    folder = pictures(*(f"COCO_{i}.jpg" for i in range(1, 6)))
    build("coco", coco(tmp_path), tmp_path / "whole", folder)
    for number in (2, 1, 3, 4):
        build("coco", coco(tmp_path), tmp_path / "out", folder, shard=Shard(number, 4))
    merge(tmp_path / "out" / "pairs.jsonl")
    for name in ("pairs.jsonl", "pairs.rejects.jsonl", "pairs.credits.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_repeated_ids_and_hostile_ones_stay_out(tmp_path, pictures):
    images = [{"id": i, "file_name": "COCO_1.jpg"} for i in (1, 1, "../../x", 2)]
    captions = [{"image_id": i, "caption": caption} for i, caption in ((1, "fine"), ("../../x", "x"), (2, 7))]
    captions.append({"image_id": 1, "caption": "half \ud83d pair"})  # which no file can hold
    source = write(tmp_path / "captions_train.json", {"images": images, "annotations": captions})
    folder = pictures("COCO_1.jpg", "x", "COCO_1.jpg")
    (folder / "part1").mkdir(exist_ok=True)
    build("coco", [source], tmp_path / "out", folder)
    (pair,) = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert pair.image_id == "coco-1" and pair.captions == ["fine", "half \ufffd pair"]
    reasons = [r["reason"] for r in lines(tmp_path / "out" / "pairs.rejects.jsonl")]
    assert reasons == ["image id twice", "id is no file name", "caption, address or file name is no text"]
    shutil.copy(folder / "part0" / "COCO_1.jpg", folder / "part1" / "COCO_1.jpg")
    with pytest.raises(DataError, match="several pictures of the name"):
        build("coco", [source], tmp_path / "out2", folder)


@pytest.mark.parametrize(
    "form, files, message",
    [
        ("coco", {"a.json": "{"}, "a.json is not JSON"),
        ("coco", {"a.json": "[]"}, "holds a list, expected an object"),
        ("coco", {"a.json": {"images": [{"id": 1}], "annotations": [{"bbox": 1}]}}, "laid out in another way"),
        ("coco", {}, "cannot read"),
        ("visual-genome", {"a.json": [{"id": 1, "regions": []}]}, "needs both"),
        ("visual-genome", {"a.json": '[{"id": 1, "regions": []}, {"id"', "b.json": [{"image_id": 1}]}, "cut short"),
        ("visual-genome", {"a.json": "{}"}, "holds no array"),
        ("sbu", {"a.json": {"captions": []}}, "laid out in another way"),
        ("openimages", {"a.csv": "a,b\n"}, "has no column ImageID and OriginalURL"),
        ("openimages", {"a.csv": ""}, "has no column"),
        ("openimages", {"a.csv": "x" * 200_000}, "its first line must name the columns"),
        ("visual-genome", {"a.json": f'[{{"id": {"9" * 5000}}}]'}, "is damaged: .*digits"),
        ("conceptual-captions", {"a.tsv": "\n"}, "nothing usable"),
    ],
)
def test_what_is_no_such_list_is_one_clear_error(tmp_path, form, files, message):
    sources = [write(tmp_path / name, content) for name, content in files.items()] or [tmp_path / "none.json"]
    with pytest.raises(DataError, match=message):
        build(form, sources, tmp_path / "out", tmp_path)


some_keys = st.sampled_from(["id", "raw", "phrase"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "train", "http://[", "é", "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(some_keys, inner, max_size=2),
    max_leaves=4,
)
record = st.fixed_dictionaries(
    {},
    optional={
        key: anything | st.sampled_from(["x", 1])
        for key in ("id", "image_id", "cocoid", "filename", "file_name", "split", "sentences", "regions", "caption")
        + ("url", "coco_url", "license", "coco_id")
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(record | anything, max_size=4), st.lists(record | anything, max_size=4))
def test_whatever_the_records_hold_there_is_a_list_or_one_clear_error(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("any")
    for name in ("x", "1.jpg"):  # pictures, so that some are of use
        shutil.copy(SHIPPED / "acorn.png", folder / name)
    sbu = {"image_urls": first, "captions": second}
    one = write(folder / "one.json", {"images": first, "annotations": second})
    cases = [
        ("coco", [one]),
        ("coco", [one, write(folder / "splits.json", {"images": second})]),
        ("flickr30k", [write(folder / "karpathy.json", {"images": first})]),
        ("sbu", [write(folder / "sbu.json", sbu)]),
        ("visual-genome", [write(folder / "a.json", [{"regions": []}, *first]), write(folder / "b.json", second)]),
    ]
    for form, sources in cases:
        out = folder / f"out{len(sources)}-{form}"
        try:
            build(form, sources, out, folder)
        except DataError:
            continue
        assert read_pairs(out / "pairs.jsonl")


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=4), max_size=8))
def test_an_array_read_piece_by_piece_is_the_array(tmp_path_factory, records):
    file = tmp_path_factory.mktemp("json") / "a.json"
    file.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8", errors="replace")
    block, lists._BLOCK = lists._BLOCK, 7
    try:
        assert list(lists.array_objects(file)) == json.loads(file.read_text(encoding="utf-8"))
    finally:
        lists._BLOCK = block


def test_the_command_line_makes_the_same(tmp_path, pictures, stage):
    folder = pictures(*(f"COCO_{i}.jpg" for i in range(1, 6)))
    build("coco", coco(tmp_path), tmp_path / "whole", folder)
    done = stage("corpora", "pairs", "coco", *coco(tmp_path), "--images", folder, "--output", tmp_path / "out")
    assert done.returncode == 0 and "4 images, 8 captions" in done.stdout
    assert (tmp_path / "out" / "pairs.jsonl").read_bytes() == (tmp_path / "whole" / "pairs.jsonl").read_bytes()
    alone = stage("corpora", "pairs", "coco", karpathy(tmp_path), "--out", tmp_path / "none")
    assert alone.returncode == 2 and "no address; name the pictures with --images" in alone.stderr


def annotated(file: Path, ids: dict, captions: list, **more: object) -> Path:
    images = [{"id": i, "file_name": name} for i, name in ids.items()]
    annotations = [{"image_id": i, "caption": caption} for i, caption in captions]
    return write(file, {"images": images, "annotations": annotations, **more})


@pytest.mark.parametrize(
    "name, split",
    [("test.json", "test"), ("captions_train_wo_eval.json", "train"), ("my-VALIDATION2017.json", "dev"),
     ("dev.json", "dev"), ("valid_v2.json", "dev")],
)  # fmt: skip
def test_whole_words_of_a_files_name_tell_its_split(tmp_path, name, split):
    source = annotated(tmp_path / name, {8: "8.jpg"}, [(8, "x")])
    assert [r.split for r in rows("coco", [source], "c")] == [split]
    assert [r.split for r in rows("coco", [source], "c", "train")] == ["train"], "--split overrides"


@pytest.mark.parametrize("name", ["trainval.json", "captions.json", "train_test.json", "evaluation.json"])
def test_a_name_without_one_split_needs_the_option(tmp_path, name):
    source = annotated(tmp_path / name, {8: "8.jpg"}, [(8, "x")])
    with pytest.raises(DataError, match="give --split"):
        list(rows("coco", [source], "c"))
    with pytest.raises(DataError, match="--split test is not used"):
        list(rows("coco", [source, karpathy(tmp_path)], "c", "test"))


def test_ids_as_text_bad_captions_and_lost_annotations(tmp_path, pictures):
    captions = [("7", "one"), (7, None), (8, "two"), (8, " \u200b ... "), (99, "lost"), (8, "two")]
    more = {"licenses": None, "info": None}
    source = annotated(tmp_path / "a_train.json", {7: "7.jpg", "8": "8.jpg"}, captions, **more)
    said = build("coco", [source], tmp_path / "out", pictures("7.jpg", "8.jpg"))
    pairs = read_pairs(tmp_path / "out" / "pairs.jsonl")
    assert [(p.image_id, p.captions) for p in pairs] == [("coco-7", ["one"]), ("coco-8", ["two"])]
    rejects = [(r["id"], r["reason"]) for r in lines(tmp_path / "out" / "pairs.rejects.jsonl")]
    assert rejects == [
        ("a_train.json annotation#5", "annotation of a picture that the file has not"),
        ("coco-7#1", "caption is no text"),
        ("coco-8#1", "no letter, digit or symbol"),
    ]
    assert said.endswith("train 2, no picture in dev, no picture in test")


@pytest.mark.parametrize("licences", [None, 3, [{"id": 1}], [None, {"url": 5}], {"id": 1}])
def test_nothing_optional_refuses_a_list(tmp_path, licences):
    image = {"id": 5, "file_name": "5.jpg", "license": [1], "flickr_url": 3, "coco_url": 7}
    content = {"images": [image], "annotations": [{"image_id": 5, "caption": "x"}], "licenses": licences}
    (row,) = rows("coco", [write(tmp_path / "train.json", content)], "c")
    assert isinstance(row, Row) and row.credit == {"licence": None, "landing": None} and row.address is None


def test_pictures_of_the_splits_without_an_annotation_are_listed(tmp_path, pictures):
    sources = [coco(tmp_path)[0], karpathy(tmp_path)]
    said = build("coco", sources, tmp_path / "out", pictures("COCO_1.jpg", "COCO_2.jpg", "COCO_3.jpg"))
    rejects = {r["id"]: r["reason"] for r in lines(tmp_path / "out" / "pairs.rejects.jsonl")}
    assert rejects == {"coco-4": "not in the splits", "coco-5": "in the splits, but in no annotation file"}
    assert said.endswith("train 2, test 1, no picture in dev")


@pytest.mark.parametrize(
    "image_id, source",
    [("coco2014-3", "c"), ("COCO_val2014_000000000003", "c"), ("3", "coco"), ("mine-3", "my_coco"), ("coco-3", "c")],
)
def test_what_is_excluded_is_a_picture_whatever_its_name(tmp_path, pictures, image_id, source):
    row = {"image_id": image_id, "image": "x.jpg", "captions": ["x"], "split": "test", "source": source}
    exclude = write(tmp_path / "held_out.jsonl", json.dumps(row) + "\n")
    folder = pictures("1.jpg", "2.jpg", "4.jpg", "COCO_1.jpg", "COCO_3.jpg")
    said = build("visual-genome", genome(tmp_path), tmp_path / "out", folder, exclude=exclude)
    assert [p.image_id for p in read_pairs(tmp_path / "out" / "pairs.jsonl")] == ["visual-genome-1", "visual-genome-4"]
    assert "1 of them excluded" in said
    build("coco", coco(tmp_path)[:1], tmp_path / "out2", folder, name="other", exclude=exclude)
    assert [p.image_id for p in read_pairs(tmp_path / "out2" / "pairs.jsonl")] == ["other-1"]


def test_an_exclusion_that_can_exclude_nothing_is_an_error(tmp_path):
    row = {"image_id": "dog-three", "image": "x.jpg", "captions": ["x"], "split": "test", "source": "own"}
    exclude = write(tmp_path / "held_out.jsonl", json.dumps(row) + "\n")
    with pytest.raises(DataError, match="not one of its 1 ids"):
        build("visual-genome", genome(tmp_path), tmp_path / "out", tmp_path, exclude=exclude)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_lines_tell_which_file_of_sbu_has_the_addresses(tmp_path, encoding):
    urls, texts = tmp_path / "a.txt", tmp_path / "b.txt"
    urls.write_text("http://h/1.jpg\nhttps://h/2.jpg\n", encoding=encoding)
    texts.write_text("http is a protocol\nA hill\n", encoding=encoding)
    for sources in ([urls, texts], [texts, urls]):
        first = next(rows("sbu", sources, "s"))
        assert (first.address, first.captions[0].strip()) == ("http://h/1.jpg", "http is a protocol")
    for both in ([texts, texts], [urls, urls]):
        with pytest.raises(DataError, match="expected one file of addresses"):
            list(rows("sbu", both, "s"))


def test_a_list_nested_too_deeply_is_one_error(tmp_path):
    deep = write(tmp_path / "deep.json", "[" + "[" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        list(rows("visual-genome", [deep], "v"))


def test_a_path_decides_between_equal_names(tmp_path, pictures):
    folder = pictures("9.jpg", "9.jpg", "8.jpg")
    ids = {1: "part0\\9.jpg", 2: "data/part1/9.jpg", 3: "elsewhere/8.jpg"}
    source = annotated(tmp_path / "train.json", ids, [(i, "x") for i in ids])
    build("coco", [source], tmp_path / "out", folder)
    found = [Path(p.image).relative_to("../pictures").as_posix() for p in read_pairs(tmp_path / "out" / "pairs.jsonl")]
    assert found == ["part0/9.jpg", "part1/9.jpg", "part0/8.jpg"]


def test_pictures_of_sbu_are_found_by_the_name_in_the_address(tmp_path, pictures):
    folder, address = pictures("77_ab.jpg", "88_cd.jpg"), "http://static.flickr.com/1/77_ab.jpg"
    one = write(tmp_path / "a.json", {"image_urls": [address], "captions": ["A mill"]})
    two = write(tmp_path / "b.json", [{"image": "88_cd.jpg", "caption": "A mill"}, {"url": address, "caption": "x"}])
    for source, names in ((one, ["77_ab.jpg"]), (two, ["88_cd.jpg", "77_ab.jpg"])):
        build("sbu", [source], tmp_path / source.stem, folder)
        found = read_pairs(tmp_path / source.stem / "pairs.jsonl")
        assert [Path(p.image).name for p in found] == names
