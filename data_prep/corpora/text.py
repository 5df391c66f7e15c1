"""`corpora text`: files of texts -> packed token shards (`unimo.readers.token_shards`), resumably, as a stream."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from data_prep.corpora.text_files import Position, Record, read, source_files
from data_prep.near_duplicates import NearIndex, words
from data_prep.stage import WHOLE, Shard, Work, beside
from unimo.readers.annotations import read_pairs
from unimo.readers.token_shards import TokenShardWriter
from unimo.readers.tokenizer import Tokenizer, load_tokenizer
from unimo.storage.cache import sha256

BATCH_TEXTS, BATCH_CHARACTERS = 1000, 1 << 18  # tokenized at once, on all cores
DISTRIBUTIONS = ("tokenizers", "safetensors", "numpy")


def build(
    sources: Sequence[Path],
    tokenizer: Path,
    out: Path,
    by: str = "line",
    key: str = "text",
    exclude: Path | None = None,
    licence: str = "not stated",
    shard: Shard = WHOLE,
) -> str:
    """Write the token ids of every text of `sources` into the folder `out`, and say what was done.

    Args:
        tokenizer: folder of a vocabulary or a model.
        by: "line" or "passage" (lines up to a blank one), what a text of a plain file is.
        key: of the text in .jsonl files.
        exclude: pairs.jsonl; texts equal or nearly equal to captions of its dev and test are left out.
        licence: of the texts, for the manifest.

    Raises:
        DataError: a source is missing, nothing is usable, or `out` was made from something else.
    """
    files, vocabulary, out = source_files(sources), load_tokenizer(tokenizer), shard.place(out)
    settings = {"by": by, "key": key, "tokenizer": vocabulary.fingerprint, "licence": licence}
    sizes = {str(path): path.stat().st_size for path in files}
    excluded = {"exclude": sha256(exclude) if exclude else None}
    made_from = {**settings, "files": sizes, "shard": str(shard), **excluded}
    writer = TokenShardWriter(out, vocabulary.fingerprint, vocabulary.vocab_size, made_from)
    work = Work("corpora text", out, settings, [*files, *([exclude] if exclude else [])], shard, (), DISTRIBUTIONS)
    before = writer.counts()["tokens"]
    kept = Rejects(beside(out, "rejects.jsonl"), writer.state.get("rejects_bytes", 0), work)
    if not writer.complete:
        position = writer.state.get("position")
        records = read(files, by, key, shard, Position(*position) if position else None)
        _fill(writer, records, vocabulary, held_out(exclude) if exclude else None, work, kept)
    line = work.finish(writer.counts(), "tokens", writer.counts()["tokens"] - before)
    writer.commit({"rejects_bytes": kept.save()}, complete=True)
    return line


def held_out(pairs: Path) -> NearIndex:
    """The captions of dev and test."""
    return NearIndex(words(caption) for pair in read_pairs(pairs) if pair.split != "train" for caption in pair.captions)


def _fill(
    writer: TokenShardWriter,
    records: Iterator[Record],
    tokenizer: Tokenizer,
    excluded: NearIndex | None,
    work: Work,
    kept: "Rejects",
) -> None:
    """Add the texts in order; with each shard, where it ended and what was left out up to there are committed."""
    position = writer.state.get("position")
    for batch in _batches(records):
        good = [record.text for record in batch if not record.reason]
        encoded = iter(tokenizer.encode_batch(good))
        for place, text, reason, position in batch:
            ids = [] if reason else next(encoded)
            if not ids:
                work.reject(place, reason or "no token")
            elif excluded and words(text) in excluded:
                work.reject(place, "near-duplicate of a caption in dev or test", text[:200])
            else:
                writer.add(ids)
                if writer.full:
                    writer.commit({"position": position, "rejects_bytes": kept.save()})
    writer.commit({"position": position, "rejects_bytes": kept.save()})


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch, characters = [], 0
    for record in records:
        batch.append(record)
        characters += len(record.text)
        if len(batch) == BATCH_TEXTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class Rejects:
    """Keeps what a `Work` leaves out in a file that goes on where a run stopped: `size` bytes of it count."""

    def __init__(self, path: Path, size: int, work: Work):
        self.path, self.size, self.work = path, size, work
        if size:
            work.rejects += map(json.loads, path.read_bytes()[:size].splitlines())
        self._saved = len(work.rejects)

    def save(self) -> int:
        """Append what is new and sync; returns the bytes that count."""
        lines = [json.dumps(reject, ensure_ascii=False).encode() + b"\n" for reject in self.work.rejects[self._saved :]]
        if lines:
            with open(self.path, "r+b" if self.size else "wb") as file:
                file.seek(self.size)
                file.truncate()
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
                self.size = file.tell()
            self._saved = len(self.work.rejects)
        return self.size
