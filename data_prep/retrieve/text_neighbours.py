"""Similar sentences: BM25 (bm25s), each score as a share of what the caption itself would get."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import bm25s
import numpy as np

from data_prep.near_duplicates import words
from unimo.errors import DataError
from unimo.readers.annotations import write_jsonl


@dataclass(frozen=True)
class Text:
    """A sentence that can be retrieved: of the corpus, or a training caption (then `image_id` names its picture)."""

    id: str
    text: str
    source: str
    image_id: str | None = None


class TextIndex:
    """BM25 over sentences (Lucene's form, k1 = 1.5, b = 0.75; lower case, English stop words left out)."""

    def __init__(self, texts: Sequence[Text], engine: bm25s.BM25 | None):
        self.texts, self.engine = texts, engine
        self.words = [words(text.text) for text in texts]
        if engine is not None:
            seen = np.diff(engine.scores["indptr"])  # documents of each word
            count = len(texts)
            self.rarity = np.log1p((count - seen + 0.5) / (seen + 0.5))
            self.unseen = float(np.log1p((count + 0.5) / 0.5))

    @classmethod
    def fit(cls, texts: Sequence[Text]) -> "TextIndex":
        """Without a single word in all texts there is no engine, and nothing is found."""
        tokens = _tokens([text.text for text in texts])
        if not any(tokens):
            return cls(texts, None)
        vocabulary: dict[str, int] = {}  # in order of use; the library's own is in that of a set, by chance
        ids = [[vocabulary.setdefault(token, len(vocabulary)) for token in row] for row in tokens]
        engine = bm25s.BM25()
        engine.index((ids, vocabulary), show_progress=False)
        return cls(texts, engine)

    def save(self, folder: Path) -> None:
        """Write the sentences and the engine's arrays."""
        write_jsonl(folder / "texts.jsonl", map(asdict, self.texts))
        if self.engine is not None:
            self.engine.save(folder / "bm25")

    @classmethod
    def load(cls, folder: Path) -> "TextIndex":
        """What `save` wrote. Raises DataError where it is damaged."""
        try:
            with open(folder / "texts.jsonl", encoding="utf-8") as file:
                texts = [Text(**json.loads(line)) for line in file]
            engine = bm25s.BM25.load(folder / "bm25") if (folder / "bm25").is_dir() else None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{folder} is damaged ({error}); run `retrieve fit` again") from error
        return cls(texts, engine)

    def search(self, captions: Sequence[str], count: int) -> Iterator[list[tuple[int, float]]]:
        """For each caption up to `count` places in `texts` with their likeness, best first.

        Likeness is the BM25 score divided by that of a text of average length with the caption's words: about 1 where
        all words are there, and comparable between captions. Repeatable whatever else is searched for.
        """
        tokens = _tokens(captions)
        engine = self.engine
        known = [[t for t in row if engine and t in engine.vocab_dict] for row in tokens]
        asked = [i for i, row in enumerate(known) if row]
        found: list[list[tuple[int, float]]] = [[] for _ in captions]
        if engine and asked and count:
            k = min(count, len(self.texts))
            places, scores = engine.retrieve([known[i] for i in asked], k=k, show_progress=False)
            for i, row, row_scores in zip(asked, places, scores):
                best = self._own(engine, tokens[i])
                shares = [(int(p), round(float(s) / best, 4)) for p, s in zip(row, row_scores) if s > 0]
                found[i] = sorted(shares, key=lambda hit: (-hit[1], hit[0]))
        yield from found

    def _own(self, engine: bm25s.BM25, tokens: list[str]) -> float:
        """BM25 of a text of average length that has each word of the caption once: sum of idf / (1 + k1)."""
        places = [engine.vocab_dict.get(token) for token in tokens]
        total = sum(self.unseen if place is None else float(self.rarity[place]) for place in places)
        return total / (1 + engine.k1)


def _tokens(texts: Sequence[str]) -> list[list[str]]:
    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
