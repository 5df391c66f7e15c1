"""How close two sentences are in meaning: cosine of MiniLM's sentence vectors (Reimers and Gurevych 2019)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle

from data_prep.packages import Package
from data_prep.weights import minilm
from unimo.models.unimo import Text, Unimo
from unimo.port.bert import init_from_bert, read
from unimo.port.checkpoint import Options
from unimo.readers.captions import caption_ids, collate_text
from unimo.readers.tokenizer import load_tokenizer

MAX_TOKENS = 128  # as all-MiniLM-L6-v2 was trained; a longer sentence loses its end
BATCH = 64


class SentenceEncoder:
    """all-MiniLM-L6-v2. Raises DataError where its package cannot be had."""

    def __init__(self, cache: Path | None = None):
        self.package: Package
        folder, self.package = minilm(cache)
        with paddle.utils.unique_name.guard():
            self.model = Unimo(read(folder, Options(system="unimo")).config)
        init_from_bert(self.model, folder)
        self.model.eval()
        self.tokenizer = load_tokenizer(folder)

    @paddle.no_grad()
    def __call__(self, sentences: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, mean of the token states. [n, 384] float32"""
        ids = [caption_ids(self.tokenizer, sentence, MAX_TOKENS) for sentence in sentences]
        vectors = np.zeros((len(ids), self.model.config.hidden_size), np.float32)
        by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for first in range(0, len(ids), BATCH):
            rows = by_length[first : first + BATCH]
            arrays = collate_text([ids[i] for i in rows], self.tokenizer.pad_id)
            text = Text(**{name: paddle.to_tensor(array) for name, array in arrays.items()})
            mask = text.mask.unsqueeze(2)  # (B, S, 1)
            mean = (self.model(text=text).text * mask).sum(1) / mask.sum(1)
            vectors[rows] = (mean / mean.norm(axis=1, keepdim=True)).numpy()
        return vectors

    def likeness(self, sentences: Sequence[str], others: Sequence[str]) -> np.ndarray:
        """Cosine of each sentence with its counterpart. [n] float32"""
        return (self(sentences) * self(others)).sum(1)
