"""The model zoo from end to end: a web server, archives of a small release, processes that are killed."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import paddle
import pytest
from file_server import File, serving
from small_release import FIXTURE, HEADS, PARAMETERS, VARIABLES, pack, reference, same

from unimo import zoo
from unimo.config import dump
from unimo.engine.checkpoint import torn
from unimo.errors import CheckpointError, ConfigError, DataError
from unimo.models.systems import SYSTEMS, skeleton
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.port.convert import convert
from unimo.port.interchange import Checkpoint
from unimo.port.release import write_release
from unimo.port.weights import shapes_of, values_of
from unimo.readers.tokenizer import load_tokenizer
from unimo.zoo import released
from unimo.zoo.catalogue import Entry, card, entries, entry_of, table


def fetch(entry: Entry, cache: Path, source: Path | None = None, **options) -> tuple[Path, str]:
    """Fetch without waiting between tries; returns the folder and what was said."""
    said: list[str] = []
    folder = zoo.fetch(entry, source, cache, log=said.append, **{"wait": 0, "attempts": 3, "timeout": 5} | options)
    return folder, "\n".join(said)


# What ships


@pytest.mark.parametrize("name", entries())
def test_every_entry_builds_with_the_count_it_promises(name):
    entry = entry_of(name)
    shapes = shapes_of(skeleton(entry.system, released.config_of(entry), entry.heads))
    if entry.parameters:
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == entry.parameters
    names = released.NAMES[entry.system].name_table(released.config_of(entry))
    if entry.variables:
        assert sum(len(names[name]) for name in shapes) == entry.variables
    assert released._most_bytes(entry) > 4 * sum(int(np.prod(shape)) for shape in shapes.values())


def test_the_released_checkpoints_are_listed_with_their_addresses():
    bucket = "https://unimo.bj.bcebos.com/model/unimo_"
    names = {f"unimo-{k}-en": f"{bucket}{k.replace('-', '_')}_en.tar.gz" for k in ("base", "large")}
    names |= {f"unimo-mnli-{k}-en": f"{bucket}mnli_{k}_en.tar.gz" for k in ("base", "large")}
    names |= {"unimo-2-base-en": "https://unimo-2.bj.bcebos.com/model/UNIMO-2.tar.gz"}
    assert {name: entry.url for name, entry in entries().items()} == names
    lines = table()
    assert len(lines) == 6 and all(any(line.startswith(f"{name} ") for line in lines) for name in names)


def test_a_card_says_what_is_not_known(cache):
    text = "\n".join(card(entry_of("unimo-mnli-base-en"), cache))
    assert "presumed      heads, labels" in text and "parameters    not known" in text
    assert "none is published, none recorded yet" in text and "STS-B  pearson 91" in text


# Fetching


def test_a_fetched_model_is_the_release(tiny, cache, packed):
    with serving(File(packed)) as url:
        folder, said = fetch(tiny(f"{url}.tar.gz"), cache)
    assert folder == cache / "zoo" / "tiny-en" / "model" and torn(folder) is None
    assert f"{VARIABLES} variables make {PARAMETERS:,} parameters; expected {VARIABLES} and {PARAMETERS:,}" in said
    assert re.search(r"no hash of file.tar.gz is published; recorded sha256 [0-9a-f]{64}, later fetches", said)
    model = zoo.from_pretrained(folder)
    assert same(model, reference()) and not model.training and model.heads == tuple(HEADS) and model.tokenizer is None
    assert sorted(p.name for p in folder.parent.iterdir()) == ["file.tar.gz", "model"]
    text = "\n".join(card(tiny(f"{url}.tar.gz"), cache))
    assert "first seen" in text and "when it was ported:" in text


def test_a_cached_model_needs_no_server(tiny, cache, packed):
    with serving(File(packed)) as url:
        folder, _ = fetch(tiny(url), cache)
    assert fetch(tiny(url), cache, offline=True) == (folder, "")


def test_a_dropped_connection_is_resumed(tiny, cache, packed):
    file = File(packed, drops=[len(packed) // 2])
    with serving(file) as url:
        folder, said = fetch(tiny(url), cache)
    assert "trying again" in said and "Range" in file.requests[1] and torn(folder) is None


@pytest.mark.parametrize("status", [403, 404])
def test_a_missing_archive_comes_with_advice(tiny, cache, status):
    with serving(File(b"", status=status)) as url:
        with pytest.raises(DataError) as caught:
            fetch(tiny(url), cache)
    assert f"answered {status}" in str(caught.value)
    assert f"download\n  {url}\n" in str(caught.value) and "unimo zoo fetch tiny-en --from file" in str(caught.value)
    assert f"put the file at {cache / 'zoo' / 'tiny-en' / 'file'}" in str(caught.value)


@pytest.mark.parametrize("offline", [True, False])
def test_offline_says_what_to_bring_and_where(tiny, cache, packed, offline):
    entry = tiny("http://no-such-host.invalid/tiny_en.tar.gz")
    with pytest.raises(DataError, match="To bring tiny-en here by hand"):
        fetch(entry, cache, offline=offline)
    put = cache / "zoo" / "tiny-en" / "tiny_en.tar.gz"
    put.parent.mkdir(parents=True, exist_ok=True)
    put.write_bytes(packed)
    assert torn(fetch(entry, cache, offline=True)[0]) is None


def test_a_truncated_archive_is_refused_and_named(tiny, cache, packed):
    with serving(File(packed[:-1000])) as url:
        with pytest.raises(DataError, match=r"damaged or cut short.*\n.*/file came from http.*delete it to fetch it"):
            fetch(tiny(url), cache)
    assert [p.name for p in (cache / "zoo" / "tiny-en").iterdir()] == ["file"]
    assert not (cache / "zoo" / "hashes.json").exists()


def test_an_earlier_good_model_survives_a_bad_archive(tiny, cache, packed, tmp_path):
    with serving(File(packed)) as url:
        folder, _ = fetch(tiny(url), cache)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    (tmp_path / "bad.tar.gz").write_bytes(packed[:100] + b"\0" + packed[101:])
    with pytest.raises(DataError, match="is not the file that was first seen"):
        fetch(tiny(url), cache, tmp_path / "bad.tar.gz")
    with pytest.raises(DataError, match="damaged or cut short"):
        fetch(tiny("http://other.address/file"), cache, tmp_path / "bad.tar.gz")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_another_file_at_the_same_address_is_an_error_naming_both_hashes(tiny, cache, packed):
    file = File(packed)
    with serving(file) as url:
        fetch(tiny(url), cache)
        shutil.rmtree(cache / "zoo" / "tiny-en")
        _, said = fetch(tiny(url), cache)
        assert re.search("sha256 [0-9a-f]{64}, as recorded on", said)
        shutil.rmtree(cache / "zoo" / "tiny-en")
        file.body = packed + bytes(512)  # still a good archive
        with pytest.raises(DataError, match=r"sha256 is [0-9a-f]{64}, expected [0-9a-f]{64} \(recorded .* from http"):
            fetch(tiny(url), cache)
    assert not (cache / "zoo" / "tiny-en" / "model").exists()


def test_hostile_archives_touch_nothing(tiny, cache, tmp_path):
    link = tarfile.TarInfo("tiny_en")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
    buffer = io.BytesIO()
    (tmp_path / "outside").mkdir()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(link)
        tar.add(FIXTURE / "checkpoint" / "word_embedding", "tiny_en/word_embedding")
    with serving(File(buffer.getvalue())) as url:
        with pytest.raises(DataError, match="the symbolic link 'tiny_en'"):
            fetch(tiny(url), cache)
    assert list((tmp_path / "outside").iterdir()) == []
    assert [p.name for p in (cache / "zoo" / "tiny-en").iterdir()] == ["file"]


FETCH = """
import sys
from pathlib import Path
from unimo.zoo.catalogue import Entry
from unimo.zoo import fetch
print(fetch(Entry.model_validate_json(sys.argv[1]), cache=Path(sys.argv[2]), wait=0.1))
"""


def start(entry: Entry, cache: Path) -> subprocess.Popen:
    command = [sys.executable, "-u", "-c", FETCH, entry.model_dump_json(), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(tiny, cache, packed):
    file = File(packed, hang=threading.Event())
    hang = file.hang
    with serving(file) as url:
        entry = tiny(url)
        processes = [start(entry, cache), start(entry, cache)]
        for process in processes:
            line = process.stdout.readline()
            assert line.startswith("fetching") or "another process holds" in line
        hang.set()
        outputs = [process.communicate(timeout=60) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    assert len(file.requests) == 1 and all(str(cache) in out.splitlines()[-1] for out, _ in outputs)
    assert same(zoo.from_pretrained(cache / "zoo" / "tiny-en" / "model"), reference())


def test_a_killed_fetch_goes_on_where_it_was(tiny, cache, packed):
    file = File(packed, hang=threading.Event())
    with serving(file) as url:
        process = start(tiny(url), cache)
        part = cache / "zoo" / "tiny-en" / "file.part"
        while process.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        have = part.stat().st_size
        assert 0 < have < len(packed)
        fetch(tiny(url), cache)
    assert file.requests[1]["Range"] == f"bytes={have}-"
    assert same(zoo.from_pretrained(cache / "zoo" / "tiny-en" / "model"), reference())


# What the user already has


def test_a_folder_or_archive_of_the_user_is_taken(tiny, cache, packed, tmp_path):
    (tmp_path / "mine.tar.gz").write_bytes(packed)
    deeper = Path(shutil.copytree(FIXTURE / "checkpoint", tmp_path / "mine" / "step_3" / "other_name"))
    for source in (tmp_path / "mine.tar.gz", deeper, tmp_path / "mine"):
        folder, said = fetch(tiny("http://no-such-host.invalid/file"), cache, source)
        assert same(zoo.from_pretrained(folder), reference()) and f"wrote {folder}" in said
    shutil.copytree(deeper, tmp_path / "mine" / "step_4")
    with pytest.raises(CheckpointError, match="2 folders with a file word_embedding.*step_3/other_name, step_4"):
        fetch(tiny("http://no-such-host.invalid/file"), cache, tmp_path / "mine")
    with pytest.raises(DataError, match="nothing.tar.gz does not exist; expected file or the folder"):
        fetch(tiny("http://no-such-host.invalid/file"), cache, tmp_path / "nothing.tar.gz")


def test_another_model_is_refused(tiny, cache, sizes):
    sizes.write_text(sizes.read_text().replace("num_hidden_layers: 3", "num_hidden_layers: 4"))
    with pytest.raises(CheckpointError, match="encoder_layer_3_ffn_fc_0.w_0: missing"):
        fetch(tiny("http://no-such-host.invalid/file"), cache, FIXTURE / "checkpoint")
    assert list((cache / "zoo" / "tiny-en").iterdir()) == []


def test_what_the_archive_lacks_is_said_now_and_at_every_load(tiny, cache, tmp_path):
    folder = Path(shutil.copytree(FIXTURE / "checkpoint", tmp_path / "mine"))
    for pattern in ("match_fc*", "pooled_fc_image*"):
        for path in folder.glob(pattern):
            path.unlink()
    ported, said = fetch(tiny("http://no-such-host.invalid/file"), cache, folder)
    assert "67 variables make" in said and "expected and not there: match, pool_image" in said
    with pytest.warns(UserWarning, match="does not hold pool_image, which start at random"):
        zoo.from_pretrained(ported)
    with pytest.warns(UserWarning, match="does not hold match, pool_image, which"):
        zoo.from_pretrained(ported, heads=["pool", "match"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.from_pretrained(ported, heads=["lm"])


def test_a_save_of_a_text_task_has_no_image_embedding_and_is_taken(tiny, cache, tmp_path):
    folder = Path(shutil.copytree(FIXTURE / "checkpoint", tmp_path / "mine"))
    for pattern in ("match_fc*", "pooled_fc_image*", "image_*", "v_pre*", "mask_lm*"):
        for path in folder.glob(pattern):
            path.unlink()
    ported, said = fetch(tiny("http://no-such-host.invalid/file"), cache, folder)
    with pytest.warns(UserWarning, match="box_embedding, image_embedding, image_norm, pool_image, which"):
        model = zoo.from_pretrained(ported)
    assert model.heads == ("pool", "classify") and model.config.num_labels == 3
    (folder / "word_embedding").unlink()
    with pytest.raises(CheckpointError, match="holds 0 folders with a file word_embedding"):
        fetch(tiny("http://no-such-host.invalid/file"), cache, folder)


# Models from paths


def test_save_and_load_round_trip(tmp_path, small_world):
    model = reference()
    zoo.save_pretrained(model, tmp_path / "model", load_tokenizer(small_world / "vocabulary"))
    again = zoo.from_pretrained(tmp_path / "model")
    assert same(again, model) and again.tokenizer.mask_id == 4
    zoo.save_pretrained(again, tmp_path / "copy")
    assert zoo.from_pretrained(tmp_path / "copy").tokenizer.fingerprint == again.tokenizer.fingerprint
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="exists and is not a model folder"):
        zoo.save_pretrained(model, tmp_path / "file")
    with pytest.raises(ConfigError, match="a Linear is no model of unimo, unimo-2, oner"):
        zoo.save_pretrained(paddle.nn.Linear(2, 2), tmp_path / "linear")


def test_heads_are_those_asked_for(tmp_path):
    zoo.save_pretrained(reference(), tmp_path / "model")
    fewer = zoo.from_pretrained(tmp_path / "model", heads=["pool"])
    assert fewer.heads == ("pool",) and np.array_equal(
        fewer.pool_text.affine.weight, reference().pool_text.affine.weight
    )
    paddle.seed(1)
    with pytest.warns(UserWarning, match="does not hold region_feature, which start at random"):
        more = zoo.from_pretrained(tmp_path / "model", heads=["pool", "region_feature"])
    weight = more.region_feature.affine.weight
    assert 0 < float(weight.abs().max()) <= 2 * more.config.initializer_range
    with pytest.raises(ConfigError, match="unknown heads"):
        zoo.from_pretrained(tmp_path / "model", heads=["pooler"])


def test_a_release_folder_is_ported_on_the_fly(tmp_path):
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9, "max_position_embeddings": 9}
    config = UnimoConfig(hidden_size=64, **sizes)
    model = Unimo(config, ["pool"])
    write_release(tmp_path / "release", Checkpoint("unimo", config, model.heads, values_of(model)))
    with pytest.warns(UserWarning, match="format release, ported on the fly.* unimo port convert .*release FOLDER"):
        assert same(zoo.from_pretrained(tmp_path / "release"), model)
    with pytest.raises(CheckpointError, match="convert it: unimo port convert"):
        zoo.locate(tmp_path / "release")
    convert(tmp_path / "release", tmp_path / "nlp", target_format="paddlenlp")
    with pytest.warns(UserWarning, match="format paddlenlp, ported on the fly"):
        text = zoo.from_pretrained(tmp_path / "nlp")
    assert np.array_equal(text.word_embedding.weight.numpy(), model.word_embedding.weight.numpy())


def test_a_wrong_name_gets_the_right_ones():
    with pytest.raises(ConfigError, match="no model 'unimo-base'; did you mean 'unimo-base-en'.* unimo-2-base-en"):
        zoo.from_pretrained("unimo-base")
    with pytest.raises(ConfigError, match="runs/nothing does not exist, and the zoo has no model"):
        zoo.locate("runs/nothing")


def test_a_cache_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="set UNIMO_CACHE to another folder"):
        fetch(tiny("http://no-such-host.invalid/file"), tmp_path / "cache", FIXTURE / "checkpoint")


def test_a_release_of_unimo_2_is_fetched_too(tiny, cache, tmp_path):
    stacks = {
        f"{stack}num_{kind}": 1 for stack in ("", "text_", "vit_") for kind in ("hidden_layers", "attention_heads")
    }
    sizes = {"hidden_size": 16, "text_vocab_size": 20, "text_max_position_embeddings": 12, "num_codebook": 8}
    config = SYSTEMS["unimo-2"].config(**stacks, **sizes, topk_value=3)
    heads = ["pool", "match", "cmcl", "lm"]
    model = SYSTEMS["unimo-2"].model(config, heads)
    write_release(tmp_path / "UNIMO-2", Checkpoint("unimo-2", config, tuple(heads), values_of(model)))
    (tmp_path / "unimo2.yaml").write_text(dump(config))
    about = {"system": "unimo-2", "model": str(tmp_path / "unimo2.yaml"), "heads": heads, "labels": None}
    with serving(File(pack(tmp_path / "UNIMO-2", "UNIMO-2"))) as url:
        folder, said = fetch(tiny(url, **about, folder="UNIMO-2", variables=52, parameters=None), cache)
    again = zoo.from_pretrained(folder)
    assert same(again, model) and again.config == config and "expected and not there" not in said
