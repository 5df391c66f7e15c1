"""Every place where bytes that others wrote come in: valid inputs, and what reads them as the commands do.

A door is made in the process that opens it, because some of its inputs are made by libraries.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.corpora import text
from tests.conftest import WORDS
from tests.data_prep.regions import foreign_features as foreign
from tests.port import fuzz
from tests.port.text_folders import random_tensors, write_library_folder
from tests.reliability.data_doors import DATA_DOORS, PAIRS, SENTENCE
from tests.reliability.door import Door, files_of, json_lines, write_files
from unimo.config import ROOT
from unimo.engine import checkpoint
from unimo.engine.model_folder import write_model
from unimo.finetune.family import load_recipe
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.port.bert import BERT
from unimo.port.interchange import Options
from unimo.pretrain.systems import read_recipe
from unimo.readers.annotations import read_images, read_pairs, read_rewrites, read_texts, write_jsonl
from unimo.readers.feature_store import FeatureStore
from unimo.readers.token_shards import TokenShards
from unimo.readers.tokenizer import load_tokenizer
from unimo.zoo import from_pretrained
from unimo.zoo.pretrained import read_any

# Recipes.


def _recipes(scratch: Path) -> Door:
    """Each recipe of the repository, with overrides."""
    sizes = {"sizes.yaml": (ROOT / "model_configs/models/unimo_tiny.yaml").read_bytes()}
    inputs = []
    for kind in ("pretrain", "finetune"):
        for path in sorted((ROOT / "model_configs" / kind).glob("*.yaml")):
            given = {
                f"{kind}.yaml": path.read_bytes(),
                "overrides": b"engine.steps=3\nengine.epochs=null\nengine.seed=7",
            }
            inputs.append(given | sizes if path.name == "unimo_base.yaml" else given)

    def run(folder: Path) -> object:
        overrides = (folder / "overrides").read_bytes().decode("utf-8", "surrogateescape").split("\n")
        if (folder / "sizes.yaml").exists():
            overrides += [f"model={folder / 'sizes.yaml'}", "max_tokens=16", "max_regions=8"]
        if (folder / "pretrain.yaml").exists():
            return read_recipe(folder / "pretrain.yaml", overrides)
        return load_recipe(folder / "finetune.yaml", overrides, None)

    return Door(inputs, run)


# Annotations.


def _annotations(name: str) -> Door:
    rewrite = {
        "caption_id": "made-0#0",
        "image_id": "made-0",
        "caption": "A tree 0.",
        "graph": {"objects": ["tree"]},
        "positives": [{"text": "One tree.", "engine": "hand", "similarity": 0.5}],
        "negatives": [{"text": "A car 0.", "kind": "object", "from": "tree", "to": "car"}],
        "similar_images": ["made-1"],
        "similar_texts": ["A bush."],
    }
    contents = {
        "pairs": PAIRS,
        "images": [
            {"image_id": "a", "image": "a.jpg", "source": "made"},
            {"image_id": "b", "image": "b", "source": ""},
        ],
        "texts": [{"id": "1", "text": "Some words.", "source": "made"}, {"id": "2", "text": "字", "source": "made"}],
        "rewrites": [rewrite, rewrite | {"caption_id": "made-0#1", "caption": "Ein Baum ü"}],
    }
    read: dict[str, Callable[[Path], Any]] = {
        "pairs": read_pairs,
        "images": read_images,
        "texts": read_texts,
        "rewrites": lambda path: read_rewrites(path, read_pairs(path.with_name("pairs.jsonl"))).values(),
    }

    def run(folder: Path) -> object:
        return write_jsonl(folder / "again.jsonl", read[name](folder / f"{name}.jsonl"))

    files = {f"{name}.jsonl": json_lines(contents[name])}
    return Door([files | ({"pairs.jsonl": json_lines(PAIRS)} if name == "rewrites" else {})], run)


# Vocabularies, models and stores.


def _tokenizers(scratch: Path) -> Door:
    word_piece = "\n".join(WORDS).encode()
    settings = {"tokenizer_config.json": b'{"do_lower_case": true, "strip_accents": null, "model_max_length": 512}'}
    bpe = files_of(ROOT / "tests/fixtures/bpe")
    del bpe["make.py"]
    paddle_nlp = "".join(f"{word}\t{i}\n" for i, word in enumerate(WORDS)).encode()
    inputs = [bpe, {"vocab.txt": word_piece} | settings, {"vocab.txt": paddle_nlp}]
    for number, files in enumerate(inputs[:2]):
        write_files(scratch / str(number), files)
        load_tokenizer(scratch / str(number)).save(scratch)
        inputs.append({"tokenizer.json": (scratch / "tokenizer.json").read_bytes()})
    table = json.loads(bpe["fixture.encoder.json"])
    table |= {name: len(table) + i for i, name in enumerate(("<s>", "<pad>", "</s>", "<unk>", "<mask>"))}
    inputs.append({"vocab.json": json.dumps(table).encode(), "merges.txt": bpe["fixture.vocab.bpe"]})

    def run(folder: Path) -> object:
        tokenizer = load_tokenizer(folder)
        ids = tokenizer.encode(SENTENCE)
        return tokenizer.decode(ids), tokenizer.word_starts(ids), tokenizer.encode_batch([SENTENCE, ""])

    return Door(inputs, run)


def _model(scratch: Path, marked: bool) -> Door:
    """A model folder, with the marker that holds sizes and checksums of the other files, or without one."""
    (scratch / "vocab.txt").write_text("\n".join(WORDS))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": len(WORDS)}
    sizes |= {"max_position_embeddings": 16, "image_embedding_size": 4, "image_class_size": 3}
    model = Unimo(UnimoConfig(**sizes), ("lm", "match"))
    write_model(scratch / "model", model, load_tokenizer(scratch))
    if not marked:
        (scratch / "model" / checkpoint.MARKER).unlink()

    def run(folder: Path) -> object:
        return {name: tensor.numpy() for name, tensor in from_pretrained(folder).state_dict().items()}

    return Door([files_of(scratch / "model")], run, memory=256 << 20)


def _library_model(scratch: Path) -> Door:
    """BERT of another library: config.json, model.safetensors, vocab.txt."""
    vocabulary = "\n".join([*WORDS, *(f"w{i}" for i in range(40 - len(WORDS)))])
    write_library_folder(scratch / "bert", BERT, random_tensors(BERT), vocabulary)

    def run(folder: Path) -> object:
        found, _ = read_any(folder, Options(system="unimo"))
        return [np.array(tensor.read()) for tensor in found.tensors.values()]

    return Door([files_of(scratch / "bert")], run, memory=256 << 20)


def _weights(form: str, scratch: Path) -> Door:
    """A format of tests/port/fuzz.py, which has more mutations of these and more that it watches for."""
    inputs = [{f"weights.{form}": content} for content in fuzz.originals(scratch)[form] if b"Linear" not in content]
    if form == "index":
        inputs[0]["shard.safetensors"] = (scratch / "shard.safetensors").read_bytes()

    def run(folder: Path) -> object:
        return [np.array(tensor.read()) for tensor in fuzz.OPENERS[form](folder / f"weights.{form}")]

    return Door(inputs, run, fixed=("shard",))


def _store(scratch: Path) -> Door:
    (scratch / "in.tsv").write_text("\n".join(foreign.line("butd", i) for i in range(3)))
    foreign.run("butd", scratch / "in.tsv", scratch / "store")

    def run(folder: Path) -> object:
        store = FeatureStore(folder)
        records = [store.read(image_id) for image_id in store.ids]
        return store.fingerprint, [(np.array(r.features), r.locations(), r.scores.sum()) for r in records]

    files = files_of(scratch / "store")
    return Door([{name: files[name] for name in files if name.startswith(("index", "images", "shard"))}], run)


def _token_shards(scratch: Path) -> Door:
    (scratch / "vocab.txt").write_text("\n".join(WORDS))
    (scratch / "texts.txt").write_text(SENTENCE * 3)
    text.build([scratch / "texts.txt"], scratch, scratch / "out")
    files = files_of(scratch / "out")
    inputs = [{name: files[name] for name in files if name.startswith(("index", "tokens"))}]
    return Door(inputs, lambda folder: [ids.tolist() for ids in TokenShards(folder).texts()])


JSONL = {name: lambda scratch, name=name: _annotations(name) for name in ("pairs", "images", "texts", "rewrites")}
WEIGHTS = {f"weights-{form}": lambda scratch, form=form: _weights(form, scratch) for form in fuzz.OPENERS}
DOORS: dict[str, Callable[[Path], Door]] = {
    **DATA_DOORS,
    "recipes": _recipes,
    **JSONL,
    "tokenizers": _tokenizers,
    "model-folder": lambda scratch: _model(scratch, marked=True),
    "model-files": lambda scratch: _model(scratch, marked=False),
    "library-folder": _library_model,
    **WEIGHTS,
    "feature-store": _store,
    "token-shards": _token_shards,
}
