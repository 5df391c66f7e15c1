import json
import shutil
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unimo.errors import DataError
from unimo.readers import tokenizer as tokenizer_module
from unimo.readers.tokenizer import Tokenizer, load_tokenizer

BPE = Path(__file__).parents[1] / "fixtures" / "bpe"
WORD_PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "man",
    "rid",
    "##ing",
    "##s",
    ".",
    "[",
    "]",
    "cl",
    "##s",
]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return load_tokenizer(BPE)


@pytest.fixture
def word_piece(tmp_path: Path) -> Tokenizer:
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(WORD_PIECES)) + "\n")
    return load_tokenizer(tmp_path)


class PlainBPE:
    """The algorithm of GPT-2's encoder.py with character classes by unicodedata; an independent statement of it."""

    # Unicode's White_Space property, which is what \s means in GPT-2's pattern
    SPACES = set(map(chr, [9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]))
    SPACES |= set(map(chr, [0x2028, 0x2029, 0x202F, 0x205F, 0x3000]))
    ENDINGS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")

    def __init__(self, folder: Path):
        self.encoder = json.loads((folder / "fixture.encoder.json").read_text())
        lines = (folder / "fixture.vocab.txt").read_text().splitlines()
        self.ids = {token: i for i, token in enumerate(lines)}
        pairs = (folder / "fixture.vocab.bpe").read_text().split("\n")[1:-1]
        self.ranks = {tuple(pair.split()): rank for rank, pair in enumerate(pairs)}
        printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
        others = [b for b in range(256) if b not in printable]
        self.symbols = {b: chr(b) for b in printable} | {b: chr(256 + n) for n, b in enumerate(others)}

    def kind(self, char: str) -> str:
        return (
            "space"
            if char in self.SPACES
            else {"L": "letter", "N": "number"}.get(unicodedata.category(char)[0], "other")
        )

    def pieces(self, text: str) -> list[str]:
        found, i = [], 0
        while i < len(text):
            ending = next((e for e in self.ENDINGS if text.startswith(e, i)), None)
            start = i + (text[i] == " " and i + 1 < len(text) and self.kind(text[i + 1]) != "space")
            end = start
            while end < len(text) and self.kind(text[end]) == self.kind(text[start]):
                end += 1
            if ending:
                end = i + len(ending)
            elif self.kind(text[start]) == "space" and end < len(text) and end - start > 1:
                end -= 1  # the last blank of a run belongs to what follows
            found.append(text[i:end])
            i = end
        return found

    def encode(self, text: str) -> list[int]:
        ids = []
        for piece in self.pieces(text):
            word = [self.symbols[b] for b in piece.encode()]
            while len(word) > 1:
                pair = min(zip(word, word[1:], strict=False), key=lambda p: self.ranks.get(p, len(self.ranks)))
                if pair not in self.ranks:
                    break
                merged, i = [], 0
                while i < len(word):
                    both = tuple(word[i : i + 2]) == pair
                    merged.append("".join(pair) if both else word[i])
                    i += 1 + both
                word = merged
            ids += [self.ids[str(self.encoder[symbol])] for symbol in word]
        return ids


def settled(char: str) -> bool:
    """Assigned since Unicode 3.2 with today's category, so that every Unicode version in use agrees on it."""
    return unicodedata.ucd_3_2_0.category(char) == unicodedata.category(char) != "Cn" and char != "\u180e"


CHARACTERS = st.characters(exclude_categories=["Cs", "Cn", "Co"]).filter(settled)
WORDS = st.sampled_from([" man", "riding", " don't", "'ll", " 12", " the beach", ".", "  ", "\n", " [SEP]", "horse's"])
TEXTS = st.lists(st.one_of(WORDS, st.text(CHARACTERS, max_size=8)), max_size=8).map("".join)


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
@example("a  man\n\n is   riding \t")
@example("It's 2012, isn't it?  Yes")
def test_bpe_agrees_with_the_plain_algorithm_and_decodes_back(bpe: Tokenizer, text: str):
    ids = bpe.encode(text)
    assert ids == PlainBPE(BPE).encode(text)
    assert bpe.decode(ids) == text


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_bpe(bpe: Tokenizer, text: str):
    assert bpe.decode(bpe.encode(text)) == text
    assert not bpe.is_special[bpe.encode(text)].any()


def test_bpe_special_tokens(bpe: Tokenizer):
    assert (bpe.cls_id, bpe.pad_id, bpe.sep_id, bpe.unk_id) == (0, 1, 2, 3)
    assert bpe.mask_id == bpe.vocab_size - 1 == 4 + 256 + 390 + 1
    assert bpe.sep_id not in bpe.encode("the end [SEP]")
    assert bpe.decode([bpe.cls_id, *bpe.encode("a man"), bpe.sep_id]) == "[CLS]a man[SEP]"
    assert bpe.decode(bpe.encode("é")[:1]) == "\N{REPLACEMENT CHARACTER}"


def test_bpe_words_start_at_blanks(bpe: Tokenizer):
    text = "riding a horse.\nTwo"
    ids = [bpe.cls_id, *bpe.encode(text), bpe.sep_id]
    starts = bpe.word_starts(ids)
    words, current = [], []
    for i, start in zip(ids, starts, strict=True):
        if start and current:
            words.append(bpe.decode(current))
            current = []
        current.append(i)
    assert [*words, bpe.decode(current)] == ["[CLS]", "riding", " a", " horse.", "\nTwo", "[SEP]"]
    assert bpe.word_starts([]).tolist() == []


def test_word_piece(word_piece: Tokenizer):
    ids = word_piece.encode("A man riding [CLS] zebras.")
    pieces = [WORD_PIECES[i] for i in ids]
    assert pieces == ["a", "man", "rid", "##ing", "[", "cl", "##s", "]", "[UNK]", "."]
    assert word_piece.word_starts(ids).tolist() == [True, True, True, False, True, True, False, True, True, True]
    assert word_piece.decode(ids[:4]) == "a man riding"
    assert (word_piece.cls_id, word_piece.pad_id, word_piece.mask_id, word_piece.vocab_size) == (2, 0, 4, 14)


@pytest.mark.parametrize("kind", ["bpe", "word_piece"])
def test_a_saved_tokenizer_is_equal(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    tokenizer: Tokenizer = request.getfixturevalue(kind)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    tokenizer.save(folder)
    again = load_tokenizer(folder)
    texts = ["A man riding", "[MASK] zebras", ""]
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode_batch(texts) == tokenizer.encode_batch(texts) == [tokenizer.encode(t) for t in texts]


def test_settings_of_a_foreign_file_do_not_matter(word_piece: Tokenizer, tmp_path: Path):
    """Sentence encoders ship tokenizer.json with truncation, padding and recognised special tokens."""
    foreign = tokenizers.Tokenizer.from_str((word_piece.save(tmp_path), (tmp_path / "tokenizer.json").read_text())[1])
    foreign.add_special_tokens(["[CLS]", "[SEP]"])
    foreign.enable_truncation(2)
    foreign.enable_padding(length=9)
    (tmp_path / "tokenizer.json").write_text(foreign.to_str())
    text = "a man riding [CLS]"
    assert load_tokenizer(tmp_path).encode(text) == word_piece.encode(text)


def test_vocab_with_explicit_ids_ends_at_a_line_of_more_columns(tmp_path: Path):
    lines = [f"{token}\t{i}" for i, token in enumerate((BPE / "fixture.vocab.txt").read_text().splitlines())]
    (tmp_path / "x.vocab.txt").write_text("\n".join([*reversed(lines), "a\t1\tb", "never read\t0"]) + "\n")
    for name in ("fixture.encoder.json", "fixture.vocab.bpe"):
        shutil.copy(BPE / name, tmp_path)
    text = "A man is riding a horse"
    assert load_tokenizer(tmp_path).encode(text) == load_tokenizer(BPE).encode(text)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: [p.unlink() for p in d.iterdir()], "no tokenizer in .* none of these"),
        (
            lambda d: (d / "fixture.vocab.bpe").unlink(),
            "no tokenizer in .* it has fixture.encoder.json, fixture.vocab.txt",
        ),
        (lambda d: truncate(d / "fixture.encoder.json"), "are damaged"),
        (lambda d: truncate(d / "fixture.vocab.txt"), "ids of fixture.encoder.json are not in fixture.vocab.txt"),
        (lambda d: (d / "fixture.vocab.bpe").write_text("#version\na b c\n"), "are damaged"),
        (lambda d: (d / "fixture.vocab.bpe").write_text("#version\nqq zz\n"), "are damaged"),
        (lambda d: (d / "fixture.encoder.json").write_text('{"a": 0}'), "lacks 255 of the 256 byte symbols"),
        (lambda d: shutil.copy(d / "fixture.vocab.txt", d / "b.vocab.txt"), "several vocabularies"),
        (lambda d: (d / "tokenizer.json").write_text("{}"), "are damaged"),
        (lambda d: (d / "fixture.vocab.txt").write_bytes(b"\xc3\x28"), "are damaged"),
    ],
)
def test_damaged_folders(tmp_path: Path, damage, message: str):
    folder = tmp_path / "vocab"
    shutil.copytree(BPE, folder, ignore=shutil.ignore_patterns("*.py"))
    damage(folder)
    with pytest.raises(DataError, match=message):
        load_tokenizer(folder)


def test_a_vocabulary_without_specials_is_refused(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("[UNK]\na\n")
    with pytest.raises(DataError, match=r"lacks \[CLS\], \[PAD\], \[SEP\], \[MASK\]"):
        load_tokenizer(tmp_path)


def test_an_unknown_token_that_is_only_added_is_refused(tmp_path: Path):
    """The library finds it by its name, and fails at the first word that it does not know."""
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(WORD_PIECES)))
    values = json.loads(load_tokenizer(tmp_path).to_json())
    (tmp_path / "vocab.txt").unlink()
    number = values["model"]["vocab"].pop("[UNK]")
    values["added_tokens"] = [{"id": number, "content": "[UNK]", "special": True, "single_word": False}]
    values["added_tokens"][0] |= {"lstrip": False, "rstrip": False, "normalized": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"lacks its token for unknown words, '\[UNK\]'"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_vocabulary_of_another_editor_is_the_same(encoding: str, tmp_path: Path):
    words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nd\u00f6g\n"
    for name, code in (("plain", "utf-8"), ("marked", encoding)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_bytes(words.encode(code))
    plain, marked = load_tokenizer(tmp_path / "plain"), load_tokenizer(tmp_path / "marked")
    assert plain.fingerprint == marked.fingerprint and plain.pad_id == 0


@pytest.mark.parametrize("kind", ["bpe", "word_piece"])
@given(
    st.lists(
        st.sampled_from(["a", " ", "  ", "\n", "horse", "It's", "狗", "ing", "3,000.", "\t", " é", "-"]), max_size=60
    )
)
@settings(deadline=None, max_examples=60)
def test_a_long_text_has_the_ids_that_it_has_in_one_piece(kind: str, request: pytest.FixtureRequest, parts: list[str]):
    tokenizer, text = request.getfixturevalue(kind), "".join(parts)
    whole = tokenizer._backend.encode(text, add_special_tokens=False).ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "PIECE", 7)
        if _cut_between_words(text):
            assert tokenizer.encode(text) == whole and tokenizer.encode_batch(["a", text])[1] == whole
        assert "".join(tokenizer_module.pieces(text)) == text
        assert all(len(piece) <= 4 * 7 for piece in tokenizer_module.pieces(text))


def _cut_between_words(text: str) -> bool:
    cut = list(tokenizer_module.pieces(text))
    return all(b[0] == " " and not a[-1].isspace() and not b[1:2].isspace() for a, b in zip(cut, cut[1:]))
