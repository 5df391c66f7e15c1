"""Text <-> ids through the Hugging Face `tokenizers` library: the release's byte-level BPE, and BERT's WordPiece.

`load_tokenizer(folder)` takes, in this order, what the folder holds:
    tokenizer.json                                     as `Tokenizer.save` writes it, or one of Hugging Face
    *encoder.json, *vocab.bpe and *vocab.txt           byte-level BPE, cased, ids by vocab.txt (UNIMO, UNIMO-2)
    vocab.json and merges.txt                          byte-level BPE, cased (RoBERTa of Hugging Face)
    vocab.txt                                          WordPiece (BERT, MiniLM, PaddleNLP), lower-cased unless a
                                                       tokenizer_config.json beside it says `do_lower_case: false`;
                                                       lines of `token<TAB>id` are PaddleNLP's, which also splits at
                                                       symbols (20℃, €5)

RoBERTa's names of the special tokens become ours: <s> [CLS], <pad> [PAD], </s> [SEP], <unk> [UNK], <mask> [MASK].
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write

SPECIALS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
# what _is_symbol of its tokenizer_utils.py takes
PADDLENLP_SYMBOLS = r"[\p{S}\x{00B2}\x{00B5}\x{00BA}\x{00D8}\x{014B}\x{01B1}\x{3007}]"
ROBERTA_SPECIALS = dict(zip(("<s>", "<pad>", "</s>", "<unk>", "<mask>"), SPECIALS, strict=True))


class Tokenizer:
    """One vocabulary with the five special ids. Special tokens written in a text are ordinary text, never specials.

    Attributes: cls_id, pad_id, sep_id, unk_id, mask_id; vocab_size (rows that a word table needs); is_special
    ([vocab_size] bool); ordinary_ids (all others, ascending); fingerprint (changes with any file of the vocabulary).
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        backend.no_truncation()  # files of sentence encoders carry both settings
        backend.no_padding()
        backend.encode_special_tokens = True
        self._backend = backend
        vocab = backend.get_vocab()
        missing = [s for s in SPECIALS if s not in vocab]
        if missing:
            raise DataError(f"the vocabulary lacks {', '.join(missing)}; UNIMO needs {', '.join(SPECIALS)}")
        self.cls_id, self.pad_id, self.sep_id, self.unk_id, self.mask_id = (vocab[s] for s in SPECIALS)
        self.vocab_size = max(vocab.values()) + 1
        self.fingerprint = hashlib.sha256(backend.to_str().encode()).hexdigest()
        self.is_special = np.zeros(self.vocab_size, bool)
        self.is_special[[vocab[s] for s in SPECIALS]] = True
        self.ordinary_ids = np.array(sorted(i for i in vocab.values() if not self.is_special[i]))
        self._opens_word = np.zeros(self.vocab_size, bool)
        word_piece = isinstance(backend.model, models.WordPiece)
        for token, i in vocab.items():
            self._opens_word[i] = not token.startswith("##") if word_piece else token[0] in _BYTE_LEVEL_SPACES
        self._opens_word |= self.is_special

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without special tokens."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once, on all cores."""
        return [e.ids for e in self._backend.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special ones come out by name, bytes that are no UTF-8 as U+FFFD."""
        return self._backend.decode(ids, skip_special_tokens=False)

    def word_starts(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """[n] bool: where a word begins. The first token, specials and what follows them always begin one.

        BPE words are what blanks separate ("horse." is one word); WordPiece words also end at punctuation.
        """
        tokens = np.asarray(ids, np.int64)
        starts = self._opens_word[tokens]
        starts[:1] = True
        starts[1:] |= self.is_special[tokens[:-1]]
        return starts

    def to_json(self) -> str:
        """Everything, in the format of the library `tokenizers`."""
        return self._backend.to_str()

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json, from which `load_tokenizer` makes an equal tokenizer."""
        with atomic_write(Path(folder) / FILE) as file:
            file.write(self.to_json().encode())


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder; see the module for the files.

    Raises:
        DataError: no vocabulary, a part of one, or files that do not fit together.
    """
    folder = Path(folder)
    patterns = (FILE, "*encoder.json", "*vocab.bpe", "*vocab.txt", "vocab.json", "merges.txt")
    found = {pattern: sorted(folder.glob(pattern)) for pattern in patterns}
    several = [", ".join(p.name for p in paths) for paths in found.values() if len(paths) > 1]
    if several:
        raise DataError(f"{folder} holds several vocabularies ({'; '.join(several)}); keep one")
    json_file, encoder, merges, vocab, vocab_json, merges_txt = (
        paths[0] if paths else None for paths in found.values()
    )
    try:
        if json_file:
            return Tokenizer(_from_json(json_file.read_text(encoding="utf-8")))
        if encoder and merges and vocab:
            return Tokenizer(_release_bpe(encoder, merges, vocab))
        if vocab_json and merges_txt:
            table = json.loads(vocab_json.read_text(encoding="utf-8"))
            return Tokenizer(_byte_level_bpe(_our_specials(table), _read_merges(merges_txt), table))
        if vocab and not encoder and not merges:
            return Tokenizer(_word_piece(vocab, _lower_cased(folder)))
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    except Exception as error:  # tokenizers raises plain Exception for a malformed file
        raise DataError(f"the vocabulary files of {folder} are damaged ({error}); fetch them again") from error
    there = ", ".join(p.name for paths in found.values() for p in paths) or "none of these"
    raise DataError(
        f"no tokenizer in {folder}: it needs tokenizer.json, or *encoder.json with *vocab.bpe and *vocab.txt, or "
        f"vocab.json with merges.txt, or vocab.txt; it has {there}"
    )


def _from_json(text: str) -> tokenizers.Tokenizer:
    """tokenizer.json of Hugging Face; that of RoBERTa is made anew with our names of the special tokens."""
    model = json.loads(text)["model"]
    if not ROBERTA_SPECIALS.keys() <= model["vocab"].keys():
        return tokenizers.Tokenizer.from_str(text)
    merges = [_merge(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    return _byte_level_bpe(_our_specials(model["vocab"]), merges, model["vocab"])


def _our_specials(vocab: dict[str, int]) -> dict[str, int]:
    """RoBERTa's vocabulary with our names of the special tokens."""
    taken = set(SPECIALS) & vocab.keys()
    if taken and ROBERTA_SPECIALS.keys() & vocab.keys():
        raise DataError(f"the vocabulary has both RoBERTa's special tokens and {', '.join(sorted(taken))}")
    return {ROBERTA_SPECIALS.get(token, token): i for token, i in vocab.items()}


def _byte_level_bpe(
    vocab: dict[str, int], merges: list[tuple[str, str]], symbols: Iterable[str]
) -> tokenizers.Tokenizer:
    """A tokenizer of a table of ids and its merges; every byte must be one of the `symbols`."""
    lost = set(pre_tokenizers.ByteLevel.alphabet()).difference(symbols)
    if lost:
        raise DataError(f"the vocabulary lacks {len(lost)} of the 256 byte symbols; it is not byte-level BPE")
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merge(parts: list[str]) -> tuple[str, str]:
    first, second = parts
    return first, second


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of merges.txt or vocab.bpe; the first line is the format's version."""
    return [_merge(line.split(" ")) for line in path.read_text(encoding="utf-8").split("\n")[1:] if line]


def _release_bpe(encoder_file: Path, merges_file: Path, vocab_file: Path) -> tokenizers.Tokenizer:
    """The release's three files. encoder.json gives a BPE string its GPT-2 id; vocab.txt lists that id, written in
    decimal, on the line whose number is the final id. Here the two are joined into one table."""
    encoder: dict[str, int] = json.loads(encoder_file.read_text(encoding="utf-8"))
    lines = _read_vocab(vocab_file)
    unlisted = [token for token, i in encoder.items() if str(i) not in lines]
    if unlisted:
        raise DataError(
            f"{len(unlisted)} ids of {encoder_file.name} are not in {vocab_file.name}, such as {unlisted[0]!r}"
        )
    numbers = {str(i) for i in encoder.values()}
    vocab = {token: i for token, i in lines.items() if token not in numbers}  # [CLS], ..., made-up words
    vocab |= {token: lines[str(i)] for token, i in encoder.items()}
    return _byte_level_bpe(vocab, _read_merges(merges_file), encoder)


def _lower_cased(folder: Path) -> bool:
    """Whether Hugging Face's or PaddleNLP's settings beside a vocab.txt ask for lower case, as both do by default."""
    path = folder / SETTINGS
    return not path.is_file() or json.loads(path.read_text(encoding="utf-8")).get("do_lower_case", True)


def _word_piece(vocab_file: Path, lower_case: bool) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(models.WordPiece(_read_vocab(vocab_file), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    with vocab_file.open(encoding="utf-8") as lines:
        if "\t" in lines.readline():
            symbols = pre_tokenizers.Split(tokenizers.Regex(PADDLENLP_SYMBOLS), "isolated")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), symbols])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _read_vocab(path: Path) -> dict[str, int]:
    """Token -> id from lines `token` (id = line number) or `token<TAB>id`, up to the first line of more columns."""
    vocab = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")):
        columns = line.strip().split("\t")
        if len(columns) > 2:
            break
        vocab[columns[0].strip()] = int(columns[1]) if len(columns) == 2 else number
    return vocab


# How the byte-level alphabet writes tab, line feed, vertical tab, form feed, carriage return and blank.
_BYTE_LEVEL_SPACES = frozenset(chr(256 + b) for b in (9, 10, 11, 12, 13, 32))
