"""Small folders of other libraries' text encoders, made with numpy and json alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from unimo.port.names.text_names import Library

HIDDEN, LAYERS, HEADS, VOCABULARY, ROWS = 16, 3, 4, 40, 20
SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]


def random_tensors(library: Library, rows: int = ROWS, types: int = 2, lm: bool = True) -> dict[str, np.ndarray]:
    """A model of the library's names and layout; every value is random."""
    rng = np.random.default_rng(5)
    groups = [library.embeddings, library.layer, library.head if lm else {}]
    shapes = {library.positions: (rows, HIDDEN), library.types: (types, HIDDEN)}
    for ours, theirs in ((o, t) for group in groups for o, ts in group.items() for t in ts):
        inner = 4 * HIDDEN if "inner" in ours else HIDDEN
        if ours == "word_embedding.weight":
            shape = (VOCABULARY, HIDDEN)
        elif ours == "lm.bias":
            shape = (VOCABULARY,)
        elif "norm" in ours or ours.endswith("bias"):
            shape = (inner,)
        else:
            shape = (4 * HIDDEN if "outer" in ours else HIDDEN, inner)
            shape = shape[::-1] if library.torch else shape
        shapes |= {theirs.format(i=i): shape for i in (range(LAYERS) if "{i}" in theirs else [0])}
    heads = {name for group in library.head.values() for name in group}
    return {
        (library.prefix if lm and name not in heads else "") + name: rng.normal(0, 0.2, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_library_folder(
    folder: Path, library: Library, tensors: dict[str, np.ndarray], vocabulary: str | None = None, **changes: Any
) -> Path:
    """config.json of the tensors' sizes with `changes`, model.safetensors, and a vocab.txt of that text."""
    rows = {
        key: next(len(t) for n, t in tensors.items() if n.endswith(name))
        for key, name in (("max_position_embeddings", library.positions), ("type_vocab_size", library.types))
    }
    config = {
        **{"model_type": library.model_type, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS},
        **{"num_attention_heads": HEADS, "intermediate_size": 4 * HIDDEN, "vocab_size": VOCABULARY},
        **rows,
        **changes,
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    if vocabulary is not None:
        (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    return folder
