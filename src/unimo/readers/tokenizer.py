"""Text <-> ids through the Hugging Face `tokenizers` library: the release's byte-level BPE, and BERT's WordPiece.

`load_tokenizer(folder)` takes, in this order, what the folder holds:
    tokenizer.json                                     as `Tokenizer.save` writes it, or one of Hugging Face
    *encoder.json, *vocab.bpe and *vocab.txt           byte-level BPE, cased, ids by vocab.txt (UNIMO, UNIMO-2)
    vocab.json and merges.txt                          byte-level BPE, cased (RoBERTa of Hugging Face)
    vocab.txt                                          WordPiece (BERT, MiniLM, PaddleNLP), lower-cased unless
                                                       `do_lower_case: false`; lines of `token<TAB>id`
                                                       are PaddleNLP's, which also splits at symbols (20℃, €5)

The settings do_lower_case, strip_accents, tokenize_chinese_chars (WordPiece) and add_prefix_space (BPE) of a
tokenizer_config.json are obeyed; so are normalizer, pre_tokenizer and added tokens of a tokenizer.json, whose ids are
those of the library. What is not obeyed is refused by name: `_check_settings`, `_check_agreement`, `_from_json`.
RoBERTa's names of the special tokens become ours: <s> [CLS], <pad> [PAD], </s> [SEP], <unk> [UNK], <mask> [MASK].
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write
from unimo.storage.encodings import open_text, text_of
from unimo.storage.json_files import read_json

SPECIALS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
PIECE = 1 << 16  # characters encoded at once (ours)
_BETWEEN_WORDS = re.compile(r"(?<=\S) (?=\S)")
MOST_IDS = 1 << 22  # rows of a word table; the largest published ones have a million
FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
# what _is_symbol of its tokenizer_utils.py takes
PADDLENLP_SYMBOLS = r"[\p{S}\x{00B2}\x{00B5}\x{00BA}\x{00D8}\x{014B}\x{01B1}\x{3007}]"
# of a tokenizer_config.json -> what the library calls it
_SWITCHES = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# settings that files without a tokenizer.json are read with, whatever they say
_FIXED_BPE, _FIXED_WORD_PIECE = {"do_lower_case": False}, {"do_basic_tokenize": True, "wordpieces_prefix": "##"}
_READ = "byte-level BPE and WordPiece are read"
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
        unknown = getattr(backend.model, "unk_token", None)
        if unknown is not None and backend.model.token_to_id(unknown) is None:  # added tokens do not count for it
            raise DataError(f"the model's table lacks its token for unknown words, {unknown[:100]!r}")
        self.cls_id, self.pad_id, self.sep_id, self.unk_id, self.mask_id = (vocab[s] for s in SPECIALS)
        self.vocab_size = max(vocab.values()) + 1
        if self.vocab_size > MOST_IDS:
            raise DataError(f"the vocabulary has the id {self.vocab_size - 1}, expected ids below {MOST_IDS}")
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
        parts = (text,) if len(text) <= PIECE else pieces(text)
        return [i for part in parts for i in self._backend.encode(part, add_special_tokens=False).ids]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once, on all cores."""
        short = [text for text in texts if len(text) <= PIECE]
        encoded = iter(self._backend.encode_batch(short, add_special_tokens=False))
        return [next(encoded).ids if len(text) <= PIECE else self.encode(text) for text in texts]

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


def pieces(text: str) -> Iterator[str]:
    """A long text cut before single blanks between two words, where no vocabulary has a token across: byte-level words
    begin with their blank, WordPiece drops it. The library takes some 430 bytes a character while it encodes; a text
    without blanks is cut anyhow."""
    first = 0
    while len(text) - first > PIECE:
        between = _BETWEEN_WORDS.search(text, first + PIECE, first + 4 * PIECE)
        cut = between.start() if between else first + 4 * PIECE
        yield text[first:cut]
        first = cut
    if first < len(text):
        yield text[first:]


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
        settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
        _check_settings(settings, {} if json_file else _FIXED_BPE if vocab_json else _FIXED_WORD_PIECE)
        if json_file:
            return Tokenizer(_from_json(text_of(json_file.read_bytes()), settings))
        if encoder and merges and vocab:
            return Tokenizer(_release_bpe(encoder, merges, vocab))
        if vocab_json and merges_txt:
            table = json.loads(text_of(vocab_json.read_bytes()))
            return Tokenizer(_byte_level_bpe(_our_specials(table), _read_merges(merges_txt), table, settings))
        if vocab and not encoder and not merges:
            return Tokenizer(_word_piece(vocab, settings))
    except DataError as error:
        raise DataError(f"{folder}: {error}") from error
    except Exception as error:  # tokenizers raises plain Exception for a malformed file
        raise DataError(f"the vocabulary files of {folder} are damaged ({error}); fetch them again") from error
    there = ", ".join(p.name for paths in found.values() for p in paths) or "none of these"
    if any(folder.glob("*.model")):
        there += f", and a sentencepiece vocabulary; {_READ}"
    raise DataError(
        f"no tokenizer in {folder}: it needs tokenizer.json, or *encoder.json with *vocab.bpe and *vocab.txt, or "
        f"vocab.json with merges.txt, or vocab.txt; it has {there}"
    )


def _from_json(text: str, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """tokenizer.json of Hugging Face; that of RoBERTa with our names of the special tokens."""
    values = json.loads(text)
    model = values["model"]
    if model.get("type") in ("Unigram", "WordLevel") or isinstance(model["vocab"], list):
        kind = model.get("type") if model.get("type") == "WordLevel" else "Unigram (sentencepiece)"
        raise DataError(f"{FILE} is a {kind} vocabulary; {_READ}")
    if model.get("dropout"):
        raise DataError(
            f"dropout of {FILE} is {model['dropout']}, which gives a text other ids each time; set it to null"
        )
    top = max(i for i in model["vocab"].values())
    if top >= MOST_IDS:  # before the library takes memory
        raise DataError(f"the vocabulary has the id {top}, expected ids below {MOST_IDS}")
    _check_agreement(values, settings)
    if not ROBERTA_SPECIALS.keys() <= model["vocab"].keys():
        return tokenizers.Tokenizer.from_str(text)
    _check_bytes(model["vocab"])
    model["vocab"] = _our_specials(model["vocab"])
    model["unk_token"] = None  # every byte has a symbol
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        model[affix] = model.get(affix) or None
    values["added_tokens"] = [t for t in values.get("added_tokens", []) if t["content"] not in ROBERTA_SPECIALS]
    values["post_processor"] = None  # it only puts special tokens around a text
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(values))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _check_settings(settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Raise a DataError that names each setting that is no true or false, or not its `fixed` value."""
    allowed = {"strip_accents": (True, False, None)}
    wrong = [
        f"{key} is {settings[key]!r}, expected true or false"
        for key in (*_SWITCHES, "add_prefix_space")
        if key in settings and not any(settings[key] is value for value in allowed.get(key, (True, False)))
    ]
    wrong += [
        f"{key} is {settings[key]!r}, expected {value!r}"
        for key, value in fixed.items()
        if settings.get(key, value) != value
    ]
    if wrong:
        raise DataError(f"{SETTINGS}: {'; '.join(wrong)}; correct it, or give a tokenizer.json, whose ids are taken")


def _check_agreement(values: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise a DataError where a tokenizer_config.json states another value than the tokenizer.json beside it."""
    own: dict[str, Any] = {}
    normalizer, splitter = values.get("normalizer") or {}, values.get("pre_tokenizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        own = {key: normalizer.get(name) for key, name in _SWITCHES.items()}
    if splitter.get("type") == "ByteLevel":
        own["add_prefix_space"] = splitter.get("add_prefix_space")
    wrong = [
        f"{key} is {settings[key]!r} in {SETTINGS}, {value!r} in {FILE}"
        for key, value in own.items()
        if settings.get(key) is not None and settings[key] != value
    ]
    if wrong:
        raise DataError(f"{'; '.join(wrong)}: make them agree, by the one that the model was trained with")


def _our_specials(vocab: dict[str, int]) -> dict[str, int]:
    """RoBERTa's vocabulary with our names of the special tokens."""
    taken = set(SPECIALS) & vocab.keys()
    if taken and ROBERTA_SPECIALS.keys() & vocab.keys():
        raise DataError(f"the vocabulary has both RoBERTa's special tokens and {', '.join(sorted(taken))}")
    return {ROBERTA_SPECIALS.get(token, token): i for token, i in vocab.items()}


def _byte_level_bpe(
    vocab: dict[str, int], merges: list[tuple[str, str]], symbols: Iterable[str], settings: Mapping[str, Any]
) -> tokenizers.Tokenizer:
    """A tokenizer of a table of ids and its merges; every byte must be one of the `symbols`."""
    _check_bytes(symbols)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.get("add_prefix_space", False))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _check_bytes(symbols: Iterable[str]) -> None:
    lost = set(pre_tokenizers.ByteLevel.alphabet()).difference(symbols)
    if lost:
        raise DataError(f"the vocabulary lacks {len(lost)} of the 256 byte symbols; it is not byte-level BPE")


def _merge(parts: list[str]) -> tuple[str, str]:
    first, second = parts
    return first, second


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """The pairs of merges.txt or vocab.bpe; the first line is the format's version."""
    return [_merge(line.split(" ")) for line in text_of(path.read_bytes()).split("\n")[1:] if line]


def _release_bpe(encoder_file: Path, merges_file: Path, vocab_file: Path) -> tokenizers.Tokenizer:
    """The release's three files. encoder.json gives a BPE string its GPT-2 id; vocab.txt lists that id, written in
    decimal, on the line whose number is the final id. Here the two are joined into one table."""
    encoder: dict[str, int] = json.loads(text_of(encoder_file.read_bytes()))
    lines = _read_vocab(vocab_file)
    written = {token: str(i) for token, i in encoder.items()}
    unlisted = [token for token, number in written.items() if number not in lines]
    if unlisted:
        raise DataError(
            f"{len(unlisted)} ids of {encoder_file.name} are not in {vocab_file.name}, such as {unlisted[0]!r}"
        )
    numbers = set(written.values())
    vocab = {token: i for token, i in lines.items() if token not in numbers}  # [CLS], ..., made-up words
    vocab |= {token: lines[number] for token, number in written.items()}
    return _byte_level_bpe(vocab, _read_merges(merges_file), encoder, {})


def _word_piece(vocab_file: Path, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """BERT's and PaddleNLP's, with the defaults that both have."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(_read_vocab(vocab_file), unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=settings.get("do_lower_case", True),
        strip_accents=settings.get("strip_accents"),
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    with open_text(vocab_file) as lines:
        if "\t" in lines.readline():
            symbols = pre_tokenizers.Split(tokenizers.Regex(PADDLENLP_SYMBOLS), "isolated")
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), symbols])
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _read_vocab(path: Path) -> dict[str, int]:
    """Token -> id from lines `token` (id = line number) or `token<TAB>id`, up to the first line of more columns."""
    vocab = {}
    for number, line in enumerate(text_of(path.read_bytes()).removesuffix("\n").split("\n")):
        columns = line.strip().split("\t")
        if len(columns) > 2:
            break
        vocab[columns[0].strip()] = int(columns[1]) if len(columns) == 2 else number
    return vocab


# How the byte-level alphabet writes tab, line feed, vertical tab, form feed, carriage return and blank.
_BYTE_LEVEL_SPACES = frozenset(chr(256 + b) for b in (9, 10, 11, 12, 13, 32))
