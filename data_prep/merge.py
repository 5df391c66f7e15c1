"""Parts that `--shard i/n` runs wrote -> one output, byte for byte what a single run writes (regions: row for row)."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.stage import WHOLE, Shard, beside, read_manifest, write_manifest
from unimo.errors import DataError
from unimo.readers.annotations import write_jsonl
from unimo.readers.feature_store import FeatureStore, StoreWriter
from unimo.readers.token_shards import TokenShards, TokenShardWriter, is_tokens
from unimo.storage.atomic import atomic_write

SAME = ("stage", "settings", "inputs", "packages", "versions")  # in the manifests of all parts
LISTS = ("rejects.jsonl", "neighbours.jsonl", "credits.jsonl")  # what lies beside a part


def merge(out: Path) -> str:
    """Join the parts of `out` that lie beside it, and their lists of rejects and manifests. The parts stay.

    Raises:
        DataError: a part is missing or unfinished, or parts were made with other settings, inputs or versions.
    """
    parts = _parts(out)
    manifests = [read_manifest(part) for part in parts]
    for part, manifest in zip(parts, manifests):
        differing = [key for key in SAME if manifest.get(key) != manifests[0].get(key)]
        if differing:
            raise DataError(f"{part} was made with other {', '.join(differing)} than {parts[0]}; make it again")
    if not any(sum(manifest["counts"].values()) for manifest in manifests):
        raise DataError(f"{out}: all parts are empty; their lists of rejects say why")
    if parts[0].is_dir():
        (_join_tokens if is_tokens(parts[0]) else _join_stores)(parts, out)
    else:
        with atomic_write(out) as file:
            for part in parts:
                file.write(part.read_bytes())
    for name in LISTS:
        if all(beside(part, name).exists() for part in parts):
            write_jsonl(beside(out, name), _lines(beside(part, name) for part in parts))
    counts: Counter[str] = Counter()
    rejects: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest["counts"])
        rejects.update(manifest["rejects"])
    seconds = sum(manifest["seconds"] for manifest in manifests)
    merged = {"shard": str(WHOLE), "counts": dict(counts), "rejects": dict(rejects), "seconds": seconds}
    write_manifest(out, manifests[0] | merged)
    return f"{out}: {len(parts)} parts, " + ", ".join(f"{n:,} {what}" for what, n in counts.items())


def _parts(out: Path) -> list[Path]:
    """All parts of `out`, in order."""
    name = re.compile(re.escape(out.stem) + r"\.(\d+)-of-(\d+)" + re.escape(out.suffix))
    counts = {int(m[2]) for m in (name.fullmatch(p.name) for p in out.parent.glob("*")) if m}
    if len(counts) != 1:
        found = " and ".join(f"parts of {n}" for n in sorted(counts)) or "no part"
        raise DataError(f"{out}: {found} beside it; expected one set, as {Shard(1, 8).place(out).name}")
    count = counts.pop()
    parts = [Shard(number, count).place(out) for number in range(1, count + 1)]
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise DataError(f"{out}: of {count} parts {', '.join(missing)} are missing; run them with --shard")
    return parts


def _join_stores(parts: list[Path], out: Path) -> None:
    stores = [FeatureStore(part) for part in parts]
    header = stores[0].header
    fixed = {key: header[key] for key in ("feature_dim", "class_names", "extractor")}
    with StoreWriter(out, **fixed) as writer:
        for store in stores:
            for image_id in store.ids:
                if image_id not in writer:  # an earlier merge was stopped here
                    writer.add(store.read(image_id))


def _join_tokens(parts: list[Path], out: Path) -> None:
    """The shards that one run writes: a part's end is no shard's end."""
    stores = [TokenShards(part) for part in parts]
    header = stores[0].header
    made_from = header["made_from"] | {"shard": str(WHOLE)}
    writer = TokenShardWriter(out, header["tokenizer"], header["vocab_size"], made_from)
    done, seen = writer.counts()["texts"], 0  # an earlier merge was stopped there
    for store in stores:
        for tokens in store.texts():
            seen += 1
            if seen > done:
                writer.add(tokens)
                if writer.full:
                    writer.commit({})
    size = sum(store.header["state"]["rejects_bytes"] for store in stores)
    writer.commit({"rejects_bytes": size}, complete=True)


def _lines(paths: Iterator[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with open(path, encoding="utf-8") as file:
            yield from map(json.loads, file)
