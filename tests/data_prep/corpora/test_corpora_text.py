"""`corpora text`: texts in any layout come out as their token ids; parts, kills and bad records change nothing else."""

import bz2
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.corpora import text_files
from data_prep.corpora.text import build
from data_prep.corpora.text_files import read, source_files
from data_prep.merge import merge
from data_prep.stage import WHOLE, Shard, read_manifest
from unimo.errors import DataError
from unimo.readers import token_shards
from unimo.readers.annotations import says_nothing
from unimo.readers.token_shards import TokenShards
from unimo.readers.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[3]
BPE = ROOT / "model_files" / "dict"
TOKENIZER = load_tokenizer(BPE)
# a text without line ends or blanks around it; `\ufeff` at its start would be a byte order mark
line = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufeff\x85"), min_size=1)
texts_of_lines = st.lists(line.map(str.strip).filter(lambda text: not says_nothing(text)), min_size=1, max_size=8)
quick = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(token_shards, "SHARD_TOKENS", 20)


def texts_in(folder: Path) -> list[list[int]]:
    return [ids.tolist() for ids in TokenShards(folder).texts()]


def rejects(folder: Path) -> list[tuple[str, str]]:
    lines = [json.loads(row) for row in (folder / "rejects.jsonl").read_text().splitlines()]
    return [(row["id"].rpartition("/")[2], row["reason"]) for row in lines]


@quick
@given(texts=texts_of_lines, layout=st.sampled_from(["txt", "txt.gz", "jsonl", "jsonl.gz", "passages"]))
def test_the_ids_of_the_texts_are_what_is_stored(tmp_path_factory, texts, layout):
    folder = tmp_path_factory.mktemp("corpus")
    file = folder / f"corpus.{layout}"
    if "jsonl" in layout:
        content = "".join(json.dumps({"n": 1, "text": text}) + "\n" for text in texts)
    else:
        content = ("\n \n" if layout == "passages" else "\n").join(texts)
    (gzip.open if layout.endswith("gz") else open)(file, "wb").write(content.encode())
    build([file], BPE, folder / "out", by="passage" if layout == "passages" else "line")
    assert texts_in(folder / "out") == TOKENIZER.encode_batch(texts)


@quick
@given(
    files=st.lists(st.lists(st.text("ab \n", max_size=9), max_size=6).map("\n".join), min_size=1, max_size=4),
    packed=st.lists(st.booleans(), min_size=4, max_size=4),
    by=st.sampled_from(["line", "passage"]),
    count=st.integers(2, 5),
)
def test_parts_in_order_are_the_whole(tmp_path_factory, files, packed, by, count):
    folder = tmp_path_factory.mktemp("files")
    for number, (content, gz) in enumerate(zip(files, packed)):
        path = folder / f"{number}.txt{'.gz' * gz}"
        path.write_bytes(gzip.compress(content.encode()) if gz else content.encode())
    paths = source_files([folder])

    def records(shard: Shard) -> list[tuple[str, str]]:
        return [(record.place, record.text) for record in read(paths, by, "text", shard)]

    whole = records(WHOLE)
    assert sum((records(Shard(k, count)) for k in range(1, count + 1)), []) == whole
    if by == "line":
        assert [text for _, text in whole] == [row.strip() for c in files for row in c.split("\n") if row.strip()]
    everything = list(read(paths, by, "text", WHOLE))
    for number, record in enumerate(everything):  # from each place on
        rest = [(r.place, r.text) for r in read(paths, by, "text", WHOLE, record.after)]
        assert rest == whole[number + 1 :]


def sentences(folder: Path, count: int = 300) -> Path:
    rng = np.random.default_rng(0)
    words = ["cat", "dog", "a red", "the", "boat", "sits", "on", "riding", "zebra"]
    rows = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(count)]
    rows[50] = rows[250] = "bad \udcff"
    path = folder / "sentences.txt"
    path.write_bytes("\n".join(rows).encode("utf-8", "surrogateescape"))
    return path


def test_merged_parts_are_the_files_of_one_run(tmp_path, stage):
    source = sentences(tmp_path)
    build([source], BPE, tmp_path / "whole")
    for number in (1, 2, 3):
        build([source], BPE, tmp_path / "out", shard=Shard(number, 3))
    for _ in range(2):  # again, over its own result
        assert "3 parts, 298 texts" in merge(tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert len(names) > 20 and names == sorted(p.name for p in (tmp_path / "out").iterdir())
    for name in set(names) - {"manifest.json"}:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    one, merged = read_manifest(tmp_path / "whole"), read_manifest(tmp_path / "out")
    assert one["inputs"] == merged["inputs"] and one["rejects"] == merged["rejects"] == {"not UTF-8": 2}
    assert one["counts"]["tokens"] == merged["counts"]["tokens"] == TokenShards(tmp_path / "out").tokens


def test_bad_records_are_listed_with_their_line(tmp_path, monkeypatch):
    monkeypatch.setattr(token_shards, "SHARD_TOKENS", 5000)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    rows = [b'{"text": "good"}', b"{", b"[1]", b'{"t": 1}', b'{"text": 7}', b'{"text": " "}', b'{"text": "\xff"}', b""]
    (tmp_path / "in" / "a.jsonl").write_bytes(b"\n".join([*rows, b"[" * 100_000, b'{"text": "half \\ud83d pair"}']))
    (tmp_path / "in" / "deep" / "b.txt").write_bytes(b"\xef\xbb\xbfwith a mark\r\n\r\n\xc3\n")
    (tmp_path / "in" / "deep" / ".hidden.txt").write_text("not this")
    packed = gzip.compress(b"".join(b"line %d of many, %f\n" % (k, k**0.5) for k in range(9000)))
    (tmp_path / "in" / "z.txt.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "in" / "zz.gz").write_bytes(b"no gzip")
    said = build([tmp_path / "in"], BPE, tmp_path / "out")
    found = rejects(tmp_path / "out")
    no_key = "no key 'text'"
    reasons = ["not JSON", no_key, no_key, "key 'text' holds no text", "empty", "not UTF-8", "not JSON"]
    expected = [(f"a.jsonl:{number}", reason) for number, reason in zip((2, 3, 4, 5, 6, 7, 9), reasons)]
    assert found[:8] == [*expected, ("b.txt:3", "not UTF-8")]
    (damaged, reason), (foreign, _) = found[8:]
    assert reason.startswith("gzip data damaged or cut short") and foreign == "zz.gz:1"
    whole_lines = int(damaged.partition(":")[2]) - 1
    assert 3000 < whole_lines < 9000, "what came before the damage is used"
    assert f"{whole_lines + 3} texts" in said.replace(",", "")
    decoded = [TOKENIZER.decode(ids) for ids in texts_in(tmp_path / "out")[:3]]
    assert decoded == ["good", "half \ufffd pair", "with a mark"]


def test_a_text_without_end_is_left_out_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_TEXT", 100)
    (tmp_path / "a.txt").write_text("first\n" + "x" * 1000 + "\nlast\n\n" + "word\n" * 50 + "\nend\n")
    build([tmp_path / "a.txt"], BPE, tmp_path / "lines")
    assert rejects(tmp_path / "lines") == [("a.txt:2", "longer than 0 MB")]
    assert len(texts_in(tmp_path / "lines")) == 53
    build([tmp_path / "a.txt"], BPE, tmp_path / "passages", by="passage")
    assert [place for place, _ in rejects(tmp_path / "passages")] == ["a.txt:1", "a.txt:5"]
    assert [TOKENIZER.decode(ids) for ids in texts_in(tmp_path / "passages")] == ["end"]


def test_captions_of_dev_and_test_stay_out(tmp_path, write_pairs, shipped):
    pairs = write_pairs(tmp_path, shipped[:30], ("train", "dev", "test"))
    (tmp_path / "openclipart-acorn.png").unlink(missing_ok=True)  # pictures are not needed
    captions = [(json.loads(row)["split"], json.loads(row)["captions"][0]) for row in pairs.read_text().splitlines()]
    (tmp_path / "a.txt").write_text("\n".join(f"{caption.upper()} !" for _, caption in captions) + "\nsomething else")
    build([tmp_path / "a.txt"], BPE, tmp_path / "out", exclude=pairs)
    reasons = dict(rejects(tmp_path / "out"))
    assert set(reasons.values()) == {"near-duplicate of a caption in dev or test"}
    for number, (split, _) in enumerate(captions, 1):
        if split != "train":
            assert f"a.txt:{number}" in reasons
    assert "a.txt:31" not in reasons and len(reasons) < 30


PROGRAM = """
import sys, time, pathlib
from data_prep.corpora import text
from unimo.readers import token_shards
token_shards.SHARD_TOKENS, text.BATCH_TEXTS = 20, 7
commit = token_shards.TokenShardWriter.commit
def slow(self, *arguments, **options):
    commit(self, *arguments, **options)
    time.sleep(0.02)
token_shards.TokenShardWriter.commit = slow
text.build([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
"""


def test_killed_twice_it_goes_on_and_ends_the_same(tmp_path):
    source, out = sentences(tmp_path), tmp_path / "out"
    build([source], BPE, tmp_path / "whole")
    for shards in (5, 22):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, source, BPE, out], cwd=ROOT, env=os.environ)
        end = time.monotonic() + 60
        while not (out / f"tokens_{shards:05d}.safetensors").exists():
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not json.loads((out / "index.json").read_text())["complete"]
        with open(out / "rejects.jsonl", "a") as file:
            file.write('{"id": "torn')
    said = build([source], BPE, out)
    total, now = TokenShards(out).tokens, int(said.partition("(")[2].split()[0].replace(",", ""))
    assert 0 < now < total - 22 * 20
    for path in (tmp_path / "whole").iterdir():
        if path.name != "manifest.json":
            assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert f"({0:,} tokens now" in build([source], BPE, out), "a finished folder stays as it is"


def test_memory_stays_the_same_for_a_larger_file(tmp_path):
    """Peak memory over 1 MB and over 8 MB of text, each in a process of its own."""
    peaks = []
    program = PROGRAM.partition("commit =")[0].replace("= 20, 7", "= 1 << 17, 1000") + PROGRAM.rpartition("slow\n")[2]
    for repeats in (1, 8):
        (tmp_path / "a.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 24_000 * repeats)
        command = [sys.executable, "-c", program, tmp_path / "a.txt", BPE, tmp_path / f"out{repeats}"]
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ)
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        peaks.append(usage.ru_maxrss)
    assert peaks[1] < 1.3 * peaks[0]


def test_what_cannot_be_done_is_one_clear_error(tmp_path, stage):
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "folder").mkdir()
    cases = {
        "empty.txt": "nothing usable",
        "folder": "the folder holds no file",
        "none.txt": "no such file or folder",
    }
    for name, message in cases.items():
        done = stage("corpora", "text", tmp_path / name, "--tokenizer", BPE, "--out", tmp_path / "out")
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "a.txt").write_text("a text")
    build([tmp_path / "a.txt"], BPE, tmp_path / "done")
    (tmp_path / "a.txt").write_text("another text")
    with pytest.raises(DataError, match="have another made_from; write to a new folder"):
        build([tmp_path / "a.txt"], BPE, tmp_path / "done")


def test_what_a_file_is_its_contents_tell(tmp_path):
    rows = ["A red boat.", "The old sea."]
    objects = "".join(json.dumps({"id": 1, "text": row}) + "\n" for row in rows).encode()
    plain = "\n".join(rows)
    contents = {"wiki_07": objects, "a.json": objects, "b.NDJSON": objects, "le.txt": plain.encode("utf-16")}
    contents |= {"be.txt": b"\xfe\xff" + plain.encode("utf-16-be"), "gz.txt": gzip.compress(plain.encode())}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        found = list(read([tmp_path / name], "line", "text", WHOLE))
        assert [record.text for record in found] == rows, name
        rest = list(read([tmp_path / name], "line", "text", WHOLE, found[0].after))
        assert [record.text for record in rest] == rows[1:], name


@pytest.mark.parametrize(
    "content", [bz2.compress(b"text"), lzma.compress(b"text"), b"PK\x03\x04", b'[\n{"text": "x"}]']
)
def test_what_is_no_text_is_refused_by_name(tmp_path, content):
    (tmp_path / "some.txt").write_bytes(content)
    with pytest.raises(DataError, match="some.txt is (packed|an array)"):
        list(read([tmp_path / "some.txt"], "line", "text", WHOLE))


def test_lines_with_a_nul_or_nothing_are_listed(tmp_path):
    (tmp_path / "a.txt").write_bytes("good\nno\0good\n\u200b ...\n".encode())
    reasons = [record.reason for record in read([tmp_path / "a.txt"], "line", "text", WHOLE)]
    assert reasons == ["", "holds a NUL", "no letter, digit or symbol"]
