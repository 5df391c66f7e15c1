"""Tar shards of pictures: read by id, by any tar reader, resumed, and everything that may be wrong with them."""

import io
import json
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from unimo.errors import ConfigError, DataError
from unimo.readers import picture_shards
from unimo.readers.picture_shards import PictureShards, PictureShardWriter, Together


def png(seed: int, side: int = 20) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


CONTENTS = {f"p{seed}": png(seed) for seed in range(7)}


def write(folder: Path, names=CONTENTS, shard_bytes: int = 6000, made_from: dict | None = None) -> Path:
    with PictureShardWriter(folder, made_from or {}, shard_bytes) as shards:
        for name in names:
            if name not in shards:
                shards.add(name, "png", CONTENTS[name], (20, 20), {"captions": [f"picture {name}"]})
    return folder


def test_every_picture_is_found_by_its_id(tmp_path):
    shards = PictureShards(write(tmp_path / "a"))
    assert len(shards.header["shards"]) > 2 and len(shards) == 7 and shards.ids == list(CONTENTS)
    for name in reversed(CONTENTS):
        assert shards.read(name) == CONTENTS[name] and shards.size(name) == (20, 20)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shards.read, [*CONTENTS] * 20)) == [*CONTENTS.values()] * 20
    assert "p0" in shards and "p9" not in shards
    with pytest.raises(DataError, match=r"image 'p9' is not in picture shards .*a \(7 pictures, such as \['p0'"):
        shards.read("p9")


def test_few_shards_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_shards, "OPEN", 2)
    shards = PictureShards(write(tmp_path / "a", shard_bytes=1))
    assert len(shards.header["shards"]) == 7
    for name in [*CONTENTS, *CONTENTS]:
        assert shards.read(name) == CONTENTS[name]
    assert len(shards._files) == 2


def test_any_reader_of_webdataset_reads_them(tmp_path):
    """A picture's members stand beside each other under one key: the layout is that."""
    found = {}
    for file in sorted(write(tmp_path / "a").glob("*.tar")):
        with tarfile.open(file) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar}
        for key in sorted({name.split(".")[0] for name in members}):
            known = json.loads(members[f"{key}.json"])
            found[known["id"]] = members[f"{key}.png"]
            assert known["captions"] == [f"picture {known['id']}"]
    assert found == CONTENTS


def test_a_run_that_stopped_goes_on_to_the_same_bytes(tmp_path):
    whole = write(tmp_path / "whole")
    with pytest.raises(KeyError), PictureShardWriter(tmp_path / "part", {}, 6000) as shards:
        for name in ("p0", "p1", "p2", "p3"):
            shards.add(name, "png", CONTENTS[name], (20, 20), {"captions": [f"picture {name}"]})
        raise KeyError
    with pytest.raises(DataError, match="part are unfinished; run their command again"):
        PictureShards(tmp_path / "part")
    part = PictureShards(write(tmp_path / "part"))
    assert part.ids == list(CONTENTS) and all(part.read(name) == CONTENTS[name] for name in CONTENTS)
    again = write(tmp_path / "again")
    assert {f.name: f.read_bytes() for f in whole.iterdir()} == {f.name: f.read_bytes() for f in again.iterdir()}
    with pytest.raises(DataError, match="were made from something else"):
        write(tmp_path / "part", made_from={"longest": 64})
    with PictureShardWriter(tmp_path / "held", {}) as shards:
        with pytest.raises(ConfigError, match="held"):
            PictureShardWriter(tmp_path / "held", {})
        shards.add("p0", "png", CONTENTS["p0"], (20, 20), {})
        with pytest.raises(DataError, match="image 'p0' is already in"):
            shards.add("p0", "png", CONTENTS["p0"], (20, 20), {})


def test_what_is_wrong_is_said(tmp_path):
    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    good = write(tmp_path / "good")
    cut = copy("cut")
    content = (cut / "pictures_00001.tar").read_bytes()
    (cut / "pictures_00001.tar").write_bytes(content[:-700])
    with pytest.raises(DataError, match=r"pictures_00001.tar has .* bytes, the index says .*restore it"):
        PictureShards(cut)
    gone = copy("gone")
    (gone / "pictures_00000.tar").unlink()
    with pytest.raises(DataError, match="pictures_00000.tar cannot be read"):
        PictureShards(gone)
    # an index of another tar: as long as the right one, with other pictures at other places
    other = copy("other")
    file = other / "pictures_00001.tar"
    file.write_bytes(content[512:] + content[:512])
    shards = PictureShards(other)
    assert shards.read("p0") == CONTENTS["p0"]
    inside = next(name for name in CONTENTS if shards._table[shards._rows[name], 0] == 1)
    with pytest.raises(DataError, match=f"are not image '{inside}' as it was packed: the shard is cut or damaged"):
        shards.read(inside)
    listed = copy("listed")
    file = listed / "pictures_00000.jsonl"
    file.write_text(file.read_text().replace("p0", "p8"))
    with pytest.raises(DataError, match="pictures_00000.jsonl: content changed since it was written"):
        PictureShards(listed)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no folder of picture shards at .*empty.*`corpora pack` writes one"):
        PictureShards(empty)


def test_several_folders_are_one_set(tmp_path):
    one, two = write(tmp_path / "a", ["p0", "p1"]), write(tmp_path / "b", ["p2"])
    both = Together([PictureShards(one), PictureShards(two)])
    assert both.read("p2") == CONTENTS["p2"] and "p1" in both and "p3" not in both
    assert both.fingerprint != Together([PictureShards(one)]).fingerprint == PictureShards(one).fingerprint
    with pytest.raises(DataError, match="image 'p3' is not in picture shards .*a"):
        both.read("p3")
    with pytest.raises(DataError, match="image 'p1' is in .*a and in .*c; name it once"):
        Together([PictureShards(one), PictureShards(write(tmp_path / "c", ["p1"]))])
