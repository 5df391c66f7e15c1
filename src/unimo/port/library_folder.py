"""Model folders as Hugging Face and PaddleNLP lay them out: config.json, model.safetensors, vocabulary files."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unimo.engine.checkpoint import MODEL
from unimo.errors import CheckpointError
from unimo.port.weights import Stored
from unimo.readers.tokenizer import FILE, PADDLENLP_SYMBOLS, ROBERTA_SPECIALS, SETTINGS, Tokenizer, load_tokenizer
from unimo.storage.atomic import new_folder
from unimo.storage.json_files import read_json
from unimo.storage.safetensors_writer import write_safetensors_to

CONFIGS = ("config.json", "model_config.json")  # the second is that of PaddleNLP before 2.5
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")


def read_config(folder: Path, defaults: Mapping[str, Any]) -> dict[str, Any] | None:
    """The values of a folder's config over a library's `defaults`, or None where it has no config.

    Raises:
        CheckpointError: it is not a json object.
    """
    path = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    if path is None:
        return None
    return {**defaults, **_plain(read_json(path, CheckpointError))}


def model_type(config: Mapping[str, Any], known: Mapping[str, str]) -> str | None:
    """The model type that a library's config states, by that name or by the name of a class; None where it has neither.

    Args:
        known: model types -> what the names of their classes begin with.
    """
    if config.get("model_type"):
        return str(config["model_type"])
    named = config.get("architectures") or config.get("init_class")
    name = str(named[0] if isinstance(named, list) else named) if named else None
    start = re.sub(r"(LMHead|PreTrained)?Model$|For[A-Z]\w*$", "", name or "")
    return next((kind for kind, classes in known.items() if classes == start), name)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values of model_config.json, whose `init_args` hold them, or hold the config of the encoder inside the model."""
    found = {key: value for key, value in values.items() if key != "init_args"}
    inner = values.get("init_args")
    for part in inner if isinstance(inner, list) else [inner]:
        if isinstance(part, dict):
            found = {**found, **_plain(part)}
    return found


def read_vocabulary(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder that has one."""
    return load_tokenizer(folder) if any((folder / name).is_file() for name in VOCABULARIES) else None


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Stored],
    framework: str,
    write_more: Callable[[Path], None] | None = None,
) -> None:
    """Write a whole folder or nothing, one tensor at a time.

    Args:
        framework: what the header of the weights names: "pt" for transformers, "np" for PaddleNLP.
        write_more: adds other files.

    Raises:
        CheckpointError: `folder` exists and is not empty, or the operating system refused.
    """
    with new_folder(folder) as temporary:
        shapes = {name: (tensor.dtype.name, list(tensor.shape)) for name, tensor in tensors.items()}
        arrays = (tensor.read() for tensor in tensors.values())
        with open(temporary / MODEL, "wb") as file:
            write_safetensors_to(file, shapes, arrays, {"format": framework})
        (temporary / CONFIGS[0]).write_text(json.dumps(config, indent=2), encoding="utf-8")
        if write_more is not None:
            write_more(temporary)


def write_vocabulary(folder: Path, tokenizer: Tokenizer) -> list[str]:
    """Hugging Face's files: vocab.txt for WordPiece; for BPE RoBERTa's vocab.json and merges.txt. Returns notes."""
    values = json.loads(tokenizer.to_json())
    vocab = values["model"]["vocab"]
    if not plain(values):
        theirs = {ours: name for name, ours in ROBERTA_SPECIALS.items()} if values["model"]["type"] == "BPE" else {}
        values["model"]["vocab"] = {theirs.get(token, token): i for token, i in vocab.items()}
        _write(folder / FILE, json.dumps(values, ensure_ascii=False))
        return ["the vocabulary has settings that only a tokenizer.json holds, so it was written as one"]
    if values["model"]["type"] == "WordPiece":
        _write(folder / "vocab.txt", "".join(f"{token}\n" for token in by_line(vocab)))
        settings = {"tokenizer_class": "BertTokenizer", **word_piece_settings(values)}
        differs = "BertTokenizer does not split at symbols, as this vocabulary's own does"
        notes = [differs] if splits_symbols(values) else []
    else:
        theirs = {ours: name for name, ours in ROBERTA_SPECIALS.items()}
        vocab = {theirs.get(token, token): i for token, i in sorted(vocab.items(), key=lambda item: item[1])}
        _write(folder / "vocab.json", json.dumps(vocab, ensure_ascii=False))
        pairs = (merge if isinstance(merge, str) else " ".join(merge) for merge in values["model"]["merges"])
        _write(folder / "merges.txt", "\n".join(["#version: 0.2", *pairs]) + "\n")
        settings, notes = (
            {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": values["pre_tokenizer"]["add_prefix_space"]},
            [],
        )
    _write(folder / SETTINGS, json.dumps(settings, indent=2))
    return notes


def splits_symbols(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a WordPiece tokenizer, as json, splits words as PaddleNLP does and not as BERT."""
    return tokenizer["pre_tokenizer"]["type"] == "Sequence"


def word_piece_settings(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """What a tokenizer_config.json says of a `plain` WordPiece tokenizer; lower case is always said."""
    normalizer = tokenizer["normalizer"]
    found = {"do_lower_case": normalizer["lowercase"]}
    if normalizer["strip_accents"] is not None:
        found["strip_accents"] = normalizer["strip_accents"]
    return found if normalizer["handle_chinese_chars"] else {**found, "tokenize_chinese_chars": False}


def plain(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer, as json, is what its vocabulary's files and a tokenizer_config.json can say."""
    model, normalizer, splitter = tokenizer["model"], tokenizer["normalizer"], tokenizer["pre_tokenizer"] or {}
    if any(not token["special"] for token in tokenizer["added_tokens"]):
        return False
    if model["type"] == "WordPiece":
        steps = splitter["pretokenizers"] if splitter.get("type") == "Sequence" else [splitter]
        split = [{"Regex": PADDLENLP_SYMBOLS}] if len(steps) == 2 else []
        return (
            (normalizer or {}).get("type") == "BertNormalizer"
            and normalizer["clean_text"]
            and model["continuing_subword_prefix"] == "##"
            and steps[0].get("type") == "BertPreTokenizer"
            and [step.get("pattern") for step in steps[1:]] == split
        )
    odd = ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    usual = splitter.get("type") == "ByteLevel" and splitter.get("use_regex", True)
    return normalizer is None and usual and not any(model.get(key) for key in odd)


def by_line(vocab: Mapping[str, int]) -> list[str]:
    """Tokens in the order of their ids; ids that no token has get a name of their own."""
    tokens = {i: token for token, i in vocab.items()}
    return [tokens.get(i, f"[no token {i}]") for i in range(max(tokens) + 1)]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
