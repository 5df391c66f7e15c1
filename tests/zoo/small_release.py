"""A small release in an archive, its catalogue entry, and the model that it holds."""

import io
import tarfile
from pathlib import Path

import numpy as np
import paddle

from unimo.config import ROOT
from unimo.models.unimo import Unimo
from unimo.port.interchange import Options, build
from unimo.port.release import read_release
from unimo.zoo.catalogue import Entry

FIXTURE = ROOT / "tests" / "fixtures" / "parity" / "unimo"
HEADS = ["pool", "lm", "match", "classify"]
VARIABLES, PARAMETERS = 71, 47_836


def pack(folder: Path, inside: str) -> bytes:
    """The folder as a .tar.gz with one folder inside."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, inside)
    return buffer.getvalue()


def entry(url: str, sizes: Path, **changes) -> Entry:
    """An entry of the small release at an address."""
    values = {"name": "tiny-en", "about": "small", "system": "unimo", "model": str(sizes), "url": url}
    values |= {"folder": "tiny_en", "heads": HEADS, "labels": 3, "rows": []}
    return Entry(**values | {"variables": VARIABLES, "parameters": PARAMETERS} | changes)


def reference() -> Unimo:
    """The small release's model."""
    return build(read_release(FIXTURE / "checkpoint", Options(config=FIXTURE / "config.json")))[0]


def same(model: paddle.nn.Layer, other: paddle.nn.Layer) -> bool:
    """Whether two models have the same parameters, bit for bit."""
    ours, theirs = (dict(m.named_parameters()) for m in (model, other))
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[n].numpy(), theirs[n].numpy()) for n in ours)
