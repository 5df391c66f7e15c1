"""What is learnt from a corpus before any caption of it is rewritten, in memory or as a folder that workers map.

    index.json              format, version, lines of the vocabulary, size and arrays of each safetensors file
    vocabulary.jsonl        {"kind", "class", "texts", "lemmas", "phrases", "cumulative"}: a line a kind and class
    SPLIT.captions.jsonl    [caption id, image id, text, words, [[part of speech, lemma], ...]]: a line a caption
    SPLIT.graphs.jsonl      its scene graph
    SPLIT.safetensors       where the lines end, the number of each caption's image, TF-IDF by caption and by word

A worker that rewrites a part reads the vocabulary, and of the rest what it looks at. The files are a function of the
pairs and of the versions of what parses and counts.
"""

import json
import mmap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_matrix

from data_prep.near_duplicates import normalise
from data_prep.rewrite.graphs import Graph
from data_prep.rewrite.similar import Candidates, Caption, content, vectorizer
from data_prep.rewrite.swaps import Entries, Vocabulary, count
from unimo.errors import DataError
from unimo.readers.annotations import Pair, write_jsonl
from unimo.readers.captions import Captions
from unimo.storage.atomic import atomic_write
from unimo.storage.cache import sha256
from unimo.storage.mapped_shards import Layout, MappedShard, read_index, write_index
from unimo.storage.safetensors_writer import write_safetensors_to

T = TypeVar("T")
FORMAT, VERSION = "unimo-rewrite-index", 1
HINT = "`rewrite fit` writes one"
AGAIN = "run `rewrite fit` again"


class Lines(Sequence[T]):
    """Lines of a JSON file by number, from a memory map; each is parsed when it is asked for.

    Args:
        ends: [lines] int64, where in the file each ends.
        make: what its JSON becomes.

    Raises:
        DataError: the file is missing or cut short; when a line is asked for, that it is damaged.
    """

    def __init__(self, file: Path, ends: np.ndarray, make: Callable[[Any], T]):
        self._file, self._ends, self._make = file, ends, make
        try:
            with open(file, "rb") as opened:
                self._bytes = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: it is empty
            raise DataError(f"cannot read {file}: {error}; {AGAIN}") from error
        if len(self._bytes) != ends[-1]:
            raise DataError(f"{file} has {len(self._bytes):,} bytes, the index says {ends[-1]:,}; {AGAIN}")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: Any) -> Any:
        start = self._ends[number - 1] if number else 0
        try:
            return self._make(json.loads(self._bytes[start : self._ends[number]]))
        except (ValueError, TypeError) as error:
            raise DataError(f"{self._file}: line {number + 1} is damaged ({error}); {AGAIN}") from error


@dataclass(frozen=True)
class Split:
    """The captions of one split: what similar ones are looked for among, and their graphs."""

    candidates: Candidates
    graphs: Sequence[Graph]


@dataclass(frozen=True)
class Index:
    """What is learnt from the corpus, and its captions by split."""

    vocabulary: Vocabulary
    splits: dict[str, Split]
    places: dict[str, int]  # image id -> number of its first caption in its split

    @classmethod
    def fit(cls, pairs: Sequence[Pair], graphs: dict[str, Graph]) -> "Index":
        """Count vocabularies and document frequencies over the training captions; index the captions of every split.

        Args:
            graphs: caption -> graph, of all captions.

        Raises:
            DataError: the training captions hold no content word.
        """
        names = dict.fromkeys(pair.split for pair in pairs)
        found = {name: Captions.of([pair for pair in pairs if pair.split == name]) for name in names}
        training = found["train"].texts
        words = vectorizer(training)
        splits: dict[str, Split] = {}
        for name, own in found.items():
            named = zip(own.ids, own.image_ids, own.texts)
            captions = [Caption(*one, normalise(one[-1]), content(graphs[one[-1]])) for one in named]
            rows = words.transform(own.texts)
            candidates = Candidates(captions, own.rows, rows, rows.T.tocsr())
            splits[name] = Split(candidates, [graphs[text] for text in own.texts])
        return cls(count(graphs[caption] for caption in training), splits, _places(pairs))

    def save(self, folder: Path) -> list[str]:
        """Write the files into a folder that exists, each atomically, index.json last; returns their names."""
        entries = ({"kind": kind, "class": name, **asdict(e)} for (kind, name), e in self.vocabulary.items())
        write_jsonl(folder / "vocabulary.jsonl", entries)
        files, splits = ["vocabulary.jsonl"], {}
        for name, split in self.splits.items():
            own = split.candidates
            arrays = {"images": own.images} | _parts("rows", own.rows) | _parts("postings", own.postings)
            for kind, values in (("captions", own.captions), ("graphs", split.graphs)):
                files.append(f"{name}.{kind}.jsonl")
                arrays[f"{kind}.ends"] = _write_lines(folder / files[-1], values)
            arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))  # so that each is aligned
            layout = {key: (array.dtype.name, list(array.shape)) for key, array in arrays.items()}
            files.append(f"{name}.safetensors")
            with atomic_write(folder / files[-1]) as file:
                write_safetensors_to(file, layout, arrays.values())
                size = file.tell()
            splits[name] = {"bytes": size, "sha256": sha256(folder / files[-1]), "arrays": layout}
        header = {"format": FORMAT, "version": VERSION, "vocabulary": len(self.vocabulary), "splits": splits}
        write_index(folder, header)
        return [*files, "index.json"]

    @classmethod
    def load(cls, folder: Path, pairs: Sequence[Pair]) -> "Index":
        """Map what `save` wrote for these pairs. Raises DataError where it is missing, damaged or newer."""
        header = read_header(folder)
        vocabulary = {}
        try:
            for line in (folder / "vocabulary.jsonl").read_bytes().splitlines():
                values = json.loads(line)
                key = values.pop("kind"), values.pop("class")
                vocabulary[key] = Entries(**values)
            if len(vocabulary) != header["vocabulary"]:
                raise ValueError(f"vocabulary.jsonl has {len(vocabulary)} lines of {header['vocabulary']}")
            files = {
                name: MappedShard(folder / f"{name}.safetensors", split, _layout(split["arrays"]), AGAIN).arrays()
                for name, split in header["splits"].items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{folder} is damaged ({error!r}); {AGAIN}") from error
        splits = {}
        for name, arrays in files.items():
            captions = Lines(folder / f"{name}.captions.jsonl", arrays["captions.ends"], lambda one: Caption(*one))
            graphs: Lines[Graph] = Lines(folder / f"{name}.graphs.jsonl", arrays["graphs.ends"], dict)
            rows, postings = _matrix(arrays, "rows", "postings"), _matrix(arrays, "postings", "rows")
            splits[name] = Split(Candidates(captions, arrays["images"], rows, postings), graphs)
        return cls(vocabulary, splits, _places(pairs))


def read_header(folder: Path) -> dict[str, Any]:
    """The index.json of an index. Raises DataError where it is missing, foreign, damaged or newer."""
    return read_index(folder, "an index of rewriting", FORMAT, VERSION, {"vocabulary": int, "splits": dict}, HINT)


def _places(pairs: Sequence[Pair]) -> dict[str, int]:
    """Image id -> how many captions of its split come before its own."""
    before: Counter[str] = Counter()
    places = {}
    for pair in pairs:
        places[pair.image_id] = before[pair.split]
        before[pair.split] += len(pair.captions)
    return places


def _layout(arrays: dict[str, list[Any]]) -> Layout:
    return {name: (np.dtype(dtype).type, tuple(shape)) for name, (dtype, shape) in arrays.items()}


def _write_lines(path: Path, values: Iterable[Any]) -> np.ndarray:
    """A line of JSON a value; returns where each ends. [values] int64"""
    sizes = []
    with atomic_write(path) as file:
        for value in values:
            sizes.append(file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"))
    return np.cumsum(sizes, dtype=np.int64)


def _parts(name: str, matrix: csr_matrix) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}


def _matrix(arrays: Mapping[str, np.ndarray], name: str, other: str) -> csr_matrix:
    """Views of the arrays as a matrix; `other` is the name of its transpose."""
    shape = tuple(len(arrays[f"{one}.indptr"]) - 1 for one in (name, other))
    return csr_matrix(tuple(arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr")), shape, copy=False)
