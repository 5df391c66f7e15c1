"""Vocabularies of other libraries: their ids, their special tokens under our names, and their files written again."""

import json
import shutil
from pathlib import Path

import pytest
import tokenizers

from unimo.errors import DataError
from unimo.port.bert import BERT
from unimo.port.paddlenlp import PADDLENLP
from unimo.port.roberta import ROBERTA
from unimo.readers.tokenizer import Tokenizer, load_tokenizer

TEXTS = ["a man, naïve CAFÉ", "2022年在北京 20℃ 3×4", "<mask> [MASK] </s>", "🙂", "  two  blanks\t", ""]
CHINESE = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", *"年在北京℃×，", "20", "##22", "a", "man", "3", "4", "[UNK]"]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> Path:
    """A folder of RoBERTa's two files, as the library that trains such vocabularies writes them."""
    folder, trained = tmp_path_factory.mktemp("roberta"), tokenizers.ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(TEXTS * 3, 300, 2, special_tokens=specials, show_progress=False)
    trained.save_model(str(folder))
    return folder


def theirs(folder: Path) -> list[list[int]]:
    library = tokenizers.ByteLevelBPETokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    return [library.encode(text).ids for text in TEXTS]


def specials(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.cls_id, tokenizer.pad_id, tokenizer.sep_id, tokenizer.unk_id, tokenizer.mask_id]


def test_roberta(bpe: Path, tmp_path: Path):
    tokenizer = load_tokenizer(bpe)
    assert specials(tokenizer) == [0, 1, 2, 3, 4]
    assert tokenizer.encode_batch(TEXTS) == theirs(bpe)
    assert ROBERTA.write_vocabulary(tmp_path, tokenizer) == []
    assert json.loads((tmp_path / "vocab.json").read_text()) == json.loads((bpe / "vocab.json").read_text())
    assert theirs(tmp_path) == theirs(bpe)


@pytest.mark.parametrize("joined", [True, False])
def test_roberta_as_one_json(joined: bool, bpe: Path, tmp_path: Path):
    """Merges are pairs in files of today, and texts with a blank in older ones."""
    library = tokenizers.ByteLevelBPETokenizer(str(bpe / "vocab.json"), str(bpe / "merges.txt"))
    values = json.loads(library.to_str())
    if joined:
        values["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in values["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode_batch(TEXTS) == theirs(bpe) and specials(tokenizer) == [0, 1, 2, 3, 4]


def test_roberta_with_our_special_tokens_too_is_refused(bpe: Path, tmp_path: Path):
    vocab = json.loads((bpe / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps(vocab | {"[CLS]": len(vocab)}))
    (tmp_path / "merges.txt").write_text((bpe / "merges.txt").read_text())
    with pytest.raises(DataError, match=r"both RoBERTa's special tokens and \[CLS\]"):
        load_tokenizer(tmp_path)


def write_chinese(folder: Path, numbered: bool) -> None:
    lines = [f"{token}\t{i}" if numbered else token for i, token in enumerate(CHINESE)]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_paddlenlp_splits_at_symbols_and_bert_does_not(tmp_path: Path):
    found = {}
    for numbered in (True, False):
        write_chinese(tmp_path, numbered)
        found[numbered] = [CHINESE[i] for i in load_tokenizer(tmp_path).encode("2022年在北京 20℃，3×4 A")]
    start = ["20", "##22", "年", "在", "北", "京"]
    assert found[True] == [*start, "20", "℃", "，", "3", "×", "4", "a"]
    assert found[False] == [*start, "[UNK]", "，", "[UNK]", "a"]


def test_paddlenlp_there_and_back(tmp_path: Path):
    write_chinese(tmp_path, numbered=True)
    tokenizer = load_tokenizer(tmp_path)
    assert specials(tokenizer) == [1, 0, 2, len(CHINESE) - 1, 3]
    (tmp_path / "again").mkdir()
    assert PADDLENLP.write_vocabulary(tmp_path / "again", tokenizer) == []
    assert (tmp_path / "again" / "vocab.txt").read_text() == (tmp_path / "vocab.txt").read_text()
    again = load_tokenizer(tmp_path / "again")
    assert again.fingerprint == tokenizer.fingerprint
    (tmp_path / "bert").mkdir()
    assert "does not split at symbols" in BERT.write_vocabulary(tmp_path / "bert", tokenizer)[0]
    (tmp_path / "nlp").mkdir()
    plain = load_tokenizer(tmp_path / "bert")
    assert (
        "splits at symbols, as this vocabulary's own does not" in PADDLENLP.write_vocabulary(tmp_path / "nlp", plain)[0]
    )


def test_case_is_kept_where_the_settings_say_so(tmp_path: Path):
    write_chinese(tmp_path, numbered=False)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("a A") == [CHINESE.index("a"), tokenizer.unk_id]
    (tmp_path / "again").mkdir()
    BERT.write_vocabulary(tmp_path / "again", tokenizer)
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint


def test_ids_that_no_token_has_get_a_line(tmp_path: Path):
    tokens = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "a"]
    lines = "".join(f"{token}\t{2 * i}\n" for i, token in enumerate(tokens))
    (tmp_path / "vocab.txt").write_text(lines)
    tokenizer = load_tokenizer(tmp_path)
    (tmp_path / "bert").mkdir()
    BERT.write_vocabulary(tmp_path / "bert", tokenizer)
    assert load_tokenizer(tmp_path / "bert").encode("a") == tokenizer.encode("a") == [10]


def test_bpe_cannot_be_a_vocabulary_of_paddlenlp(bpe: Path, tmp_path: Path):
    notes = PADDLENLP.write_vocabulary(tmp_path, load_tokenizer(bpe))
    assert "WordPiece only" in notes[0] and load_tokenizer(tmp_path).encode_batch(TEXTS) == theirs(bpe)


ACCENTS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"öóoØøÖO京東", "öl", "ol", "Öl", "Ol", "京東", "##l", "##東"]
SETTINGS = [
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": False},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_beside_a_vocabulary_are_obeyed_and_written(settings: dict, tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("\n".join(ACCENTS) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    library = tokenizers.BertWordPieceTokenizer(
        str(tmp_path / "vocab.txt"),
        lowercase=settings["do_lower_case"],
        strip_accents=settings["strip_accents"],
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
    )
    texts = ["Öl öl Ø ol", "京東 ó O", "öl京東"]
    tokenizer = load_tokenizer(tmp_path)
    expected = [library.encode(text, add_special_tokens=False).ids for text in texts]
    assert tokenizer.encode_batch(texts) == expected
    for write in (BERT.write_vocabulary, PADDLENLP.write_vocabulary):
        (tmp_path / "again").mkdir(exist_ok=True)
        write(tmp_path / "again", tokenizer)
        assert load_tokenizer(tmp_path / "again").encode_batch(texts) == expected


def test_a_prefix_space_is_obeyed(bpe: Path, tmp_path: Path):
    shutil.copytree(bpe, tmp_path / "two")
    (tmp_path / "two" / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    files = [str(bpe / name) for name in ("vocab.json", "merges.txt")]
    library = tokenizers.ByteLevelBPETokenizer(*files, add_prefix_space=True)
    expected = [library.encode(text).ids for text in TEXTS]
    tokenizer = load_tokenizer(tmp_path / "two")
    assert tokenizer.encode_batch(TEXTS) == expected != theirs(bpe)
    (tmp_path / "again").mkdir()
    assert ROBERTA.write_vocabulary(tmp_path / "again", tokenizer) == []
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint


CHANGES = {
    "prefix": {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    },
    "lower": {"normalizer": {"type": "Lowercase"}},
    "sequence": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}},
    "digits": {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        }
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_ids_of_a_json_are_the_librarys(change: dict, bpe: Path, tmp_path: Path):
    values = json.loads(tokenizers.ByteLevelBPETokenizer(str(bpe / "vocab.json"), str(bpe / "merges.txt")).to_str())
    text = json.dumps(values | change)
    (tmp_path / "tokenizer.json").write_text(text)
    texts = [t for t in TEXTS if "<" not in t]  # special tokens in a text are ordinary text here
    expected = [e.ids for e in tokenizers.Tokenizer.from_str(text).encode_batch(texts, add_special_tokens=False)]
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode_batch(texts) == expected and specials(tokenizer) == [0, 1, 2, 3, 4]
    (tmp_path / "again").mkdir()
    ROBERTA.write_vocabulary(tmp_path / "again", tokenizer)
    assert load_tokenizer(tmp_path / "again").encode_batch(texts) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_lower_case": "false"}, "do_lower_case is 'false', expected true or false"),
        ({"strip_accents": 1}, "strip_accents is 1, expected true or false"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize is False, expected True"),
        ([], "expected an object with keys"),
    ],
)
def test_settings_that_are_not_obeyed_are_refused_by_name(settings: object, message: str, tmp_path: Path):
    write_chinese(tmp_path, numbered=False)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


def test_settings_that_contradict_the_json_are_refused(tmp_path: Path):
    write_chinese(tmp_path, numbered=False)
    (tmp_path / "json").mkdir()
    load_tokenizer(tmp_path).save(tmp_path / "json")
    (tmp_path / "json" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(DataError, match="do_lower_case is False in tokenizer_config.json, True in tokenizer.json"):
        load_tokenizer(tmp_path / "json")


def test_a_sentencepiece_vocabulary_is_refused_by_that_name(tmp_path: Path):
    library = tokenizers.Tokenizer(tokenizers.models.Unigram([("<unk>", 0.0), ("\u2581a", -1.0)], 0))
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"is a Unigram \(sentencepiece\) vocabulary; byte-level BPE and WordPiece are"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "spiece.model")
    with pytest.raises(DataError, match="and a sentencepiece vocabulary; byte-level BPE"):
        load_tokenizer(tmp_path)


def test_an_id_that_no_table_has_room_for_is_refused(bpe: Path, tmp_path: Path):
    values = json.loads(load_tokenizer(bpe).to_json())
    values["model"]["vocab"]["far"] = 3_000_000_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match="has the id 3000000000, expected ids below"):
        load_tokenizer(tmp_path)
