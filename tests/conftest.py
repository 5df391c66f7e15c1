"""What tests of several parts share: one small set of pairs, texts, rewrites and region features, written for real."""

import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from unimo.hardware import use_fast_gemm
from unimo.readers.annotations import write_jsonl
from unimo.readers.feature_store import RegionRecord, StoreWriter

use_fast_gemm()  # before any test's first matrix product

THINGS = ["cat", "dog", "horse", "boat", "train", "apple", "chair", "bird"]
COLOURS = ["red", "green", "blue", "white"]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "the",
    "on",
    "table",
    "near",
    "tree",
    "##s",
    *THINGS,
    *COLOURS,
]
FEATURES, CLASSES = 16, len(THINGS) + 1
HEEDED = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Signals as in a terminal, also where the tests were started to outlive theirs: what they start inherits it."""
    before = {number: signal.signal(number, handler) for number, handler in HEEDED.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs.jsonl (32 pictures, two captions each), images.jsonl, texts.jsonl, rewrites.jsonl with all
    four candidate sets, a feature store `regions` and a WordPiece `vocabulary`. Features tell thing and colour."""
    folder = tmp_path_factory.mktemp("small_world")
    rng = np.random.default_rng(0)
    (folder / "vocabulary").mkdir()
    (folder / "vocabulary" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    directions = rng.normal(size=(CLASSES + len(COLOURS), FEATURES))
    pairs, rewrites = [], []
    names = [(thing, colour) for thing in THINGS for colour in COLOURS]
    with StoreWriter(
        folder / "regions",
        feature_dim=FEATURES,
        class_names=["background", *THINGS],
        extractor={"name": "made", "version": "1"},
    ) as store:
        for number, (thing, colour) in enumerate(names):
            image_id = f"{colour}-{thing}"
            cv2.imwrite(str(folder / f"{image_id}.png"), np.full((20, 30, 3), 8 * number, np.uint8))
            store.add(record(image_id, THINGS.index(thing) + 1, COLOURS.index(colour), directions, rng))
            captions = [f"a {colour} {thing}", f"the {colour} {thing} on a table near the tree"]
            split = {3: "dev", 4: "test"}.get(number % 5, "train")
            pair = {"image_id": image_id, "image": f"{image_id}.png", "captions": captions, "split": split}
            pairs.append(pair | {"source": "made"})
            other = names[(number + 5) % len(names)]
            for k, caption in enumerate(captions):
                rewrites.append(rewrite(image_id, k, caption, thing, other))
    write_jsonl(folder / "pairs.jsonl", pairs)
    write_jsonl(folder / "rewrites.jsonl", rewrites)
    train = [p for p in pairs if p["split"] == "train"]
    write_jsonl(folder / "images.jsonl", [{k: p[k] for k in ("image_id", "image", "source")} for p in train])
    texts = [f"the {c} {t}s near a tree on the table" for t, c in names]
    write_jsonl(folder / "texts.jsonl", [{"id": str(i), "text": t, "source": "made"} for i, t in enumerate(texts)])
    return folder


def record(image_id: str, thing: int, colour: int, directions: np.ndarray, rng: np.random.Generator) -> RegionRecord:
    n = int(rng.integers(2, 7))
    corners = np.sort(rng.uniform(0, 1, (n, 2, 2)), axis=1).transpose(0, 1, 2).reshape(n, 4)
    meaning = directions[thing] + directions[CLASSES + colour]
    probs = np.full((n, CLASSES), 0.1 / CLASSES)
    probs[:, thing] += 0.9
    return RegionRecord(
        image_id,
        width=30,
        height=20,
        features=(meaning + 0.3 * rng.normal(size=(n, FEATURES))).astype(np.float16),
        boxes=(corners * [30, 20, 30, 20]).astype(np.float32),
        classes=np.full(n, thing),
        scores=np.linspace(0.9, 0.3, n, dtype=np.float32),
        class_probs=probs.astype(np.float16),
    )


def rewrite(image_id: str, k: int, caption: str, thing: str, other: tuple[str, str]) -> dict:
    wrong = caption.replace(thing, other[0])
    return {
        "caption_id": f"{image_id}#{k}",
        "image_id": image_id,
        "caption": caption,
        "graph": {},
        "positives": [{"text": caption.replace("a ", "the ", 1), "engine": "hand"}],
        "negatives": [
            {"text": wrong, "kind": "object", "from": thing, "to": other[0]},
            {"text": f"a {other[1]} {other[0]}", "kind": "tfidf"},
        ],
        "similar_images": [f"{other[1]}-{other[0]}"],
        "similar_texts": [f"the {thing}s near a tree"],
    }


@pytest.fixture
def small_recipe(small_world: Path) -> dict:
    """Values of a pre-training recipe on the small set: a tiny model, all streams, all objectives."""
    files = {name: str(small_world / f"{name}.jsonl") for name in ("pairs", "rewrites", "images", "texts")}
    return {
        "model": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": len(WORDS),
            "max_position_embeddings": 40,
            "image_embedding_size": FEATURES,
            "image_class_size": CLASSES,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        "tokenizer": str(small_world / "vocabulary"),
        "data": {**files, "regions": str(small_world / "regions")},
        "streams": {"text": 1, "image": 1, "pair": 2},
        "batch_positions": {"text": 128, "image": 64, "pair": 1024},
        "max_tokens": 24,
        "max_regions": 5,
        "contrast": {"temperature": 1.0},
        "weights": {"mlm": 1.0, "seq2seq": 1.0, "region_feature": 0.05, "region_class": 0.5, "cmcl": 1.0},
        "engine": {"steps": 6, "learning_rate": 1e-3, "log_every": 1, "save_every": 3},
    }
