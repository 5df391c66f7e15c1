from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unimo.readers.masking import iou, mask_regions, mask_spans, seq2seq_fragments, seq2seq_text
from unimo.readers.tokenizer import load_tokenizer

TOKENIZER = load_tokenizer(Path(__file__).parents[1] / "fixtures" / "bpe")
WORDS = ["a", "man", "riding", "horse", "umbrella", "elephants,", "of", "lighthouse.", "zebra", "playing", "2012"]
SEEDS = st.integers(0, 2**32)
TEXTS = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)


def with_specials(*texts: str) -> list[int]:
    """[CLS] a [SEP] b [SEP] ..."""
    ids = [TOKENIZER.cls_id]
    for text in texts:
        ids += [*TOKENIZER.encode(text), TOKENIZER.sep_id]
    return ids


def words_of(ids: np.ndarray) -> list[set[int]]:
    """Positions of each word."""
    starts = TOKENIZER.word_starts(ids)
    groups = np.split(np.arange(len(ids)), np.flatnonzero(starts)[1:])
    return [set(g.tolist()) for g in groups]


@settings(deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3), seed=SEEDS)
def test_masked_spans_are_whole_ordinary_words(texts: list[str], seed: int):
    ids = np.array(with_specials(*texts))
    masked = mask_spans(ids, TOKENIZER, np.random.default_rng(seed))
    hidden = set(masked.positions.tolist())
    assert masked.positions.tolist() == sorted(hidden)
    assert not TOKENIZER.is_special[ids[masked.positions]].any()
    assert all(word <= hidden or not word & hidden for word in words_of(ids))
    np.testing.assert_array_equal(masked.labels, ids[masked.positions])
    visible = np.setdiff1d(np.arange(len(ids)), masked.positions)
    np.testing.assert_array_equal(masked.ids[visible], ids[visible])
    ordinary = ~TOKENIZER.is_special[ids]
    assert len(hidden) >= min(1, ordinary.sum())
    # the amount is rounded up at most, and the last word may overshoot
    assert len(hidden) <= 0.15 * ordinary.sum() + 1 + max(map(len, words_of(ids)))
    again = mask_spans(ids, TOKENIZER, np.random.default_rng(seed))
    np.testing.assert_array_equal(again.ids, masked.ids)


def test_masked_share_and_replacements_on_average():
    ids = np.array(with_specials(" ".join(WORDS * 30)))
    total = masks = kept = hidden = 0
    for seed in range(400):
        masked = mask_spans(ids, TOKENIZER, np.random.default_rng(seed), ratio=0.15)
        now = masked.ids[masked.positions]
        total, hidden = total + (~TOKENIZER.is_special[ids]).sum(), hidden + len(now)
        masks, kept = masks + (now == TOKENIZER.mask_id).sum(), kept + (now == masked.labels).sum()
        assert not TOKENIZER.is_special[now[now != TOKENIZER.mask_id]].any()
    assert 0.145 < hidden / total < 0.165
    assert masks / hidden == pytest.approx(0.8, abs=0.02)
    assert kept / hidden == pytest.approx(0.1, abs=0.02)


def test_span_lengths_are_geometric_up_to_ten_words():
    ids = np.array(TOKENIZER.encode(" a" * 4000))  # one token a word
    lengths = []
    for seed in range(40):
        positions = mask_spans(ids, TOKENIZER, np.random.default_rng(seed), ratio=0.02).positions
        lengths += [len(run) for run in np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1)]
    expected = 0.2 * 0.8 ** np.arange(10) / (1 - 0.8**10)
    observed = np.bincount(lengths, minlength=11)[1:11] / len(lengths)
    np.testing.assert_allclose(observed, expected, atol=0.035)


@settings(deadline=None)
@given(text=TEXTS, seed=SEEDS)
def test_fragments_split_a_text_into_source_and_target(text: str, seed: int):
    ids = np.array(TOKENIZER.encode(text), np.int64)
    cut = seq2seq_fragments(with_specials(text), TOKENIZER, np.random.default_rng(seed))
    source, target = cut.ids[1 : cut.source_length - 1], cut.labels[:-1]
    words = [tuple(ids[sorted(w)]) for w in words_of(ids)] if len(ids) else []
    assert split_in_two(words, tuple(source), tuple(target))
    assert len(target) >= min(1, len(ids))
    assert len(target) <= 0.25 * len(ids) + 1 + max(map(len, words), default=0)
    assert cut.ids[0] == cut.ids[cut.source_length] == TOKENIZER.cls_id
    assert cut.ids[cut.source_length - 1] == TOKENIZER.sep_id
    assert cut.ids[-1] == cut.labels[-1] == TOKENIZER.mask_id
    np.testing.assert_array_equal(cut.labels, cut.ids[cut.predict_at + 1])


def split_in_two(words: list[tuple], first: tuple, second: tuple) -> bool:
    """Whether each word went, in order, either to the first or to the second sequence, and nothing else did."""
    reached = {(0, 0)}
    for word in words:
        n = len(word)
        reached = {(i + n, j) for i, j in reached if first[i : i + n] == word} | {
            (i, j + n) for i, j in reached if second[j : j + n] == word
        }
    return (len(first), len(second)) in reached


def test_fragments_take_a_quarter():
    ids = TOKENIZER.encode(" ".join(WORDS * 20))
    shares = [len(seq2seq_fragments(ids, TOKENIZER, np.random.default_rng(s)).labels) - 1 for s in range(300)]
    assert 0.24 < np.mean(shares) / len(ids) < 0.27


def test_seq2seq_text_is_the_worked_example_of_the_release():
    """Spec of the release's reader: source 133 313 16, target 10 313."""
    text = seq2seq_text([133, 313, 16], [10, 313], TOKENIZER)
    end = TOKENIZER.mask_id
    assert text.ids.tolist() == [0, 133, 313, 16, 2, 0, 10, 313, end]
    assert text.positions.tolist() == [2, 3, 4, 5, 6, 2, 3, 4, 5]
    assert (text.source_length, text.labels.tolist(), text.predict_at.tolist()) == (5, [10, 313, end], [5, 6, 7])


BOXES = st.lists(st.tuples(*[st.integers(0, 30)] * 4), max_size=20).map(
    lambda corners: np.array([[x, y, x + w, y + h] for x, y, w, h in corners], np.float32).reshape(-1, 4)
)


@settings(deadline=None)
@given(boxes=BOXES, seed=SEEDS, overlap=st.sampled_from([0.3, 0.4]))
def test_masked_regions_take_their_neighbours_along(boxes: np.ndarray, seed: int, overlap: float):
    masked = mask_regions(boxes, np.random.default_rng(seed), overlap=overlap)
    assert masked.shape == (len(boxes),) and masked.dtype == bool
    assert masked.any() == (len(boxes) > 0)
    alone = mask_regions(boxes, np.random.default_rng(seed), overlap=1.0)  # the same draw without neighbours
    assert 1 <= alone.sum() <= max(1, np.ceil(0.15 * len(boxes))) or not len(boxes)
    neighbours = (iou(boxes, boxes[alone]) > overlap).any(axis=1)
    np.testing.assert_array_equal(masked, alone | neighbours)


def test_share_of_masked_regions():
    apart = np.array([[10 * i, 0, 10 * i + 5, 5] for i in range(30)], np.float32)
    shares = [mask_regions(apart, np.random.default_rng(s)).mean() for s in range(500)]
    assert np.mean(shares) == pytest.approx(0.15, abs=0.003)


def test_iou_by_hand():
    a = np.array([[0, 0, 4, 4], [1, 1, 1, 1]], np.float32)
    b = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 8, 8], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(iou(a, b), [[1, 1 / 3, 0, 0], [0, 0, 0, 0]], rtol=1e-6)
