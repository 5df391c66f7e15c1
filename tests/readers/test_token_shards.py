"""Token shards: what was written is what is read, windows cover each token once, kills and damage are survived."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimo.errors import ConfigError, DataError
from unimo.readers.token_shards import TokenShards, TokenShardWriter, Windows
from unimo.readers.tokenizer import load_tokenizer
from unimo.storage.mapped_shards import FAST, write_index

texts_of_ids = st.lists(st.lists(st.integers(0, 70_000), min_size=1, max_size=40), min_size=1, max_size=12)


def write(folder: Path, texts: list[list[int]], vocab_size: int = 70_001, shard_tokens: int = 30) -> TokenShards:
    writer = TokenShardWriter(folder, "f" * 64, vocab_size, {"of": "a test"}, shard_tokens)
    for number, ids in enumerate(texts):
        writer.add(ids if number % 2 else np.array(ids))
        if writer.full:
            writer.commit({"texts": number + 1})
    writer.commit({"texts": len(texts)}, complete=True)
    return TokenShards(folder)


@given(texts_of_ids, st.integers(1, 50), st.sampled_from([70_001, 65_536]))
def test_windows_cover_every_token_of_every_text_once(tmp_path_factory, texts, size, vocab_size):
    texts = [[i % vocab_size for i in ids] for ids in texts]
    shards = write(tmp_path_factory.mktemp("tokens"), texts, vocab_size)
    assert shards.shard(0)[0].dtype == (np.uint16 if vocab_size == 65_536 else np.uint32)
    assert len(shards) == len(texts) and shards.tokens == sum(map(len, texts))
    windows, pieces = Windows(shards, size), {}
    for i in range(len(windows)):
        shard, text, k = windows.name(i).split(":")
        piece = windows.read(i).tolist()
        assert 1 <= len(piece) == windows.lengths[i] <= size
        parts = pieces.setdefault((shard, int(text)), [])
        assert len(parts) == int(k)
        parts.append(piece)
    assert [sum(parts, []) for parts in pieces.values()] == texts
    for parts in pieces.values():
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert len(parts) == -(-sum(map(len, parts)) // size)


def test_tokens_are_views_of_the_file(tmp_path):
    window = Windows(write(tmp_path / "t", [[1, 2, 3]] * 9), 2).read(3)
    assert not window.flags.writeable and not window.flags.owndata


def test_an_interrupted_writer_goes_on_after_its_last_commit(tmp_path):
    texts = [[k] * (k % 13 + 1) for k in range(60)]
    whole = write(tmp_path / "whole", texts)
    writer = TokenShardWriter(tmp_path / "part", "f" * 64, 70_001, {"of": "a test"}, 30)
    for number, ids in enumerate(texts[:40]):  # and then the process is gone
        writer.add(ids)
        if writer.full:
            writer.commit({"texts": number + 1})
    (tmp_path / "part" / f"tokens_{writer.counts()['shards']:05d}.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="unfinished; run their command again"):
        TokenShards(tmp_path / "part")
    with pytest.raises(ConfigError, match="another process .* works in"):
        TokenShardWriter(tmp_path / "part", "f" * 64, 70_001, {"of": "a test"}, 30)
    del writer
    writer = TokenShardWriter(tmp_path / "part", "f" * 64, 70_001, {"of": "a test"}, 30)
    done = writer.state["texts"]
    assert 30 < done < 40 and not writer.complete
    for number, ids in enumerate(texts[done:], done):
        writer.add(ids)
        if writer.full:
            writer.commit({"texts": number + 1})
    writer.commit({"texts": len(texts)}, complete=True)
    assert TokenShards(tmp_path / "part").fingerprint == whole.fingerprint
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "part" / file.name).read_bytes() == file.read_bytes()


def test_other_sources_need_another_folder(tmp_path):
    write(tmp_path, [[1]])
    with pytest.raises(DataError, match="have another tokenizer and made_from; write to a new folder"):
        TokenShardWriter(tmp_path, "e" * 64, 70_001, {"of": "another"})


def test_another_tokenizer_is_one_clear_error(tmp_path, small_world):
    tokenizer = load_tokenizer(small_world / "vocabulary")
    write(tmp_path, [[1]])
    with pytest.raises(DataError, match=r"made with another tokenizer \(70,001 tokens.*run `corpora text`"):
        TokenShards(tmp_path, tokenizer)


def edit(folder: Path, **changes: object) -> None:
    header = json.loads((folder / "index.json").read_text())
    del header[FAST]
    write_index(folder, header | changes)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "index.json").unlink(), "has no index.json"),
        (lambda f: (f / "index.json").write_text("[]"), "is damaged"),
        (lambda f: (f / "index.json").write_text('{"format": "other", "version": 1}'), "it is 'other' version 1"),
        (
            lambda f: (f / "index.json").write_text((f / "index.json").read_text().replace("of", "or")),
            "index.json: content changed since it was written",
        ),
        (lambda f: edit(f, shards=[3]), "an entry of its shards is none"),
        (lambda f: edit(f, shards=[{"file": "../x", "bytes": 1, "sha256": ""}]), "an entry of its shards is none"),
        (lambda f: edit(f, shards=[{"file": "x", "bytes": 1, "sha256": ""}]), "an entry of its shards is none"),
        (lambda f: edit(f, vocab_size="9", complete=1), "damaged at vocab_size, complete"),
        (lambda f: (f / "tokens_00001.safetensors").unlink(), "is missing"),
        (lambda f: os.truncate(f / "tokens_00001.safetensors", 40), "has 40 bytes, the index says"),
        (lambda f: shutil.copy(f / "tokens_00000.safetensors", f / "tokens_00001.safetensors"), "the index says"),
    ],
)
def test_a_damaged_folder_is_one_error(tmp_path, damage, message):
    write(tmp_path, [[1] * 30, [2] * 20, [3] * 20, [4]])
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        Windows(TokenShards(tmp_path), 5)


def test_a_changed_byte_is_found_when_its_shard_is_read(tmp_path):
    shards = write(tmp_path, [[1] * 30, [2] * 30])
    assert len(list(shards.texts())) == 2
    file = tmp_path / "tokens_00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="tokens_00001.safetensors: content changed"):
        list(TokenShards(tmp_path).texts())
    windows = Windows(TokenShards(tmp_path), 30)
    assert windows.read(0).tolist() == [1] * 30
    with pytest.raises(DataError, match="tokens_00001.safetensors: content changed"):
        windows.read(1)
    assert json.loads((tmp_path / "index.json").read_text())["complete"]
