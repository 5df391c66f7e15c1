"""What the top of the page says: counts over all captions, by split, and how each file was made."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.stage import beside
from unimo.errors import DataError
from unimo.readers.annotations import Pair, Rewrite
from unimo.readers.captions import Captions
from unimo.readers.feature_store import FeatureStore
from unimo.readers.scene_graphs import read_graph
from unimo.storage.json_files import read_json

KINDS = ("object", "attribute", "relation", "tfidf")  # of negatives; what else a file holds comes after them
_FACTS = ("settings", "versions", "packages", "counts", "rejects")  # shown of a manifest


def kinds_of(rewrites: Iterable[Rewrite]) -> list[str]:
    """The known kinds of negatives, then further ones in the order of their first use."""
    return list(dict.fromkeys([*KINDS, *(n.kind for rewrite in rewrites for n in rewrite.negatives)]))


def count(
    pairs: Sequence[Pair], rewrites: Mapping[str, Rewrite], files: Mapping[str, Path], store: FeatureStore | None
) -> dict[str, Any]:
    """Two tables with a column for each split, and for all if there are several.

    Returns:
        splits: names of the columns.
        sizes: name -> number for each column.
        lists: name -> (captions with at least one, their share, mean number a caption) for each column.
    """
    groups: dict[str, list[Pair]]
    groups = {split: [p for p in pairs if p.split == split] for split in dict.fromkeys(p.split for p in pairs)}
    if len(groups) > 1:
        groups["all"] = list(pairs)
    captions = {split: Captions.of(group).ids for split, group in groups.items()}
    regions = dict(zip(store.ids, store.counts(store.ids).tolist())) if store else {}
    missing = {pair.image_id for pair in pairs if not files[pair.image_id].is_file()}
    sizes = {
        "pictures": [len(group) for group in groups.values()],
        "pictures whose file is missing": [sum(p.image_id in missing for p in group) for group in groups.values()],
        "pictures without regions": [sum(not regions.get(p.image_id) for p in group) for group in groups.values()],
        "captions": [len(keys) for keys in captions.values()],
        "captions without a record of rewrites": [sum(k not in rewrites for k in keys) for keys in captions.values()],
    }
    kinds = kinds_of(rewrites.values())
    found = {key: _lengths(rewrite, kinds) for key, rewrite in rewrites.items()}
    names = next(iter(found.values()))
    lists = {
        name: [_share([found[key][name] if key in found else 0 for key in keys]) for keys in captions.values()]
        for name in names
    }
    return {"splits": list(groups), "sizes": sizes, "lists": lists}


def _lengths(rewrite: Rewrite, kinds: Sequence[str]) -> dict[str, int]:
    graph, _ = read_graph(rewrite.graph)
    negatives = Counter(negative.kind for negative in rewrite.negatives)
    return {
        "objects": len(graph.objects),
        "attributes": len(graph.attributes),
        "relations": len(graph.relations),
        "paraphrases": len(rewrite.positives),
        **{f"{kind} negatives": negatives[kind] for kind in kinds},
        "similar sentences": len(rewrite.similar_texts),
        "similar images": len(rewrite.similar_images),
    }


def _share(numbers: Sequence[int]) -> tuple[int, float, float]:
    some, total = sum(n > 0 for n in numbers), max(1, len(numbers))
    return some, some / total, sum(numbers) / total


def manifests(outputs: Iterable[Path]) -> Iterator[tuple[Path, str | None, dict[str, str]]]:
    """(file, stage, facts) of the manifest of each output and of what it was made from; stage None: it has none."""
    todo, seen = list(outputs), set()
    while todo:
        output = todo.pop(0)
        path = _manifest_of(output)
        if (path or output) in seen:
            continue
        seen.add(path or output)
        if path is None:
            yield output, None, {}
            continue
        try:
            manifest = read_json(path)
            stage = str(manifest.get("stage", "demo"))  # that of an earlier version's demo set names none
            facts = {key: plain(manifest[key]) for key in _FACTS if manifest.get(key)}
            todo += map(Path, manifest.get("inputs", {}))
        except (DataError, TypeError, AttributeError) as error:
            stage, facts = "damaged", {"problem": str(error)}
        yield path, stage, facts


def _manifest_of(output: Path) -> Path | None:
    """A stage writes it beside or into its output, and names it as input; the demo set has one for its folder."""
    own = output if output.name == "manifest.json" else beside(output, "manifest.json")
    if own.is_file():
        return own
    folder = output.with_name("manifest.json")
    try:
        return folder if output.name in read_json(folder).get("sha256", ()) else None
    except (DataError, TypeError):
        return None


def plain(value: Any) -> str:
    """A manifest's value as text; empty parts are left out, and most of a hash."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items() if part not in ({}, []))
    if isinstance(value, list):
        return "; ".join(map(plain, value))
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if re.fullmatch("[0-9a-f]{64}", text) else text
