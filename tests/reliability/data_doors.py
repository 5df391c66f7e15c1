"""The doors of data preparation: region features of others, pictures, public lists, texts."""

import gzip
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep.corpora import pairs, text
from data_prep.regions.class_names import read_class_names, read_synonyms
from data_prep.regions.importers.import_store import NO_CLASSES, Choices, import_features
from data_prep.stage import WHOLE
from tests.conftest import WORDS
from tests.data_prep.corpora import test_corpora_pairs as lists
from tests.data_prep.regions import foreign_features as foreign
from tests.reliability.door import Door, Files, files_of, json_lines
from unimo.readers.annotations import read_images, read_pairs
from unimo.readers.feature_store import FeatureStore
from unimo.readers.pictures import read_picture
from unimo.readers.token_shards import TokenShards
from unimo.report.thumbnails import thumbnail

SENTENCE = "the red cat, near 2 trees; ünï 20℃ \u200b字\n"
PAIRS = [
    {
        "image_id": f"made-{i}",
        "image": f"{i}.jpg",
        "captions": [f"A tree {i}.", "Ein Baum ü"],
        "split": s,
        "source": "made",
    }
    for i, s in enumerate(("train", "dev", "test"))
]


# Region features.


def _import(form: str, source: str, **choices: str) -> Callable[[Path], object]:
    def run(folder: Path) -> object:
        given = {key: folder / name for key, name in choices.items()}
        made = Choices(feature_dim=foreign.DIM, probs=form == "uniter", **given)
        import_features(form, folder / source, folder / "out", made, WHOLE)
        store = FeatureStore(folder / "out")
        return [store.read(image_id) for image_id in store.ids]

    return run


def _lines(form: str) -> Door:
    """The first three images as plain text, gzip and UTF-16, with class names and sizes where the format takes them."""
    content = "".join(foreign.line(form, i) + "\n" for i in range(3)).encode()
    names = {} if form in NO_CLASSES else {"names.txt": b"hog,pig\nsea, ocean\nhut\nsun\n"}
    sizes = json_lines({"id": i, "width": w, "height": h} for i, (w, h) in zip(foreign.IDS, foreign.SIZES))
    plain = {"in": content, "sizes.jsonl": sizes} | names
    given = {"sizes": "sizes.jsonl"} | ({"class_names": "names.txt"} if names else {})
    listed = {"a.gz": gzip.compress(content, mtime=0), "b": content.decode().encode("utf-16")}
    read, read_listed = _import(form, "in", **given), _import(form, "list_filelist", **given)

    def run(folder: Path) -> object:
        return (read_listed if (folder / "list_filelist").exists() else read)(folder)

    return Door([plain, plain | listed | {"list_filelist": b"a.gz\nb\n"}], run)


def _uniter(scratch: Path) -> Door:
    records = {f"{foreign.IDS[i]}.npz": foreign.packed(foreign.uniter_arrays(i)) for i in range(3)}
    foreign.write_lmdb(scratch / "db", records)
    content = (scratch / "db" / "data.mdb").read_bytes()
    names = b"thing 1\nthing 2\nthing 3\nthing 4\n"
    return Door([{"db/data.mdb": content, "names.txt": names}], _import("uniter", "db", class_names="names.txt"))


def _uniter_records(scratch: Path) -> Door:
    """A whole database of one damaged record."""
    arrays = foreign.uniter_arrays(0)
    inputs = [{"record": foreign.packed(arrays)}, {"record": foreign.compressed(arrays)}]
    inputs = [files | {"names.txt": b"a\nb\nc\nd\n"} for files in inputs]
    read = _import("uniter", "db", class_names="names.txt")

    def run(folder: Path) -> object:
        foreign.write_lmdb(folder / "db", {"7.npz": (folder / "record").read_bytes()})
        return read(folder)

    return Door(inputs, run, fixed=("names",))


def _npz(scratch: Path) -> Door:
    files = {}
    for i, save in enumerate((np.savez, np.savez_compressed)):
        x, (w, h), stream = foreign.IMAGES[i], foreign.SIZES[i], io.BytesIO()
        save(stream, x=x["features"], bbox=x["pixels"], num_bbox=len(x["pixels"]), image_w=w, image_h=h, info=b"?")
        files[f"in/{foreign.IDS[i]}.npz"] = stream.getvalue()
    return Door([files], _import("npz", "in"))


def _vinvl(scratch: Path) -> Door:
    inputs = []
    for objects, json_features in (("predictions.tsv", True), ("label.tsv", False)):
        (scratch / objects).mkdir()
        inputs.append(files_of(foreign.write_vinvl(scratch / objects, objects, json_features)))
    return Door(inputs, _import("vinvl", "."))


def _class_names(scratch: Path) -> Door:
    return Door(
        [{"names.txt": b"__background__\r\nhog, pig\r\nsea,ocean,water\r\nhut\r\n"}],
        lambda folder: (read_class_names(folder / "names.txt"), read_synonyms(folder / "names.txt")),
    )


# Pictures.


def _pictures(scratch: Path) -> Door:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    deep = Image.fromarray(rng.integers(0, 65536, (24, 32), np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [
        *((colour, kind, {"exif": exif}) for kind in ("JPEG", "PNG", "WEBP", "TIFF")),
        *((colour.convert(mode), "PNG", {}) for mode in ("L", "P", "1", "LA", "RGBA")),
        *((deep, kind, {}) for kind in ("PNG", "TIFF")),
        *((colour, "TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "JPEG", {"progressive": True}),
        (colour.convert("P"), "GIF", {"transparency": 3}),
        (colour, "GIF", {"save_all": True, "append_images": [colour.rotate(90)]}),
        (colour.convert("RGBA"), "WEBP", {"lossless": True}),
        (colour, "BMP", {}),
    ]
    inputs = []
    for picture, kind, options in made:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        inputs.append({"picture": stream.getvalue()})

    def run(folder: Path) -> object:
        shown = thumbnail(folder / "picture")
        return shown, read_picture(folder / "picture")

    return Door(inputs, run, memory=1 << 30)  # what 50 million pixels take, which a head may claim


# Public lists and texts.


def _list(form: str, inputs: list[Files], names: Iterable[str], **options: Any) -> Door:
    """A public list with pictures at hand; nothing is fetched."""
    pictures = {f"pictures/{name}": b"" for name in names}

    def run(folder: Path) -> object:
        sources = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "held_out.jsonl"]
        held_out = {"exclude": folder / "held_out.jsonl"} if (folder / "held_out.jsonl").exists() else {}
        said = pairs.build(form, sources, folder / "out", folder / "pictures", **options, **held_out)
        read_images(folder / "out/images.jsonl") if form == "openimages" else read_pairs(folder / "out/pairs.jsonl")
        return said

    return Door([files | pictures for files in inputs], run, fixed=("pictures",))


def _coco(scratch: Path) -> Door:
    with_splits = scratch / "with_splits"
    with_splits.mkdir()
    lists.karpathy(with_splits)
    alone = files_of(with_splits)
    lists.coco(with_splits)
    held_out = {"held_out.jsonl": json_lines(pair | {"image_id": f"coco-{i}"} for i, pair in enumerate(PAIRS, 1))}
    inputs = [alone, files_of(with_splits), files_of(with_splits) | held_out]
    return _list("coco", inputs, [f"COCO_{i}.jpg" for i in range(1, 7)])


def _flickr(scratch: Path) -> Door:
    images = [
        {"filename": f"{i}.jpg", "split": s, "sentences": [{"raw": "One ."}, {"raw": "Two ."}], "imgid": i}
        for i, s in ((1000092795, "train"), (10002456, "val"), (1000268201, "test"))
    ]
    files = {"dataset_flickr30k.json": json.dumps({"images": images, "dataset": "flickr30k"}).encode()}
    return _list("flickr30k", [files], [image["filename"] for image in images])


def _genome(scratch: Path) -> Door:
    lists.genome(scratch)
    return _list("visual-genome", [files_of(scratch)], [f"{i}.jpg" for i in range(1, 5)])


def _conceptual(scratch: Path) -> Door:
    content = (
        "a man \thttp://a/1.jpg\nHTTPS://b/2.jpg\ta <PERSON>\nno address\n\nein Bär\thttp://c/3.jpg?x=1\n".encode()
    )
    inputs = [{"cc.tsv": content}, {"cc.tsv.gz": gzip.compress(content, mtime=0)}]
    return _list("conceptual-captions", inputs, [f"conceptual-captions-{i:08d}.jpg" for i in range(1, 6)])


def _sbu(scratch: Path) -> Door:
    addresses = ["http://static.flickr.com/3/12345_a.jpg", "http://f/b.jpg"]
    captions = ["My dog in the sun", "A tree ü"]
    inputs = [
        {"sbu.json": json.dumps({"image_urls": addresses, "captions": captions}).encode()},
        {"sbu.json": json.dumps([{"url": a, "caption": c} for a, c in zip(addresses, captions)]).encode()},
        {"sbu.json": json.dumps([{"image": a, "caption": c} for a, c in zip(addresses, captions)]).encode()},
        {"urls.txt": "\r\n".join(addresses).encode(), "captions.txt": "\n".join(captions).encode()},
    ]
    return _list("sbu", inputs, ["12345_a.jpg", "b.jpg"])


def _openimages(scratch: Path) -> Door:
    content = (
        "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,"
        "OriginalMD5,Thumbnail300KURL,Rotation\n"
        'a1,train,https://f/77_x_o.jpg,http://l,http://by/2.0/,http://p,"Doe, Jo","A ""title""",99,md5==,https://t/1,0.0\n'
        "b2,train,https://f/88_y_o.jpg,,,,,,,,,\nc3,validation,https://f/99_z_o.jpg,,,,,,,,,\n"
    )
    return _list("openimages", [{"list.csv": content.encode()}], ["a1.jpg", "b2.jpg"])


def _texts(scratch: Path) -> Door:
    """Lines, passages and JSON lines -> token shards; the first letter of a file's name tells which."""
    plain = (SENTENCE * 3 + "\n" + "a dog on the table\n\nb\n").encode()
    objects = json_lines({"text": SENTENCE, "n": n} for n in range(4))
    inputs = [
        {"line.txt": plain},
        {"passage.txt": plain},
        {"json.jsonl": objects},
        {"line.txt": plain.decode().encode("utf-16")},
        {"line.gz": gzip.compress(plain, mtime=0)},
        {"json.gz": gzip.compress(objects, mtime=0), "held_out.jsonl": json_lines(PAIRS)},
    ]
    vocabulary = scratch / "vocabulary"
    vocabulary.mkdir()
    (vocabulary / "vocab.txt").write_text("\n".join(WORDS))

    def run(folder: Path) -> object:
        source = next(path for path in folder.iterdir() if path.name != "held_out.jsonl")
        held_out = folder / "held_out.jsonl" if (folder / "held_out.jsonl").exists() else None
        by = "passage" if source.name.startswith("p") else "line"
        text.build([source], vocabulary, folder / "out", by, exclude=held_out)
        return [ids.tolist() for ids in TokenShards(folder / "out").texts()]

    return Door(inputs, run, memory=512 << 20)  # some 430 bytes a character of one text, packed or not, up to MAX_TEXT


LINES = {f"regions-{form}": lambda scratch, form=form: _lines(form) for form in foreign.LINE_FORMATS}
DATA_DOORS: dict[str, Callable[[Path], Door]] = {
    **LINES,
    "regions-uniter": _uniter,
    "regions-uniter-records": _uniter_records,
    "regions-vinvl": _vinvl,
    "regions-npz": _npz,
    "class-names": _class_names,
    "pictures": _pictures,
    "list-coco": _coco,
    "list-flickr30k": _flickr,
    "list-visual-genome": _genome,
    "list-conceptual-captions": _conceptual,
    "list-sbu": _sbu,
    "list-openimages": _openimages,
    "corpora-text": _texts,
}
