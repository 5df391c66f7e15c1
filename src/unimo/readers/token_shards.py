"""A text corpus as token ids: a folder of safetensors shards that is read by memory map and written resumably.

    index.json        format, version, tokenizer, vocab_size, made_from, shards (file, bytes, texts, tokens, hashes)
    tokens_00000.safetensors, ...    `tokens`, the ids of all texts back to back, and `ends`, where each text ends

Ids are uint16, or uint32 where the vocabulary needs it; no special tokens are among them. `index.json` is the commit
point: what it does not list does not exist. A shard ends with the first text that fills it, so equal texts give equal
files however they were divided into runs.
"""

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from unimo.errors import DataError
from unimo.readers.tokenizer import Tokenizer
from unimo.storage.atomic import atomic_write
from unimo.storage.locks import alone
from unimo.storage.mapped_shards import MappedShard, hashes, read_index, write_index

FORMAT, VERSION = "unimo-tokens", 1
KEYS: dict[str, type] = {"tokenizer": str, "vocab_size": int, "made_from": dict, "complete": bool, "shards": list}
KEYS |= {"state": dict}
SHARD_TOKENS = 1 << 25  # ours: 64 MB of uint16
_WIDE = 1 << 16  # vocabularies beyond this need uint32


class TokenShards:
    """The texts of a folder, by number. Opening reads the index only; a shard is mapped and verified when first needed.

    Raises:
        DataError: at opening for a missing, unfinished or newer index, and for a folder that another tokenizer made; at
            reading for a shard that is missing, cut short or not what the index says.
    """

    def __init__(self, path: str | Path, tokenizer: Tokenizer | None = None):
        self.path = Path(path)
        self.header = read_header(self.path)
        if not self.header["complete"]:
            raise DataError(f"token shards {self.path} are unfinished; run their command again, it resumes")
        if tokenizer and tokenizer.fingerprint != self.header["tokenizer"]:
            raise DataError(
                f"token shards {self.path} were made with another tokenizer ({self.header['vocab_size']:,} tokens, "
                f"fingerprint {self.header['tokenizer'][:12]}; the one given has {tokenizer.vocab_size:,}, "
                f"{tokenizer.fingerprint[:12]}); run `corpora text` with --tokenizer as in the recipe"
            )
        self.dtype = token_dtype(self.header["vocab_size"])
        self._maps: dict[int, MappedShard] = {}

    def __len__(self) -> int:
        return sum(shard["texts"] for shard in self.header["shards"])

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return sum(shard["tokens"] for shard in self.header["shards"])

    @property
    def fingerprint(self) -> str:
        """Changes when a text, the tokenizer or the division into shards changes."""
        shown = [self.header["tokenizer"], *(shard["sha256"] for shard in self.header["shards"])]
        return hashlib.sha256("".join(shown).encode()).hexdigest()

    def shard(self, number: int, verify: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Views of a shard: token ids [tokens] and the end of each text [texts] int64.

        Args:
            verify: compare the shard with its hash, once, which reads all of it.
        """
        if number not in self._maps:
            shard = self.header["shards"][number]
            layout = {"tokens": (self.dtype, (shard["tokens"],)), "ends": (np.int64, (shard["texts"],))}
            hint = "restore it from a copy, or run `corpora text` again into a new folder"
            self._maps[number] = MappedShard(self.path / shard["file"], shard, layout, hint)
        arrays = self._maps[number].arrays(verify)
        return arrays["tokens"], arrays["ends"]

    def texts(self) -> Iterator[np.ndarray]:
        """Token ids of each text in order, views of the files."""
        for number in range(len(self.header["shards"])):
            tokens, ends = self.shard(number)
            first = 0
            for end in ends.tolist():
                yield tokens[first:end]
                first = end


class Windows:
    """Every text of some token shards cut into pieces of at most `size` tokens, numbered; each token is in one piece.

    A text of n tokens gives ceil(n / size) pieces that differ by one token at most, so that none is a mere rest. A
    cut may fall into a word. In memory: 4 bytes a piece and 4 a text; ids stay in the files.

    Attributes:
        lengths: [n] int32, tokens of each piece.
    """

    def __init__(self, shards: TokenShards, size: int):
        self.shards, self.size = shards, size
        starts, lengths = [0], [np.zeros(0, np.int32)]
        self._pieces_before: list[np.ndarray] = []  # of each shard, [texts + 1] uint32
        for number in range(len(shards.header["shards"])):
            _, ends = shards.shard(number, verify=False)  # a start must not read all of a large corpus
            texts = np.diff(ends, prepend=0)
            pieces = -(-texts // size)
            before = np.zeros(len(texts) + 1, np.uint32)
            np.cumsum(pieces, out=before[1:])
            text = np.repeat(np.arange(len(texts)), pieces)
            k = np.arange(len(text)) - before[text]
            lengths.append(((k + 1) * texts[text] // pieces[text] - k * texts[text] // pieces[text]).astype(np.int32))
            self._pieces_before.append(before)
            starts.append(starts[-1] + len(text))
        self._starts = np.array(starts)
        self.lengths = np.concatenate(lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, window: int) -> np.ndarray:
        """Token ids of a piece, a view of the file."""
        shard, text, k, pieces = self._place(window)
        tokens, ends = self.shards.shard(shard)
        first = int(ends[text - 1]) if text else 0
        n = int(ends[text]) - first
        return tokens[first + k * n // pieces : first + (k + 1) * n // pieces]

    def name(self, window: int) -> str:
        """Shard, text in it, and piece of the text, from 0."""
        shard, text, k, _ = self._place(window)
        return f"{self.shards.header['shards'][shard]['file'].partition('.')[0]}:{text}:{k}"

    def _place(self, window: int) -> tuple[int, int, int, int]:
        """Shard, text, piece and number of pieces of the text."""
        shard = int(np.searchsorted(self._starts, window, "right")) - 1
        before, rest = self._pieces_before[shard], int(window - self._starts[shard])
        text = int(np.searchsorted(before, np.uint32(rest), "right")) - 1  # an int would make a copy of all
        return shard, text, rest - int(before[text]), int(before[text + 1] - before[text])


class TokenShardWriter:
    """Appends texts; a shard is committed by `commit`, which the caller calls when `full` and at the end.

    Opening an existing folder goes on after its last commit: `state` is what was committed with it.

    Args:
        made_from: whatever must not differ within one folder.

    Raises:
        DataError: a folder that another tokenizer or other sources made.
        ConfigError: another process writes the folder; it is held until this object is gone.
    """

    def __init__(
        self, path: str | Path, tokenizer: str, vocab_size: int, made_from: Mapping[str, Any], shard_tokens: int = 0
    ):
        self.path, self.shard_tokens = Path(path), shard_tokens or SHARD_TOKENS
        fixed = {"tokenizer": tokenizer, "vocab_size": vocab_size, "made_from": dict(made_from)}
        self._held = ExitStack()
        self._held.enter_context(alone(self.path))
        if (self.path / "index.json").exists():
            self._header = read_header(self.path)
            changed = [key for key, value in fixed.items() if self._header[key] != value]
            if changed:
                raise DataError(f"token shards {self.path} have another {' and '.join(changed)}; write to a new folder")
        else:
            self._header = {"format": FORMAT, "version": VERSION, **fixed}
            self._header |= {"complete": False, "state": {}, "shards": []}
        self._dtype = np.dtype(token_dtype(vocab_size))
        self._clear()

    @property
    def state(self) -> dict[str, Any]:
        """What came with the last commit; empty in a new folder."""
        return self._header["state"]

    @property
    def complete(self) -> bool:
        """Whether all was committed."""
        return self._header["complete"]

    @property
    def full(self) -> bool:
        """Whether a shard is ready to be committed."""
        return len(self._tokens) >= self.shard_tokens

    def counts(self) -> dict[str, int]:
        """What is committed."""
        shards = self._header["shards"]
        return {name: sum(shard[name] for shard in shards) for name in ("texts", "tokens")} | {"shards": len(shards)}

    def add(self, ids: Sequence[int] | np.ndarray) -> None:
        """Buffer one text of at least one token."""
        if isinstance(ids, np.ndarray):
            self._tokens.frombytes(ids.astype(self._dtype).tobytes())
        else:
            self._tokens.extend(ids)
        self._ends.append(len(self._tokens))

    def commit(self, state: Mapping[str, Any], complete: bool = False) -> None:
        """Write what is buffered as one shard, then the index that names it."""
        header = {**self._header, "complete": complete, "state": dict(state), "shards": [*self._header["shards"]]}
        if self._ends:
            name = f"tokens_{len(header['shards']):05d}.safetensors"
            arrays = {"tokens": np.frombuffer(self._tokens, self._dtype), "ends": np.frombuffer(self._ends, np.int64)}
            content = save(arrays)
            with atomic_write(self.path / name) as file:
                file.write(content)
            counts = {"texts": len(self._ends), "tokens": len(self._tokens)}
            header["shards"].append({"file": name, "bytes": len(content), **counts, **hashes(content)})
        write_index(self.path, header)
        self._header = header
        self._clear()

    def _clear(self) -> None:
        self._tokens, self._ends = array("H" if self._dtype == np.uint16 else "I"), array("q")


def token_dtype(vocab_size: int) -> type:
    """The narrowest type of the ids of a vocabulary."""
    return np.uint16 if vocab_size <= _WIDE else np.uint32


def is_tokens(path: Path) -> bool:
    """Whether a folder with an index.json holds token shards."""
    return json.loads((path / "index.json").read_bytes()).get("format") == FORMAT


def read_header(path: Path) -> dict[str, Any]:
    """The index.json of a folder of token shards. Raises DataError as `read_index`."""
    counts = ("texts", "tokens")
    return read_index(path, "token shards", FORMAT, VERSION, KEYS, "`corpora text` writes one", counts)
