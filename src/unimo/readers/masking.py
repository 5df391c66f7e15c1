"""What pre-training hides: spans of words, fragments of a text, regions with their neighbours. All pure functions of
their arguments and of the generator that they are given.

Shares and lengths are those of UNIMO section 3 and of the pre-training remains in the UNIMO-2 release's batching file;
a comment marks what neither states.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unimo.readers.tokenizer import Tokenizer

# Distribution function of SpanBERT's lengths 1..10, in words: geometric with p = .2, renormalised
SPAN_LENGTH_CDF = np.cumsum(0.2 * 0.8 ** np.arange(10)) / (1 - 0.8**10)
FRAGMENT_BUDGET = 0.25
SHORT_FRAGMENTS, LONG_FRAGMENTS = (1, 4), (4, 32)  # words, both ends included
SHORT_SHARE = 0.4  # of the texts that are long enough for either
LONG_CONTEXT = 12  # words that the source keeps at the least beside long fragments


@dataclass(frozen=True)
class MaskedText:
    """Input of word prediction: `labels[k]` is the word that stood at `positions[k]`."""

    ids: np.ndarray  # [n] int64
    positions: np.ndarray  # [m] int64, ascending
    labels: np.ndarray  # [m] int64


@dataclass(frozen=True)
class Seq2SeqText:
    """Source and target in one sequence; `labels[k]` is predicted from the state at `predict_at[k]`."""

    ids: np.ndarray  # [n] int64: [CLS] source [SEP] [CLS] target [MASK]
    positions: np.ndarray  # [n] int64, from 2 in the source and again in the target
    source_length: int  # with its [CLS] and [SEP]
    predict_at: np.ndarray  # [m] int64
    labels: np.ndarray  # [m] int64: the target and its end token, which is [MASK]


def mask_spans(ids: Sequence[int], tokenizer: Tokenizer, rng: np.random.Generator, ratio: float = 0.15) -> MaskedText:
    """Hide `ratio` of the ordinary tokens as spans of whole words, at least one word when there is any.

    80 % of the spans become [MASK], 10 % random words, 10 % stay. The choice is made once a span, as in SpanBERT: if
    single tokens stayed visible they would give the rest of their word away.
    """
    original = np.asarray(ids, np.int64)
    words = _words(original, tokenizer)
    hidden, masked = [], original.copy()
    tokens = sum(end - start for start, end in words)
    for span in _choose(words, _amount(tokens, ratio, rng), lambda: _span_length(rng), rng):
        where = np.concatenate([np.arange(*words[k]) for k in span])
        kind = rng.random()
        if kind < 0.8:
            masked[where] = tokenizer.mask_id
        elif kind < 0.9:
            masked[where] = rng.choice(tokenizer.ordinary_ids, len(where))
        hidden.append(where)
    positions = np.sort(np.concatenate(hidden)) if hidden else np.zeros(0, np.int64)
    return MaskedText(masked, positions, original[positions])


def seq2seq_fragments(ids: Sequence[int], tokenizer: Tokenizer, rng: np.random.Generator) -> Seq2SeqText:
    """Take fragments of whole words out until a quarter of the text is gone; the rest is to predict them, in order.

    Special tokens of `ids` are left out first. Fragments are short in 40 % of the texts, else long; ours: a text too
    short for a long fragment beside its context gets short ones.
    """
    original = np.asarray(ids, np.int64)
    words = _words(original, tokenizer)
    long = len(words) >= LONG_FRAGMENTS[0] + LONG_CONTEXT and rng.random() >= SHORT_SHARE
    low, high = LONG_FRAGMENTS if long else SHORT_FRAGMENTS
    tokens = sum(end - start for start, end in words)
    amount = _amount(tokens, FRAGMENT_BUDGET, rng)
    taken = {k for span in _choose(words, amount, lambda: int(rng.integers(low, high + 1)), rng) for k in span}
    source: list[int] = []
    target: list[int] = []
    for k, (start, end) in enumerate(words):
        (target if k in taken else source).extend(original[start:end].tolist())
    return seq2seq_text(source, target, tokenizer)


def seq2seq_text(source: Sequence[int], target: Sequence[int], tokenizer: Tokenizer) -> Seq2SeqText:
    """The release's training sequence of one source segment and one target, each without special tokens."""
    first = [tokenizer.cls_id, *source, tokenizer.sep_id]
    second = [tokenizer.cls_id, *target, tokenizer.mask_id]
    positions = np.concatenate([np.arange(2, 2 + len(first)), np.arange(2, 2 + len(second))])
    predict_at = np.arange(len(first), len(first) + len(second) - 1)
    return Seq2SeqText(
        np.array(first + second, np.int64), positions, len(first), predict_at, np.array(second[1:], np.int64)
    )


def mask_regions(boxes: np.ndarray, rng: np.random.Generator, ratio: float = 0.15, overlap: float = 0.4) -> np.ndarray:
    """[n] bool: `ratio` of the regions, at least one, and with each the neighbours that would give it away.

    A neighbour is a region whose intersection over union with a chosen one is above `overlap`. The release's json has
    the number but not the measure; ours is that of 12-in-1 (Lu et al. 2020), which masks neighbours above .4 as well.

    Args:
        boxes: [n, 4] x1, y1, x2, y2 in any unit; slot 0 of the model's input is not among them and is never masked.
    """
    chosen = rng.permutation(len(boxes))[: _amount(len(boxes), ratio, rng)]
    masked = np.any(iou(boxes[chosen], boxes) > overlap, axis=0)
    masked[chosen] = True
    return masked


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of each box of `a` with each of `b`; 0 where both are empty. [n, 4], [m, 4] -> [n, m]"""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    union = area_a[:, None] + area_b[None] - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _span_length(rng: np.random.Generator) -> int:
    return 1 + int(np.searchsorted(SPAN_LENGTH_CDF, rng.random()))


def _amount(total: int, ratio: float, rng: np.random.Generator) -> int:
    """`ratio` of `total`, rounded up or down at random so that the mean is exact; at least 1 of a positive total."""
    return max(min(total, 1), int(total * ratio + rng.random()))


def _words(ids: np.ndarray, tokenizer: Tokenizer) -> list[tuple[int, int]]:
    """First and past-the-end position of each word, without special tokens."""
    starts = np.flatnonzero(tokenizer.word_starts(ids))
    ends = np.append(starts[1:], len(ids))
    ordinary = ~tokenizer.is_special[ids[starts]]
    return list(zip(starts[ordinary].tolist(), ends[ordinary].tolist(), strict=True))


def _choose(
    words: list[tuple[int, int]], amount: int, draw_length: Callable[[], int], rng: np.random.Generator
) -> list[list[int]]:
    """Spans of neighbouring words at random places until they cover `amount` tokens; the last word may overshoot."""
    free, left, spans = np.ones(len(words), bool), amount, []
    while left > 0:
        candidates = np.flatnonzero(free)
        start = candidates[rng.integers(len(candidates))]
        span: list[int] = []
        for k in range(start, min(start + draw_length(), len(words))):
            broken = span and words[k][0] != words[k - 1][1]  # a special token lies between
            if not free[k] or broken or left <= 0:
                break
            free[k] = False
            left -= words[k][1] - words[k][0]
            span.append(k)
        spans.append(span)
    return spans
